"""containerd and a shim under load: many containers and many execs at once, by containerd's own API; every exit has to be reported
once, in order and with its code, and nothing may be left or have grown. ENGINES_COUNT= how many of each (10,000 is the real thing)."""
import collections
import itertools
import json
import os
import queue
import threading
import time

import containerd_engine
from containerd_engine import Engine, nothing_but
from shim_wire import PROCESS, fields, message
from steps import SLOW, Suite, equal, sh, until
from tested import Tested

COUNT = int(os.environ.get("ENGINES_COUNT") or 300)
ATONCE = int(os.environ.get("ENGINES_ATONCE") or 24)
SPEC = PROCESS.removesuffix("Process") + "Spec"
ROOT = "/tmp/stress-root"
suite = Suite("stress")
step = suite.step
numbers = itertools.count(1)


class Containerd:
    """containerd's services by gRPC, and all of its events of one namespace in the order of their coming."""

    def __init__(self, namespace):
        import grpc  # from integration/lab/parts.sh
        self.grpc, self.metadata = grpc, [("containerd-namespace", namespace)]
        self.channel = grpc.insecure_channel("unix:///run/containerd/containerd.sock")
        self.seen, self.lock = collections.defaultdict(list), threading.Lock()
        self.stream = self.channel.unary_stream("/containerd.services.events.v1.Events/Subscribe")(
            message(f1=f"namespace=={namespace}"), metadata=self.metadata)
        threading.Thread(target=self.listen, daemon=True).start()
        # an event that we cause ourselves shows that the subscription holds
        while not self.seen["probe"]:
            self.call("events.v1.Events/Publish", message(f1="/probe/probe", f2=message(f1="types.containerd.io/probe", f2=message(f1="probe"))))
            time.sleep(0.05)

    def call(self, method, request):
        answer = self.channel.unary_unary(f"/containerd.services.{method}")(request, metadata=self.metadata, timeout=120 * SLOW)
        return fields(answer)

    def listen(self):
        try:
            for envelope in self.stream:
                parts = fields(envelope)
                (_, kind, topic), event = parts[3][0].decode().split("/"), fields(fields(parts[4][0])[2][0])
                if kind != "containers":
                    with self.lock:
                        self.seen[event[1][0].decode()].append((topic, event))
        except self.grpc.RpcError:
            pass  # the end of the test

    def close(self):
        self.stream.cancel()
        self.channel.close()

    def create(self, name, args, group=None):
        spec = {**BASE, "annotations": {"io.containerd.runc.v2.group": group} if group else {},
                "process": {**BASE["process"], "args": args}, "linux": {**BASE["linux"], "cgroupsPath": f"/default/{name}"}}
        container = message(f1=name, f4=message(f1=Engine.tested.runtime_type), f5=message(f1=SPEC, f2=json.dumps(spec)))
        self.call("containers.v1.Containers/Create", message(f1=container))
        self.call("tasks.v1.Tasks/Create", message(f1=name))
        self.call("tasks.v1.Tasks/Start", message(f1=name))

    def wait(self, name, exec_id=""):
        status = self.call("tasks.v1.Tasks/Wait", message(f1=name, f2=exec_id))[1]
        return status[0] if status else 0

    def remove(self, name):
        status = self.call("tasks.v1.Tasks/Delete", message(f1=name))[3]
        self.call("containers.v1.Containers/Delete", message(f1=name))
        return status[0] if status else 0

    def execute(self, name, exec_id, args):
        process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        self.call("tasks.v1.Tasks/Exec", message(f1=name, f6=message(f1=PROCESS, f2=json.dumps(process)), f7=exec_id))
        self.call("tasks.v1.Tasks/Start", message(f1=name, f2=exec_id))
        code = self.wait(name, exec_id)
        self.call("tasks.v1.Tasks/DeleteProcess", message(f1=name, f2=exec_id))
        return code


BASE = {}


def prepare():
    """A root file system of busybox and the specification of runc."""
    os.makedirs(f"{ROOT}/bin", exist_ok=True)
    for name in ("proc", "sys", "dev", "tmp"):
        os.makedirs(f"{ROOT}/{name}", exist_ok=True)
    sh("cp", "/bin/busybox", f"{ROOT}/bin/busybox")
    for name in ("sh", "sleep", "true"):
        if not os.path.lexists(f"{ROOT}/bin/{name}"):
            os.symlink("busybox", f"{ROOT}/bin/{name}")
    sh("rm", "-f", "/tmp/config.json")
    sh("runc", "spec", "-b", "/tmp")
    with open("/tmp/config.json") as file:
        BASE.update(json.load(file))
    BASE["process"].update(terminal=False, env=["PATH=/bin"])
    BASE["root"] = {"path": ROOT, "readonly": True}


def at_once(count, work):
    """work(0) to work(count - 1), some of them at once; the first failure ends it."""
    jobs, failures = queue.SimpleQueue(), []
    for number in range(count):
        jobs.put(number)

    def worker():
        while not failures:
            try:
                work(jobs.get_nowait())
            except queue.Empty:
                return
            except Exception as error:  # reported below
                failures.append(error)

    workers = [threading.Thread(target=worker) for _ in range(ATONCE)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    if failures:
        raise failures[0]


def code_of(event):
    return event[4][0] if event[4] else 0


def pids():
    """The pids of shims."""
    return sorted(sh("pgrep", "-f", f"{Engine.tested.shim}.*-namespace stress", rc=None).split())


def shims():
    """What each shim holds: descriptors, kB of its own, threads. The program's file does not count: how much of it is mapped, and whether
    other processes map it too, is the kernel's choice."""
    found = {}
    for pid in pids():
        with open(f"/proc/{pid}/smaps_rollup") as file:
            own = next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))
        found[pid] = len(os.listdir(f"/proc/{pid}/fd")), own, len(os.listdir(f"/proc/{pid}/task"))
    return found


def growth(before, kilobytes):
    """By how much each shim has grown, when it is at rest. There it gives memory back: on a busy machine the last events take their time."""
    for _ in range(10):
        time.sleep(3 * SLOW)
        after = shims()
        equal(sorted(after), sorted(before))
        grown = {pid: [b - a for a, b in zip(before[pid], after[pid])] for pid in before}
        if all(descriptors <= 0 and memory <= kilobytes and threads <= 0 for descriptors, memory, threads in grown.values()):
            break
    return grown


def deleted(containerd, names):
    """Waits for the last event of each container."""
    until("all events", lambda: all(any(topic == "delete" for topic, _ in containerd.seen[name]) for name in names), 60)


@step(f"{COUNT} containers that end at once: every exit once, in order, with its code")
def _():
    containerd = Containerd("stress")
    first = next(numbers)
    began = time.monotonic()

    def life(number):
        name, code = f"c{first}-{number}", number % 256
        containerd.create(name, ["true"] if code == 0 else ["sh", "-c", f"exit {code}"])
        equal(containerd.wait(name), code)
        equal(containerd.remove(name), code)

    at_once(COUNT, life)
    took = time.monotonic() - began
    names = [f"c{first}-{number}" for number in range(COUNT)]
    deleted(containerd, names)
    for number, name in enumerate(names):
        equal((name, [topic for topic, _ in containerd.seen[name]]), (name, ["create", "start", "exit", "delete"]))
        equal((name, code_of(containerd.seen[name][2][1])), (name, number % 256))
    containerd.close()
    nothing_but([])
    until("the shims are gone", lambda: not pids())
    print(f"# {COUNT / took:.0f} containers a second, {ATONCE} at once", flush=True)


@step(f"{COUNT} containers that end at once in one pod: one shim for all, every exit once, in order; it grows by nothing")
def _():
    containerd = Containerd("stress")
    pod = f"p{next(numbers)}"
    containerd.create(pod, ["sleep", "100000"], pod)

    def life(number):
        code = number % 256
        name = f"{pod}-{number}"
        containerd.create(name, ["true"] if code == 0 else ["sh", "-c", f"exit {code}"], pod)
        equal((containerd.wait(name), containerd.remove(name)), (code, code))

    at_once(50, life)
    deleted(containerd, [f"{pod}-{number}" for number in range(50)])
    before = until("one shim at rest", lambda: time.sleep(3 * SLOW) or shims())
    equal(len(before), 1)
    containerd.seen.clear()
    at_once(COUNT, life)
    [grown] = growth(before, 64).values()
    deleted(containerd, [f"{pod}-{number}" for number in range(COUNT)])
    for number in range(COUNT):
        events = containerd.seen[f"{pod}-{number}"]
        equal((number, [topic for topic, _ in events]), (number, ["create", "start", "exit", "delete"]))
        equal((number, code_of(events[2][1])), (number, number % 256))
    containerd.call("tasks.v1.Tasks/Kill", message(f1=pod, f3=9))
    equal((containerd.wait(pod), containerd.remove(pod)), (137, 137))
    containerd.close()
    until("the shim is gone", lambda: not pids())
    nothing_but([])
    print(f"# the shim grew by {grown[0]} descriptors, {grown[1]} kB, {grown[2]} threads", flush=True)
    assert Engine.tested.is_debians or (grown[0] <= 0 and grown[1] <= 64 and grown[2] <= 0), f"grown by descriptors, kB, threads: {grown}"


@step(f"{COUNT} execs in ten containers: every exit once, in order, with its code; shims grow by nothing")
def _():
    containerd = Containerd("stress")
    first = next(numbers)
    names = [f"e{first}-{number}" for number in range(10)]
    for name in names:
        containerd.create(name, ["sleep", "100000"])
    # the first of each fills what is kept for the next ones
    at_once(100, lambda number: equal(containerd.execute(names[number % 10], f"warm{number}", ["true"]), 0))
    time.sleep(3 * SLOW)
    before = shims()
    equal(len(before), 10)
    began = time.monotonic()

    def life(number):
        code = number % 256
        equal(containerd.execute(names[number % 10], f"x{number}", ["true"] if code == 0 else ["sh", "-c", f"exit {code}"]), code)

    at_once(COUNT, life)
    took = time.monotonic() - began
    grown = growth(before, 32)
    print(f"# {COUNT / took:.0f} execs a second, {ATONCE} at once; the most grown: {max(g[0] for g in grown.values())} descriptors, "
          f"{max(g[1] for g in grown.values())} kB, {max(g[2] for g in grown.values())} threads", flush=True)
    for name in names:
        containerd.call("tasks.v1.Tasks/Kill", message(f1=name, f3=9))
        equal((containerd.wait(name), containerd.remove(name)), (137, 137))
    deleted(containerd, names)
    for turn, name in enumerate(names):
        check_execs(containerd.seen[name], name, {f"x{n}": n % 256 for n in range(turn, COUNT, 10)})
    containerd.close()
    if not Engine.tested.is_debians:
        assert all(g[0] <= 0 and g[1] <= 32 and g[2] <= 0 for g in grown.values()), f"grown by descriptors, kB, threads: {grown}"


def check_execs(events, name, wanted):
    """Each exec's events: added, started, exit with its code, nothing twice; the container's own exit is the last one."""
    of_exec = collections.defaultdict(list)
    for topic, event in events:
        who = event[2][0].decode() if topic in ("exec-added", "exec-started", "exit") else name
        of_exec[who].append((topic, code_of(event) if topic == "exit" else None))
    equal([topic for topic, _ in of_exec.pop(name)], ["create", "start", "exit", "delete"])
    equal([topic for topic, _ in events][-2:], ["exit", "delete"])
    for exec_id, code in wanted.items():
        equal((exec_id, of_exec[exec_id]), (exec_id, [("exec-added", None), ("exec-started", None), ("exit", code)]))


def engine(runtime):
    Engine.tested = Tested(runtime)
    begin, stop = containerd_engine.engine(suite)

    def start():
        begin()
        prepare()
    return start, stop
