"""Pods by the CRI, as Kubernetes makes them: life, logs, exec, streams, statistics, limits, security, faults."""
import base64
import os
import signal

from cri_client import ERROR, STDERR, STDIN, STDOUT, Forward, Stream
import cri_engine
from cri_engine import Engine, Pod, but, call, engine, execute, exited, info, pod, shims, start_cri, state, status, suite
from steps import CGROUP2, QUICK, SLOW, Snapshot, contains, equal, matches, needs_controller, sh, until

__all__ = ["engine", "suite"]
step = suite.step
FOREVER = ("sleep", "1000")


def cgroup(container, v1, v2):
    """A cgroup file of a container; on v1 with its controller's directory."""
    with open(f"/proc/{info(container)['pid']}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    if CGROUP2:
        path = next(path for _, controllers, path in lines if not controllers) + "/" + v2
    else:
        controller, name = v1.split("/")
        path = next(f"/{controllers}{path}/{name}" for _, controllers, path in lines if controller in controllers.split(","))
    with open(f"/sys/fs/cgroup{path}") as file:
        return file.read().strip()


@step("the runtime's handlers and what they can do are known")
def _():
    response = call("Status", verbose=True)
    handlers = {h.name: h.features for h in response.runtime_handlers}
    assert handlers["tested"].recursive_read_only_mounts and handlers["tested"].user_namespaces, handlers["tested"]


@step("a pod: its address, its namespaces, one shim; stopped and removed without a trace")
def _():
    before = Snapshot()
    with pod() as p:
        s = p.status()
        equal(cri_engine.client.enum("PodSandboxState", s.state), "SANDBOX_READY")
        assert p.ip().startswith("10.77."), p.ip()
        until("one shim serves the pod", lambda: shims() == [p.id])
        call("StopPodSandbox", pod_sandbox_id=p.id)
        equal(cri_engine.client.enum("PodSandboxState", p.status().state), "SANDBOX_NOTREADY")
        call("StopPodSandbox", pod_sandbox_id=p.id)
    until("its shim is gone", lambda: shims() == [])
    before.nothing_left(but=but())


@step("a pod whose runtime class names the shim by its type, and one of an unknown class")
def _():
    with pod(handler="named") as p:
        c = p.start("sh", "-c", "sleep 0.2; echo by its type; exit 5")
        equal(exited(c).exit_code, 5)
        p.has_logged(c, ("stdout", "by its type"))
        equal(p.status().runtime_handler, "named")
    call("RunPodSandbox", config={"metadata": {"name": "x", "uid": "x", "namespace": "x"}}, runtime_handler="nosuch", refused="nosuch")


@step("two containers in a pod: one network, IPC and hostname, own processes and files, the same shim")
def _():
    with pod() as p:
        one = p.start("httpd", "-f", "-p", "8080", "-h", "/srv/www")
        two = p.start(*FOREVER)
        equal((state(one), state(two)), ("RUNNING", "RUNNING"))
        until("one shim serves the pod", lambda: shims() == [p.id])
        until("the server answers", lambda: execute(two, "wget", "-qO-", "http://127.0.0.1:8080/")[1] == "served from a container\n")
        for kind, same in ("net", True), ("ipc", True), ("uts", True), ("pid", False), ("mnt", False):
            links = [os.readlink(f"/proc/{info(c)['pid']}/ns/{kind}") for c in (one, two)]
            assert (links[0] == links[1]) is same, (kind, links)
        equal(execute(two, "hostname")[1].strip(), p.config["hostname"])
        equal(execute(two, "sh", "-c", "echo x > /only-here; /bin/ps -e -o comm= | head -1")[1], "sleep\n")
        equal(execute(one, "ls", "/only-here")[0], 1)


@step("logs in the CRI's form: both streams, parts of a long line, and a new file after ReopenContainerLog")
def _():
    with pod() as p:
        c = p.start("sh", "-c", "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done")
        # the two streams come in no order
        lines = until("it has written", lambda: len(seen := p.log(c)) > 6 and ("stderr", "err") in seen and seen)
        equal(next(text for stream, text in lines if stream == "stdout"), "out")
        equal([text for stream, text in lines if stream == "stderr"], ["err"])
        equal(sum(text.count("x") for stream, text in lines if stream == "stdout"), 20000)
        with open(status(c).log_path) as file:
            matches(file.read(), r"^\d{4}-\d\d-\d\dT\S+ stdout P x+$")
        os.rename(status(c).log_path, status(c).log_path + ".1")
        call("ReopenContainerLog", container_id=c)
        first = int(until("the new file is written", lambda: len(seen := p.log(c)) > 2 and seen)[0][1])

        def last():
            with open(status(c).log_path + ".1") as file:
                return int(file.readlines()[-1].split()[-1])
        until(f"the old file ends with {first - 1}", lambda: last() == first - 1)


@step("a lot of output of ten containers at once arrives whole")
def _():
    count, lines = (3, 20000) if QUICK else (10, 200000)
    with pod() as p:
        # containerd opens FIFOs late, and drops what a container has written that is over before
        containers = [p.create("sh", "-c", f"sleep 0.2; seq {lines}") for _ in range(count)]
        for c in containers:
            call("StartContainer", container_id=c)
        for c in containers:
            equal(exited(c).exit_code, 0)
            p.has_logged(c, *[("stdout", str(n)) for n in range(1, lines + 1)])
        until("one shim serves the pod", lambda: shims() == [p.id])


@step("ExecSync: output, exit status, a program that is not there, a time limit")
def _():
    with pod() as p:
        c = p.start(*FOREVER)
        equal(execute(c, "sh", "-c", "echo out; echo err >&2; exit 3"), (3, "out\n", "err\n"))
        call("ExecSync", container_id=c, cmd=["no-such-program"], refused="executable file not found")
        call("ExecSync", {"container_id": c, "cmd": ["sleep", "989"], "timeout": 1}, refused="timeout")
        until("it is killed", lambda: not sh("pgrep", "-f", "^sleep 989", rc=None))
        equal(execute(c, "sh", "-c", "seq 50000")[1], "".join(f"{n}\n" for n in range(1, 50001)))
        for i in range(5 if QUICK else 100):
            equal(execute(c, "sh", "-c", f"exit {i}")[0], i)


@step("Exec as a stream: stdin, both outputs, the exit status")
def _():
    with pod() as p:
        c = p.start(*FOREVER)
        stream = Stream(call("Exec", container_id=c, cmd=["sh", "-c", "read line; echo got $line; echo err >&2; exit 5"],
                             stdin=True, stdout=True, stderr=True).url)
        stream.send(STDIN, b"hello\n")
        equal(stream.finish(), 5)
        equal((stream.seen.get(STDOUT), stream.seen.get(STDERR)), (b"got hello\n", b"err\n"))
        stream = Stream(call("Exec", container_id=c, cmd=["seq", "30000"], stdout=True, stderr=True).url)
        equal(stream.finish(), 0)
        equal(stream.seen[STDOUT], b"".join(b"%d\n" % n for n in range(1, 30001)))


@step("Exec with a terminal, and its size")
def _():
    with pod() as p:
        c = p.start(*FOREVER)
        stream = Stream(call("Exec", container_id=c, cmd=["sh"], stdin=True, stdout=True, tty=True).url)
        stream.resize(77, 33)
        stream.expect(STDOUT, b"# ")
        stream.send(STDIN, b"until [ \"$(stty size)\" = '33 77' ]; do sleep 0.1; done; tty; exit 6\n")
        stream.expect(STDOUT, b"/dev/pts/")
        equal(stream.finish(), 6)


@step("Attach to a container's first process, again after the first client left")
def _():
    with pod() as p:
        c = p.start("sh", "-c", "while read line; do echo got $line; done", stdin=True)
        for word in b"one", b"two":
            stream = Stream(call("Attach", container_id=c, stdin=True, stdout=True, stderr=True).url)
            stream.ask(word + b"\n", b"got " + word)
            stream.socket.close()
        assert ERROR not in stream.seen or not stream.seen[ERROR], stream.seen


@step("PortForward to a server in the pod")
def _():
    with pod() as p:
        p.start("httpd", "-f", "-p", "8080", "-h", "/srv/www")
        until("the server answers", lambda: sh("curl", "-s", "--noproxy", "*", f"http://{p.ip()}:8080/", rc=None))
        stream = Forward(call("PortForward", pod_sandbox_id=p.id, port=[8080]).url, 8080)
        stream.send(0, b"GET / HTTP/1.0\r\n\r\n")
        stream.expect(0, b"served from a container\n")
        stream.socket.close()


@step("statistics of a container and of a pod")
def _():
    needs_controller("memory", "cpu", "pids")
    with pod() as p:
        c = p.start("sh", "-c", "while :; do :; done")
        until("it has worked for a while", lambda: call("ContainerStats", container_id=c).stats.cpu.usage_core_nano_seconds.value > 100_000_000)
        stats = call("ContainerStats", container_id=c).stats
        assert stats.memory.working_set_bytes.value > 0 and stats.memory.usage_bytes.value > 0, stats
        equal([s.attributes.id for s in call("ListContainerStats", filter={"pod_sandbox_id": p.id}).stats], [c])
        linux = call("PodSandboxStats", pod_sandbox_id=p.id).stats.linux
        equal(len(linux.containers), 1)
        assert linux.cpu.usage_core_nano_seconds.value > 0 and linux.process.process_count.value >= 1, linux


@step("resources: the limits asked for, and others by UpdateContainerResources")
def _():
    needs_controller("memory", "cpu")
    with pod() as p:
        c = p.start(*FOREVER, linux={"resources": {"memory_limit_in_bytes": 64 << 20, "cpu_quota": 50000, "cpu_period": 100000, "cpu_shares": 512}})
        equal(cgroup(c, "memory/memory.limit_in_bytes", "memory.max"), str(64 << 20))
        equal(cgroup(c, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0], "50000")
        contains(open(f"/proc/{info(c)['pid']}/cgroup").read(), "/kubepods/")
        call("UpdateContainerResources", container_id=c, linux={"memory_limit_in_bytes": 128 << 20, "cpu_quota": 25000, "cpu_period": 100000})
        equal(cgroup(c, "memory/memory.limit_in_bytes", "memory.max"), str(128 << 20))
        equal(cgroup(c, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0], "25000")
        equal(status(c).resources.linux.memory_limit_in_bytes, 128 << 20)


@step("exits: the status and its reason, also of one killed for its memory; a second attempt starts")
def _():
    with pod() as p:
        s = exited(p.start("sh", "-c", "exit 0"))
        equal((s.exit_code, s.reason), (0, "Completed"))
        s = exited(p.start("sh", "-c", "exit 9"))
        equal((s.exit_code, s.reason), (9, "Error"))
        c = p.create("no-such-program")
        call("StartContainer", container_id=c, refused="executable file not found")
        equal((status(c).reason, state(c)), ("StartError", "EXITED"))
        equal(exited(p.start("sh", "-c", "exit 0", metadata={"name": "again", "attempt": 1})).metadata.attempt, 1)
        needs_controller("memory")
        s = exited(p.start("tail", "/dev/zero", linux={"resources": {"memory_limit_in_bytes": 16 << 20, "memory_swap_limit_in_bytes": 16 << 20}}))
        equal(s.exit_code, 137)
        # containerd learns of the exit and of its reason separately
        until("its reason", lambda: status(s.id).reason == "OOMKilled")


@step("StopContainer: SIGTERM, and SIGKILL after its time; RemoveContainer, also of a running one")
def _():
    with pod() as p:
        polite = p.start("sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
        until("it is up", lambda: p.log(polite))
        stop(polite, 10)
        equal(exited(polite).exit_code, 4)
        stubborn = p.start(*FOREVER)
        stop(stubborn, 1)
        equal(exited(stubborn).exit_code, 137)
        for c in polite, stubborn, p.start(*FOREVER):
            call("RemoveContainer", container_id=c)
        equal(len(call("ListContainers", filter={"pod_sandbox_id": p.id}).containers), 0)


def stop(container, seconds):
    call("StopContainer", {"container_id": container, "timeout": seconds})


@step("security: user, groups, capabilities, seccomp, read-only root, no new privileges, masked paths, privileged")
def _():
    show = ("cat", "/proc/self/status")
    with pod() as p:
        def field(name, **security):
            c = p.start(*FOREVER, linux={"security_context": security})
            return matches(execute(c, *show)[1], rf"^{name}:\s*(.*)$").group(1).split()
        equal(field("Uid", run_as_user={"value": 1000}, run_as_group={"value": 29})[0], "1000")
        equal(field("Groups", run_as_user={"value": 1000}, supplemental_groups=[29, 65534]), ["29", "1000", "65534"])
        equal(field("CapEff", capabilities={"drop_capabilities": ["ALL"], "add_capabilities": ["NET_ADMIN"]}), ["0000000000001000"])
        equal(field("NoNewPrivs", no_new_privs=True), ["1"])
        equal(field("Seccomp", seccomp={"profile_type": "RuntimeDefault"}), ["2"])
        equal(field("Seccomp", seccomp={"profile_type": "Unconfined"}), ["0"])
        c = p.start(*FOREVER, linux={"security_context": {"readonly_rootfs": True, "masked_paths": ["/proc/kcore"], "readonly_paths": ["/proc/sys"]}})
        contains(execute(c, "touch", "/x")[2], "Read-only file system")
        equal(execute(c, "sh", "-c", "[ -s /proc/kcore ]")[0], 1)
        contains(execute(c, "sh", "-c", "echo x > /proc/sys/kernel/hostname")[2], "Read-only file system")
    with pod(linux={"security_context": {"privileged": True}}) as p:
        c = p.start(*FOREVER, linux={"security_context": {"privileged": True}})
        with open("/proc/self/status") as file:
            bound = matches(file.read(), r"^CapBnd:\s*(\w+)$").group(1)
        contains(execute(c, *show)[1], f"CapEff:\t{bound}")


@step("mounts: a directory of the host, read-only, read-only below too; environment, directory, arguments")
def _():
    os.makedirs("/tmp/cri/inner", exist_ok=True)
    sh("mount", "-t", "tmpfs", "inner", "/tmp/cri/inner")
    try:
        with pod() as p:
            c = p.start("sh", "-c", "echo $0 $A $(pwd); sleep 1000", args=["arg"],
                        envs=[{"key": "A", "value": base64.b64encode(b"b").decode()}], working_dir="/tmp", mounts=[
                {"host_path": "/tmp/cri", "container_path": "/rw"}, {"host_path": "/tmp/cri", "container_path": "/ro", "readonly": True},
                {"host_path": "/tmp/cri", "container_path": "/rro", "readonly": True, "recursive_read_only": True}])
            until("it has spoken", lambda: p.log(c))
            equal(p.log(c)[0], ("stdout", "arg b /tmp"))
            equal(execute(c, "touch", "/rw/f", "/rw/inner/f")[0], 0)
            contains(execute(c, "touch", "/ro/f2")[2], "Read-only file system")
            equal(execute(c, "touch", "/ro/inner/f3")[0], 0)
            contains(execute(c, "touch", "/rro/inner/f4")[2], "Read-only file system")
    finally:
        sh("umount", "/tmp/cri/inner")


@step("namespaces of the host and of the pod")
def _():
    host = {"security_context": {"namespace_options": {"network": "NODE", "pid": "NODE", "ipc": "NODE"}}}
    with pod(linux=host, hostname="") as p:
        c = p.start(*FOREVER, linux=host)
        for kind in "net", "pid", "ipc":
            equal(os.readlink(f"/proc/{info(c)['pid']}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}"))
        stop(c, 1)
    shared = {"security_context": {"namespace_options": {"pid": "POD"}}}
    with pod(linux=shared) as p:
        one, two = (p.start("sleep", str(n), linux=shared) for n in (988, 987))
        until("all three are there", lambda: all(
            program in execute(one, "/bin/ps", "-e", "-o", "args=")[1] for program in ("/pause", "sleep 988", "sleep 987")))
        stop(one, 1)
        equal((exited(one).exit_code, state(two)), (143, "RUNNING"))


@step("a pod in a user namespace: root inside is nobody outside")
def _():
    ids = [{"host_id": 300000, "container_id": 0, "length": 65536}]
    user = {"security_context": {"namespace_options": {"userns_options": {"mode": "POD", "uids": ids, "gids": ids}}}}
    with pod(linux=user) as p:
        c = p.start(*FOREVER, linux=user)
        equal(execute(c, "cat", "/proc/self/uid_map")[1].split(), ["0", "300000", "65536"])
        equal(execute(c, "sh", "-c", "echo x > /f; stat -c %u /f")[1], "0\n")
        equal(os.stat(f"/proc/{info(c)['pid']}/root/f").st_uid, 300000)


@step("the stream of container events: created, started, stopped, deleted")
def _():
    import threading
    stream, seen = cri_engine.client.events(), []

    def take():
        try:
            for event in stream:
                seen.append((event.container_id, cri_engine.client.enum("ContainerEventType", event.container_event_type)))
        except cri_engine.client.error:
            pass  # cancelled
    reader = threading.Thread(target=take, daemon=True)
    reader.start()
    with pod() as p:
        # the stream does not say when it is open: an event that we cause ourselves does
        until("the stream is open", lambda: call("RemoveContainer", container_id=p.create("true")) and seen)
        c = p.start("true")
        exited(c)
        call("RemoveContainer", container_id=c)
        until("all four", lambda: [kind.split("_")[1] for who, kind in seen if who == c] == ["CREATED", "STARTED", "STOPPED", "DELETED"])
    stream.cancel()
    reader.join(10)


@step("pods outlive containerd, whether it is stopped or killed; what ended meanwhile is known")
def _():
    for how in signal.SIGTERM, signal.SIGKILL:
        with pod() as p:
            stays, ends = p.start("sh", "-c", "while :; do echo x; sleep 0.1; done"), p.start("sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 9")
            pid = info(ends)["pid"]
            Engine.daemon.process.send_signal(how)
            Engine.daemon.process.wait(60 * SLOW)
            with open(f"/proc/{pid}/root/go", "w"):
                pass
            until("one ends", lambda pid=pid: not os.path.exists(f"/proc/{pid}/root/bin"))
            start_cri()
            equal(cri_engine.client.enum("PodSandboxState", p.status().state), "SANDBOX_READY")
            # containerd ends a shim without processes as one that leaked: Go's one does not know its exits then
            equal((state(stays), exited(ends).exit_code), ("RUNNING", 255 if Engine.tested.is_debians else 9))
            equal(execute(stays, "echo", "again")[1], "again\n")
            lines = len(p.log(stays))
            until("the log continues", lambda lines=lines, p=p, stays=stays: len(p.log(stays)) > lines)


@step("a pod whose shim is killed is not ready, its containers have ended; removed without a trace")
def _():
    before = Snapshot()
    with pod() as p:
        one, two = p.start(*FOREVER), p.start(*FOREVER)
        pids = [info(c)["pid"] for c in (one, two)]
        os.kill(int(sh("pgrep", "-f", f"{Engine.tested.shim} .*-id {p.id}").split()[0]), signal.SIGKILL)
        for c in one, two:
            assert exited(c).exit_code in (137, 255), status(c)  # 255 when containerd asked the shim before its `delete` had run
        until("the pod is not ready", lambda: cri_engine.client.enum("PodSandboxState", p.status().state) == "SANDBOX_NOTREADY")
        if Engine.tested.is_debians:  # of Go's shim containerd deletes only the first container, and the others run on
            for pid in filter(lambda pid: os.path.exists(f"/proc/{pid}"), pids):
                os.kill(pid, signal.SIGKILL)
        until("no process is left", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    before.nothing_left(but=but())


@step("pods that come and go at once leave nothing")
def _():
    before = Snapshot()
    pods = [Pod() for _ in range(2 if QUICK else 10)]
    containers = [p.start("sh", "-c", "exit 7") for p in pods for _ in range(2)]
    equal({exited(c).exit_code for c in containers}, {7})
    for p in pods:
        call("RemovePodSandbox", pod_sandbox_id=p.id)
    until("all shims are gone", lambda: shims() == [])
    before.nothing_left(but=but())
