"""Docker: steps that need the daemon itself in another state or configuration."""
import os
import re

import image
from docker_engine import IMAGE, Engine, docker, host_pid, inspect, run, running, start_daemon, state, stop_daemon, suite
from steps import equal, needs_criu, sh, until

step = suite.step


@step("live-restore: a container outlives the daemon and is managed again")
def _():
    stop_daemon()
    start_daemon("--live-restore")
    with running(cmd=("sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done")) as box:
        pid = host_pid(box)
        stop_daemon()
        os.kill(pid, 0)
        start_daemon("--live-restore")
        equal((state(box), host_pid(box)), ("running", pid))
        equal(docker("exec", box, "echo", "again"), "again\n")
        docker("stop", box)
        equal(docker("wait", box).strip(), "8")


@step("live-restore: exits while the daemon and its containerd are away are known afterwards")
def _():
    stop_daemon()
    start_daemon("--live-restore")
    with running(cmd=("sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 8")) as ends, running() as killed, running() as stays:
        pids = [host_pid(box) for box in (ends, killed, stays)]
        stop_daemon()
        with open(f"/proc/{pids[0]}/root/go", "w"):
            pass
        os.kill(pids[1], 9)
        until("both are gone", lambda: not any(os.path.exists(f"/proc/{pid}/root/bin") for pid in pids[:2]))
        start_daemon("--live-restore")
        equal((state(ends), state(killed), state(stays)), ("exited", "exited", "running"))
        if not Engine.tested.is_debians:  # of Go's shim containerd does not ask the exits, and Docker takes 255
            equal([inspect(box, ".State.ExitCode") for box in (ends, killed)], [8, 137])
        docker("start", killed)
        equal(state(killed), "running")


@step("containerd killed below the daemon: containers continue, and are managed by the next one")
def _():
    with running(cmd=("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done")) as stays, running() as ends:
        pids = host_pid(stays), host_pid(ends)
        os.kill(int(sh("pgrep", "-f", "^containerd --config").split()[0]), 9)
        # the status comes by an event: the daemon asks a new containerd for them only after it has asked it other things
        again = f"docker exec {stays} sh -c 'echo again; exit 7' 2>/dev/null; echo $?"
        until("the daemon has another containerd and receives its events", lambda: sh("sh", "-c", again) == "again\n7\n", 60)
        equal((host_pid(stays), host_pid(ends)), pids)
        written = docker("logs", stays).splitlines()
        until("the log continues", lambda: len(docker("logs", stays).splitlines()) > len(written))
        equal(written, [str(n) for n in range(1, len(written) + 1)])
        os.kill(pids[1], 9)
        equal(docker("wait", ends).strip(), "137")
        docker("stop", "-t", "1", stays)
        equal(docker("wait", stays).strip(), "137")


@step("userns-remap: root inside is nobody outside, run, exec, volumes and a network work")
def _():
    stop_daemon()
    for path, line in {"passwd": "dockremap:x:900:900::/:/bin/false", "group": "dockremap:x:900:",
                       "subuid": "dockremap:500000:65536", "subgid": "dockremap:500000:65536"}.items():
        with open(f"/etc/{path}", "a") as file:
            file.write(line + "\n")
    start_daemon("--userns-remap", "default")
    docker("import", "-c", 'CMD ["/bin/sh"]', image.TAR, IMAGE)
    equal(run("cat /proc/self/uid_map").split(), ["0", "500000", "65536"])
    with running("-m", "64m", "-v", "/data") as box:
        with open(f"/proc/{host_pid(box)}/status") as file:
            equal([line.split()[1] for line in file if line.startswith("Uid:")], ["500000"])
        equal(docker("exec", box, "sh", "-c", "echo x > /data/f && id -u && stat -c %u /data/f"), "0\n0\n")
        docker("exec", box, "ping", "-c", "1", "-W", "10", "172.17.0.1")
        docker("stop", "-t", "0", box)
    equal(run("--userns=host", "cat /proc/self/uid_map").split()[1], "0")


@step("checkpoint create saves a container, start --checkpoint lets it continue where it was")
def _():
    needs_criu()
    stop_daemon()
    start_daemon(experimental=True)
    with running("--network", "host", cmd=("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/count; sleep 0.1; done")) as box:
        def count():
            return int(until("it has counted", lambda: docker("exec", box, "cat", "/dev/shm/count", rc=None).strip()))
        until("it counts", lambda: count() > 3)
        docker("checkpoint", "create", "--leave-running", box, "first")
        equal(state(box), "running")
        before = count()
        docker("checkpoint", "create", box, "second")
        if Engine.tested.is_shim and not Engine.tested.is_debians:
            docker("kill", box)  # Docker tells runc's shim alone that the container is to end
        until("it has stopped", lambda: state(box) == "exited")
        equal(sorted(docker("checkpoint", "ls", box).split()[2:]), ["first", "second"])

        def started():
            # What `checkpoint create` has brought into containerd's store lies there until it is collected, and is in the way of
            # the same content when `start` brings that: https://github.com/moby/moby/issues/42900.
            seen = docker("start", "--checkpoint", "second", box, rc=None, both=True).strip()
            assert not seen or re.search(r"failed to upload checkpoint to containerd: .*: already exists$", seen), seen
            return not seen
        until("it starts", started)
        equal(state(box), "running")
        now = count()
        assert before <= now < before + 1000, f"it was at {before}, and is at {now}"
        until("it continues", lambda: count() > now)
        docker("stop", "-t", "0", box)
        equal(state(box), "exited")
