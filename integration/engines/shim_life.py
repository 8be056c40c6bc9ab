"""containerd's shim, driven by ctr: input and output, the order of events, execs, what it leaves, the forms in which it is called."""
import hashlib
import itertools
import json
import os
import signal
import subprocess
import time

import containerd_engine
import image
from containerd_engine import BUNDLES, IMAGE, Engine, Events, ctr, execute, flags, leftovers, nothing_but, pid, running, shim_pid, start_daemon, status
from steps import CGROUP2, QUICK, SLOW, Skip, Terminal, contains, equal, matches, needs_controller, needs_criu, sh, until
from shim_engine import ended, suite
from tested import Tested

step = suite.step
numbers = itertools.count(1)


def once(*argv, script="true", **options):
    """A task in the foreground whose output comes by ctr's FIFOs; it waits a moment, since ctr opens them late."""
    return ctr("run", "--rm", *flags(), *argv, IMAGE, f"fore{next(numbers)}", "sh", "-c", f"sleep 0.2; {script}", **options)


@step("-v names the program, and -info by `ctr plugins inspect-runtime` its features")
def _():
    out = sh(Engine.tested.shim, "-v", both=True)
    contains(out, "Version")
    info = json.loads(ctr("plugins", "inspect-runtime", "--runtime", Engine.tested.runtime_type))
    assert info["Name"], info
    features = info["Features"]
    contains(features["ociVersionMax"], "1.")
    assert "overlay" not in features.get("namespaces", []), "no such namespace"
    contains(" ".join(features["linux"]["namespaces"]), "pid", "mount", "network", "user")
    contains(" ".join(features["hooks"]), "prestart", "poststop")


@step("the shim by its absolute path")
def _():
    by_path = ["--runtime", f"/usr/local/bin/{Engine.tested.shim}" if Engine.tested.is_shim else f"/usr/bin/{Engine.tested.shim}"]
    out = ctr("run", "--rm", *by_path, IMAGE, "path", "sh", "-c", "sleep 0.2; echo by path; exit 4", rc=4)
    equal(out, "by path\n")
    with running(runtime=by_path) as task:
        equal(status(task), "RUNNING")


@step("foreground: stdout and stderr apart, exit status, stdin to its end")
def _():
    command = [f"{Engine.bin}/ctr", "run", "--rm", *flags(), IMAGE, "fore", "sh", "-c", "sleep 0.2; cat; echo bad >&2; exit 7"]
    fore = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # ctr tells of its stdin's end only if that comes after the task's start
    until("it runs", lambda: status("fore") == "RUNNING")
    out = fore.communicate(b"through\n", timeout=60 * SLOW)
    equal((*out, fore.returncode), (b"through\n", b"bad\n", 7))
    once(script="kill -TERM $$; sleep 5", rc=None)
    once(script="exec sh -c 'kill -9 $$; exit 3'", rc=3)  # the first process of a pid namespace is safe from itself
    text = b"x" * 3_000_000
    out = sh("sh", "-c", f"head -c 3000000 /dev/zero | tr '\\0' x | {Engine.bin}/ctr run --rm {' '.join(flags())} {IMAGE} much sha256sum")
    equal(out.split()[0], hashlib.sha256(text).hexdigest())


@step("a lot of output arrives whole")
def _():
    lines = 1_000_000 if QUICK else 120_000_000
    want = sh("sh", "-c", f"/usr/bin/busybox seq {lines} | sha256sum", timeout=240)
    seen = sh("sh", "-c", f"{Engine.bin}/ctr run --rm {' '.join(flags())} {IMAGE} talk sh -c 'sleep 0.3; seq {lines}' | sha256sum", timeout=240)
    equal(seen, want)
    with running(cmd=("sleep", "1000")) as task:
        seen = sh("sh", "-c", f"{Engine.bin}/ctr task exec --exec-id talk {task} sh -c 'sleep 0.3; seq 100000' | sha256sum")
        equal(seen, sh("sh", "-c", "/usr/bin/busybox seq 100000 | sha256sum"))


@step("--log-uri file:// appends both streams, of a task and of an exec; a file that cannot be made is named")
def _():
    log = f"/tmp/log{next(numbers)}"
    with open(log, "w") as file:
        file.write("before\n")
    ctr("run", "--rm", "--log-uri", f"file://{log}", *flags(), IMAGE, "logged", "sh", "-c", "echo out; echo err >&2; seq 100000")
    with open(log) as file:
        text = file.read()
    # the one line of stderr may come anywhere between what is read of stdout at once, which need not be a line's end
    equal(text.count("err\n"), 1)
    wanted = "before\nout\n" + "".join(f"{n}\n" for n in range(1, 100001))
    assert text.replace("err\n", "", 1) == wanted, f"{len(text) - 4} bytes, not {len(wanted)}: {text[:40]!r} … {text[-40:]!r}"
    with running() as task:
        ctr("task", "exec", "--log-uri", f"file://{log}.exec", "--exec-id", "logged", task, "echo", "from exec")
        with open(log + ".exec") as file:
            equal(file.read(), "from exec\n")
    contains(ctr("run", "--rm", "--log-uri", "file:///proc/no/such", *flags(), IMAGE, "unlogged", "true", rc=1, both=True), "/proc/no")


LOGGER = """#!/bin/sh
# writes what a logger is given: its environment, its arguments, both streams; the shim says by SIGTERM that there will be no more
trap '' TERM
echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*" > "$2.call"
cat <&3 > "$2.out" 4<&- 5>&- & cat <&4 > "$2.err" 3<&- 5>&- &
exec 3<&- 4<&- 5>&-
wait
echo ended > "$2.end"
"""


@step("--log-uri binary:// starts a logger with both streams, its arguments and the container's name")
def _():
    with open("/tmp/logger", "w") as file:
        file.write(LOGGER)
    os.chmod("/tmp/logger", 0o755)
    path = f"/tmp/binary{next(numbers)}"
    name = f"binary{next(numbers)}"
    ctr("run", "--rm", "--log-uri", f"binary:///tmp/logger?to={path}", *flags(), IMAGE, name, "sh", "-c", "seq 10000; echo err >&2")
    until("the logger ends after the last writer", lambda: os.path.exists(path + ".end"))

    def read(end):
        with open(path + end) as file:
            return file.read()
    equal(read(".call"), f"{name} default to {path}\n")
    equal(read(".out"), "".join(f"{n}\n" for n in range(1, 10001)))
    equal(read(".err"), "err\n")
    contains(ctr("run", "--rm", "--log-uri", "binary:///no/such/logger", *flags(), IMAGE, "unlogged", "true", rc=1, both=True), "/no/such/logger")


@step("container create and task start: in the foreground with stdin, output and exit status")
def _():
    name = f"manual{next(numbers)}"
    ctr("container", "create", *flags(), IMAGE, name, "sh", "-c", "read line; echo got $line; exit 12")
    task = subprocess.Popen([f"{Engine.bin}/ctr", "task", "start", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    until("it runs", lambda: status(name) == "RUNNING")
    out, _ = task.communicate(b"hello\n", timeout=60 * SLOW)
    equal((out, task.returncode), (b"got hello\n", 12))
    ctr("container", "rm", name)


@step("a detached task that has ended: ls, delete with its exit status")
def _():
    with running(cmd=("sh", "-c", "sleep 0.5; exit 13")) as name:
        until("it has stopped", lambda: status(name) == "STOPPED")
        contains(ctr("task", "ls"), name)
        contains(ctr("task", "delete", name, both=True), "exit code 13")


@step("attach: a reader that went away comes back, and an endless writer waits without filling memory")
def _():
    with running(cmd=("sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; done")) as name:
        shim = shim_pid(name)

        def resident():
            with open(f"/proc/{shim}/status") as file:
                return int(matches(file.read(), r"VmRSS:\s+(\d+)").group(1))
        before = resident()
        time.sleep(1.5)
        assert resident() - before < 4096, f"{before} kB grew to {resident()} kB"
        last = 0
        for _ in range(2):
            reader = subprocess.Popen([f"{Engine.bin}/ctr", "task", "attach", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            seen = [reader.stdout.readline() for _ in range(1000)]
            reader.kill()
            reader.wait()
            whole = [int(line.split()[1]) for line in seen[2:]]
            equal(whole, list(range(whole[0], whole[0] + len(whole))))
            assert whole[0] >= last, f"{whole[0]} came after {last}"
            last = whole[-1]


@step("a terminal: its size, a later size, Ctrl-C, output after the shell's end")
def _():
    t = Terminal(f"{Engine.bin}/ctr", "run", "--rm", "-t", *flags(), IMAGE, "term", "sh")
    t.expect("# ")
    t.follows_resizes()
    t.send("/bin/sleep 1000\r")
    until("sleep runs", lambda: sh("pgrep", "-f", "^/bin/sleep 1000", rc=None))
    t.send("\x03")
    t.expect("# ")
    t.send("echo status $?\r")
    t.expect("status 130")
    t.send("exec seq 3000\r")
    t.expect(r"\b2999\s+3000\b")
    t.end(0)


@step("exec: stdin, detached, a signal to it alone, many at once, of a task that has ended")
def _():
    with running() as task:
        command = [f"{Engine.bin}/ctr", "task", "exec", "--exec-id", "in", task, "cat", "-u"]
        inner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        until("it runs", lambda: sh("pgrep", "-f", "^cat -u", rc=None))
        equal((inner.communicate(b"to exec\n", timeout=60 * SLOW)[0], inner.returncode), (b"to exec\n", 0))
        ctr("task", "exec", "-d", "--exec-id", "long", task, "sleep", "995")
        victim = until("it runs", lambda: sh("pgrep", "-f", "^sleep 995", rc=None).strip())
        ctr("task", "kill", "--exec-id", "long", "-s", "SIGKILL", task)
        until("it is gone", lambda: not os.path.exists(f"/proc/{victim}"))
        equal(status(task), "RUNNING")
        count = 20 if QUICK else 200
        out = sh("sh", "-c", f"for i in $(seq {count}); do {Engine.bin}/ctr task exec --exec-id e$i {task} sh -c 'sleep 0.2; exit '$((i % 100)) "
                 "|| echo $i $? & [ $((i % 10)) != 0 ] || wait; done; wait", timeout=120)
        wanted = {(i, i % 100) for i in range(1, count + 1) if i % 100}
        equal({tuple(map(int, line.split())) for line in out.splitlines()}, wanted)
        ctr("task", "kill", "-s", "9", task)
        until("it has stopped", lambda: status(task) == "STOPPED")
        ctr("task", "exec", "--exec-id", "late", task, "true", rc=1)


@step("execs leave the shim as small as it was: no descriptor, no thread, no directory")
def _():
    with running() as task:
        shim = shim_pid(task)

        def size():
            return len(os.listdir(f"/proc/{shim}/fd")), len(os.listdir(f"/proc/{shim}/task")), set(os.listdir(f"{BUNDLES}/{task}"))

        def execs(first, last):
            sh("sh", "-c", f"for i in $(seq {first} {last}); do {Engine.bin}/ctr task exec --exec-id g$i {task} true || exit 1; done", timeout=200)
        execs(1, 5)
        time.sleep(0.5)
        before = size()
        execs(6, 25 if QUICK else 505)
        try:
            # on a busy machine the first ones may not have been at an end in half a second
            until("all is closed", lambda: all(now <= then for now, then in zip(size(), before)))
        except AssertionError:
            what = f"descriptors, threads, files: {before} became {size()}"
            raise Skip(f"Go's shim grows: {what}") if Engine.tested.is_debians else AssertionError(what) from None


@step("events: create, start, exit, delete, in that order with the right status, of many tasks at once")
def _():
    count = 24 if QUICK else 200
    with Events() as events:
        out = sh("sh", "-c", f"for i in $(seq {count}); do {Engine.bin}/ctr run --rm --null-io {' '.join(flags())} {IMAGE} many$i sh -c 'exit '$((i % 50)) "
                 "|| echo $i $? & [ $((i % 6)) != 0 ] || wait; done; wait", timeout=300)
        equal({tuple(map(int, line.split())) for line in out.splitlines()}, {(i, i % 50) for i in range(1, count + 1) if i % 50})
        for i in range(1, count + 1):
            equal(ended(events, f"many{i}"), ["create", "start", "exit", "delete"])
            equal({fields.get("exit_status", 0) for topic, fields in events.seen(f"many{i}") if topic in ("/tasks/exit", "/tasks/delete")}, {i % 50})


@step("events of execs: added, started, exit, and the first process's exit is the last one")
def _():
    with Events() as events:
        with running() as task:
            ctr("task", "exec", "--exec-id", "one", task, "sh", "-c", "exit 3", rc=3)
            ctr("task", "exec", "-d", "--exec-id", "two", task, "sleep", "994")
            ctr("task", "pause", task)
            ctr("task", "resume", task)
            ctr("task", "kill", "-s", "9", task)
            until("it has stopped", lambda: status(task) == "STOPPED")
        equal(ended(events, task), ["create", "start", "exec-added", "exec-started", "exit", "exec-added", "exec-started", "paused",
                                    "resumed", "exit", "exit", "delete"])
        ends = [(fields["id"], fields.get("exit_status", 0)) for topic, fields in events.seen(task) if topic == "/tasks/exit"]
        equal(ends, [("one", 3), ("two", 137), (task, 137)])


@step("a process beyond its memory: the event oom, and the status")
def _():
    needs_controller("memory")
    with Events() as events:
        with running("--memory-limit", str(16 << 20), cmd=("tail", "/dev/zero")) as task:
            until("it has stopped", lambda: status(task) == "STOPPED", 60)
            topics = events.wait(task, "exit")
            until("the event oom", lambda: "oom" in events.topics(task))
            assert topics.count("exit") == 1, topics


@step("a task that cannot start leaves no bundle, socket, mount or process")
def _():
    before = leftovers()
    with Events() as events:
        contains(ctr("run", "--rm", *flags(), IMAGE, "broken", "no-such-program", rc=1, both=True), "no-such-program")
        contains(ctr("run", "--rm", *flags(), "--mount", "type=bind,src=/no/such,dst=/x,options=rbind", IMAGE, "broken2", "true", rc=1, both=True), "/no/such")
        assert "start" not in events.topics("broken"), events.topics("broken")
    nothing_but(before)
    contains(ctr("task", "ls"), "TASK")
    assert "broken" not in ctr("task", "ls") + sh("cat", "/proc/mounts")


@step("the root file system: an overlay, a bind by the native snapshotter, a directory without mounts; unmounted with the task")
def _():
    before = leftovers()

    def mounted(name):
        with open("/proc/mounts") as file:
            return [line.split()[2] for line in file if f"/{name}/rootfs " in line]
    with running() as task:
        equal(mounted(task), ["overlay"])
    with running("--snapshotter", "native") as task:
        equal(len(mounted(task)), 1)
        assert mounted(task) != ["overlay"]
    equal(mounted(task), [])
    name = f"directory{next(numbers)}"
    equal(ctr("run", "--rm", *flags(), "--rootfs", image.ROOTFS, name, "/bin/sh", "-c", "sleep 0.2; ls -d /srv/www"), "/srv/www\n")
    contains(ctr("run", "--rm", *flags(), "--read-only", IMAGE, name, "sh", "-c", "sleep 0.2; touch /x", rc=1, both=True), "Read-only file system")
    nothing_but(before)


@step("a paused task is killed and deleted")
def _():
    with running() as task:
        ctr("task", "pause", task)
        ctr("task", "kill", "-s", "9", task)
        ctr("task", "resume", task, rc=None)
        until("it has stopped", lambda: status(task) == "STOPPED")
        contains(ctr("task", "delete", task, both=True), "exit code 137")


@step("without a pid namespace of its own the first process's end kills the others")
def _():
    with running("--with-ns", "pid:/proc/1/ns/pid", cmd=("sh", "-c", "/bin/sleep 993 & exec /bin/sleep 992")) as task:
        other = until("both run", lambda: sh("pgrep", "-f", "^/bin/sleep 993", rc=None).strip())
        ctr("task", "kill", "-s", "9", task)
        until("it has stopped", lambda: status(task) == "STOPPED")
        until("the other is gone too", lambda: not os.path.exists(f"/proc/{other}"))


COUNTING = ("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/count; sleep 0.1; done")


def count(task):
    return int(until("it has counted", lambda: ctr("task", "exec", "--exec-id", f"count{next(numbers)}", task, "cat", "/dev/shm/count", rc=None).strip()))


@step("task checkpoint saves a task that continues; container restore --live makes it again")
def _():
    needs_criu()
    with running(cmd=COUNTING) as task, Events() as events:
        until("it counts", lambda: count(task) > 3)
        before = count(task)
        ctr("container", "checkpoint", "--task", "--image", "--rw", task, "saved:1")
        equal(status(task), "RUNNING")
        assert count(task) >= before
        until("its event", lambda: Engine.tested.is_debians or "checkpointed" in events.topics(task))
        ctr("task", "rm", "-f", task)  # both have the same cgroup
        again = f"again{next(numbers)}"
        try:
            ctr("container", "restore", "--live", again, "saved:1")
            equal(status(again), "RUNNING")
            now = count(again)
            assert before <= now < before + 1000, f"it was at {before}, and is at {now}"
            until("it continues", lambda: count(again) > now)
            ctr("task", "pause", again)
            equal(status(again), "PAUSED")
            ctr("task", "resume", again)
            ctr("task", "kill", "-s", "9", again)
            until("it has stopped", lambda: status(again) == "STOPPED")
            contains(ctr("task", "delete", again, both=True), "exit code 137")
        finally:
            ctr("task", "rm", "-f", again, rc=None)
            ctr("container", "rm", again, rc=None)
            ctr("image", "rm", "saved:1", rc=None)


@step("task checkpoint --exit to a directory ends the task")
def _():
    needs_criu()
    directory = f"/tmp/saved{next(numbers)}"
    os.makedirs(directory)
    with running(cmd=COUNTING) as task:
        ctr("task", "checkpoint", "--exit", "--image-path", directory, task)
        until("it has stopped", lambda: status(task) == "STOPPED")
        assert os.path.exists(f"{directory}/inventory.img"), os.listdir(directory)
        equal([name for name in os.listdir(directory) if name.endswith(".log")], [])


@step("task checkpoint of a task that CRIU cannot save is refused with its reason, and the task continues")
def _():
    needs_criu()
    with running(cmd=("sleep", "1000")) as task:
        seen = ctr("task", "checkpoint", "--image-path", "/proc/none", task, rc=1, both=True)
        matches(seen, r"(?i)/proc/none")
        equal(status(task), "RUNNING")


@step("task metrics has the figures of cpu, memory and processes")
def _():
    needs_controller("memory", "pids", "cpu")
    with running(cmd=("sh", "-c", "while :; do :; done")) as task:
        def metrics():
            return json.loads(ctr("task", "metrics", "--format", "json", task))

        def worked():
            cpu = metrics()["cpu"]
            return int(cpu["usage_usec"]) * 1000 if CGROUP2 else int(cpu["usage"]["total"])
        until("it has worked for a while", lambda: worked() > 50_000_000)
        if CGROUP2:
            # The kernel sums up memory.stat only every two seconds for a process as small as this one, and until then
            # it says 0, which JSON leaves out.
            until("its own memory has been counted", lambda: int(metrics()["memory"].get("anon", 0)) > 0)
        metrics = metrics()
        memory = metrics["memory"]
        assert int(memory["usage"] if CGROUP2 else memory["usage"]["usage"]) > 0, memory
        equal(int(metrics["pids"]["current"]), 1)


@step("as containerd-shim-runc-v2 in PATH it takes the place of containerd's own, with runc's options")
def _():
    if not Engine.tested.is_shim:
        raise Skip("a runtime without a shim of its own")
    directory = "/opt/dropin"
    os.makedirs(directory, exist_ok=True)
    if not os.path.lexists(f"{directory}/containerd-shim-runc-v2"):
        os.symlink(Engine.tested.path, f"{directory}/containerd-shim-runc-v2")
    Engine.daemon.stop()
    start_daemon(env={"PATH": f"{directory}:{os.environ['PATH']}"})
    tested = Engine.tested
    try:
        Engine.tested = Tested("/opt/dropin/containerd-shim-runc-v2")
        with running("--runc-root", "/run/other-root", runtime=[]) as task:
            assert os.path.samefile(f"/proc/{shim_pid(task)}/exe", tested.path)
            equal(status(task), "RUNNING")
            equal(execute(task, "echo", "dropped in"), "dropped in\n")
            os.kill(pid(task), signal.SIGKILL)
            until("it has stopped", lambda: status(task) == "STOPPED")
    finally:
        Engine.tested = tested
        Engine.daemon.stop()
        start_daemon()
