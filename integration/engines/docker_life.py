"""Docker: what a container is, terminals, its life from run to rm, exec, exit statuses."""
import hashlib
import json
import os
import subprocess
import time

from docker_engine import IMAGE, Engine, docker, host_pid, inspect, run, running, state, suite
from steps import SLOW, Terminal, contains, equal, matches, needs_controller, sh, stands_still, until

step = suite.step


@step("a container is made by the tested runtime")
def _():
    with running() as box:
        equal(inspect(box, ".HostConfig.Runtime"), "tested")


@step("a container shares the kernel and has its own processes, hostname, mounts and network")
def _():
    out = run("-h", "demo", "uname -r; hostname; /bin/ps -e -o pid= -o comm= | tr '\\n' ';'; echo; "
              "ls -1 /sys/class/net; readlink /proc/self/ns/mnt").split("\n")
    equal(out[0], os.uname().release)
    equal(out[1], "demo")
    matches(out[2], r"^\s*1 sh;\s*\d+ ps;(\s*\d+ \w+;)?$")  # the pipe's other end may not have been made yet
    contains(" ".join(out), "eth0 lo")
    assert os.readlink("/proc/self/ns/mnt") not in out


@step("ps faux sees the container's own processes only")
def _():
    with running() as box:
        # the kernel shows a program's command line a moment after its exec
        out = until("sleep is there", lambda: "sleep 1000" in (seen := docker("exec", box, "ps", "faux")) and seen)
        contains(out, "ps faux")
        equal(len(out.strip().splitlines()), 3)


@step("run -it has a terminal of the right size, and its exit status comes back")
def _():
    t = Terminal("docker", "run", "--rm", "-it", "-h", "demo", IMAGE, "/bin/sh")
    t.expect("# ")
    t.send("tty; stty size; hostname\r")
    t.expect(r"/dev/pts/0\s+30 100\s+demo")
    t.follows_resizes()
    t.send("exit 7\r")
    t.end(7)


@step("Ctrl-C on the terminal reaches the process in front")
def _():
    t = Terminal("docker", "run", "--rm", "-it", IMAGE, "/bin/sh")
    t.expect("# ")
    t.send("/bin/sleep 1000\r")
    until("sleep runs", lambda: "/bin/sleep 1000" in docker("top", docker("ps", "-lq").strip()))
    t.send("\x03")
    t.expect("# ")
    t.send("echo status $?\r")
    t.expect("status 130")
    t.send("exit 0\r")
    t.end(0)


@step("Ctrl-p Ctrl-q detaches, attach comes back to the same shell")
def _():
    t = Terminal("docker", "run", "-it", "--name", "first", "-h", "demo", IMAGE, "/bin/sh")
    t.expect("# ")
    t.send("V=kept\r")
    t.expect("# ")
    t.press("\x10", "\x11")
    t.end(0)
    equal(state("first"), "running")
    t = Terminal("docker", "attach", "first")
    t.send("\recho V is $V\r")
    t.expect("V is kept")
    t.send("exit\r")
    t.end(0)
    equal(state("first"), "exited")
    docker("rm", "first")


@step("ps, ps -a and ps -q list what they should")
def _():
    docker("run", "--name", "first", IMAGE, "true")
    with running() as box:
        equal(docker("ps", "-q", "--no-trunc").split(), [inspect(box, ".Id")])
        contains(docker("ps", "-a"), "first", "Exited (0)", box, "Up ")
    docker("rm", "first")


@step("without an init zombies stay, with --init or tini they are reaped")
def _():
    # the shell between leaves its child to the container's first process
    script = "sh -c '(/bin/sleep 0.2; echo > /slept) &'; exec sleep 1000"

    def zombies(box):
        until("the orphan ended", lambda: docker("exec", box, "test", "-e", "/slept", rc=None, both=True) == "" and "slept" in docker("exec", box, "ls", "/"))
        return docker("exec", box, "ps", "-e", "-o", "stat=").count("Z")
    with running(cmd=("sh", "-c", script)) as box:
        until("a zombie", lambda: zombies(box))
    with running("--init", cmd=("sh", "-c", script)) as box:
        until("the init runs", lambda: "docker-init" in docker("exec", box, "ps", "-o", "comm=", "1"))
        until("no zombie", lambda: zombies(box) == 0)
    with running(cmd=("tini", "--", "sh", "-c", script)) as box:
        until("no zombie", lambda: zombies(box) == 0)


@step("a written file is there after start, and not in another container")
def _():
    docker("run", "--name", "writer", IMAGE, "sh", "-c", "[ -e /hello.txt ] && cat /hello.txt || echo hello > /hello.txt")
    docker("start", "writer")
    equal(docker("wait", "writer").strip(), "0")
    equal(docker("logs", "writer"), "hello\n")
    run("[ ! -e /hello.txt ]")
    docker("rm", "writer")


@step("run -i passes stdin, also a lot of it, and keeps stdout and stderr apart")
def _():
    equal(docker("run", "--rm", "-i", IMAGE, "sh", "-c", "cat; echo bad >&2", stdin="through\n"), "through\n")
    equal(docker("run", "--rm", "-i", IMAGE, "sha256sum", stdin="x" * 3_000_000).split()[0], hashlib.sha256(b"x" * 3_000_000).hexdigest())


@step("logs holds what was written, also a lot of it")
def _():
    docker("run", "--name", "talk", IMAGE, "sh", "-c", "seq 20000; echo last >&2")
    equal(docker("logs", "talk"), "".join(f"{n}\n" for n in range(1, 20001)))
    contains(docker("logs", "talk", both=True), "last\n")
    docker("rm", "talk")


@step("logs -f follows what is written, to the container's end, and wait tells its exit status")
def _():
    with running(cmd=("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done; exit 11")) as box:
        follower = subprocess.Popen(["docker", "logs", "-f", box], stdout=subprocess.PIPE, text=True)
        equal(docker("wait", box).strip(), "11")
        out, _ = follower.communicate(timeout=60 * SLOW)
        equal(out, "1\n2\n3\n")
    t = Terminal("docker", "run", "--name", "again", "-i", IMAGE, "sh", "-c", "read line; echo got $line; exit 3")
    t.send("one\r")
    t.expect("got one")
    t.end(3)
    t = Terminal("docker", "start", "-ai", "again")
    t.send("two\r")
    t.expect("got two")
    t.end(3)
    docker("rm", "again")


@step("pause freezes, unpause continues, and a paused container takes no exec")
def _():
    counts = ("sh", "-c", "while :; do date +%s%N > /n; sleep 0.05; done")
    with running(cmd=counts) as box, running(cmd=counts) as twin:
        def now(of=box):
            with open(f"/proc/{host_pid(of)}/root/n") as file:
                return file.read()
        for of in (box, twin):
            until("it counts", lambda: docker("exec", of, "cat", "/n", rc=None))
        docker("pause", box)
        equal(state(box), "paused")
        first = stands_still(now, lambda: now(twin))
        contains(docker("exec", box, "true", rc=1, both=True), "paused")
        docker("unpause", box)
        until("it counts again", lambda: docker("exec", box, "cat", "/n") != first)


@step("rm -f of a paused container")
def _():
    with running() as box:
        docker("pause", box)
        docker("rm", "-f", box)
        contains(docker("inspect", box, rc=1, both=True).lower(), "no such object")


@step("stop sends SIGTERM first and SIGKILL at last; start and restart start again")
def _():
    with running(cmd=("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")) as box:
        until("it is up", lambda: "up" in docker("logs", box))
        docker("stop", box)
        equal(inspect(box, ".State.ExitCode"), 5)
        docker("start", box)
        equal(state(box), "running")
        until("it is up", lambda: docker("logs", box).count("up") == 2)
        docker("restart", "-t", "5", box)
        equal(state(box), "running")
    with running() as box:
        docker("stop", "-t", "1", box)
        equal(inspect(box, ".State.ExitCode"), 137)
    with running("--stop-signal", "SIGINT", cmd=("sh", "-c", "trap 'exit 6' INT; echo up; while :; do sleep 0.05; done")) as box:
        until("it is up", lambda: "up" in docker("logs", box))
        docker("stop", box)
        equal(inspect(box, ".State.ExitCode"), 6)


@step("kill -s delivers the signal, kill ends with 137")
def _():
    with running(cmd=("sh", "-c", "trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done")) as box:
        until("it is up", lambda: "up" in docker("logs", box))
        docker("kill", "-s", "USR1", box)
        until("the trap ran", lambda: "usr1" in docker("logs", box))
        docker("kill", box)
        equal(docker("wait", box).strip(), "137")
        contains(docker("kill", box, rc=1, both=True), "is not running")


@step("rm refuses a running container, rm -f of all removes all")
def _():
    for name in "box-a", "box-b", "box-c":
        docker("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    contains(docker("rm", "box-a", rc=1, both=True), "cannot remove")
    docker("rm", "-f", *docker("ps", "-aq").split())
    equal(docker("ps", "-aq"), "")


@step("exit statuses: the program's, 125, 126 and 127, and 128 plus a signal")
def _():
    docker("run", "--rm", IMAGE, "sh", "-c", "exit 3", rc=3)
    docker("run", "--rm", "--init", IMAGE, "sh", "-c", "kill -9 $$", rc=137)
    docker("run", "--rm", "--no-such-flag", IMAGE, "true", rc=125)
    contains(docker("run", "--rm", IMAGE, "no-such-program", rc=127, both=True), "executable file not found in $PATH")
    contains(docker("run", "--rm", IMAGE, "/no/such/program", rc=127, both=True), "no such file or directory")
    contains(docker("run", "--rm", IMAGE, "/etc/passwd", rc=126, both=True), "permission denied")
    contains(docker("run", "--rm", IMAGE, "/etc", rc=126, both=True), "is a directory")


@step("a container that could not start is gone without a trace")
def _():
    docker("run", "--name", "broken", IMAGE, "no-such-program", rc=127)
    equal(state("broken"), "created")
    docker("rm", "broken")


@step("exec runs in all namespaces of the container, with -e, -w and -u")
def _():
    with running("-h", "inner", "-e", "A=image") as box:
        equal(docker("exec", "-e", "B=exec", "-w", "/tmp", "-u", "alice", box, "sh", "-c", "echo $A $B $(pwd) $(id -u) $(id -g) $(id -Gn) $(hostname)"),
              "image exec /tmp 1000 1000 alice audio inner\n")
        kinds = "pid", "mnt", "net", "ipc", "uts", "cgroup"
        links = docker("exec", box, "stat", "-c", "%N", *[f"/proc/self/ns/{k}" for k in kinds]).splitlines()
        equal(links, [f"'/proc/self/ns/{k}' -> '{os.readlink(f'/proc/{host_pid(box)}/ns/{k}')}'" for k in kinds])


@step("exec -ti has a terminal, and Ctrl-p Ctrl-q detaches from it")
def _():
    with running() as box:
        t = Terminal("docker", "exec", "-ti", box, "sh")
        t.expect("# ")
        t.send("stty size; tty\r")
        t.expect(r"30 100\s+/dev/pts/\d")
        t.send("/bin/ps faux\r")
        t.expect(r"sleep 1000")
        t.send("exit 4\r")
        t.end(4)
        t = Terminal("docker", "exec", "-ti", box, "sh", "-c", "echo here; exec sleep 999")
        t.expect("here")
        t.press("\x10", "\x11")
        t.end(1)  # the client's own status for a detached exec
        until("it is still there", lambda: "sleep 999" in docker("top", box))


@step("exec's exit statuses, -d, -i and ten at once")
def _():
    with running() as box:
        docker("exec", box, "sh", "-c", "exit 9", rc=9)
        contains(docker("exec", box, "no-such-program", rc=127, both=True), "executable file not found in $PATH")
        contains(docker("exec", box, "/etc/passwd", rc=126, both=True), "permission denied")
        contains(docker("exec", "-w", "/no/such/folder", box, "true", rc=127, both=True), "/no/such/folder", "no such file or directory")
        equal(docker("exec", "-i", box, "cat", stdin="in\n"), "in\n")
        docker("exec", "-d", box, "touch", "/touched")
        until("exec -d ran", lambda: "touched" in docker("exec", box, "ls", "/"))
        out = sh("sh", "-c", f"for i in $(seq 10); do docker exec {box} echo $i & done; wait")
        equal(sorted(map(int, out.split())), list(range(1, 11)))


@step("exec's process dies with its container, and a stopped container takes none")
def _():
    with running() as box:
        docker("exec", "-d", box, "sleep", "998")
        pid = until("the exec runs", lambda: sh("pgrep", "-f", "^sleep 998", rc=None).strip())
        docker("kill", box)
        until("the exec is gone", lambda: not os.path.exists(f"/proc/{pid}"))
        contains(docker("exec", box, "true", rc=1, both=True), "is not running")


@step("inspect, top, stats, events and rename know the container")
def _():
    needs_controller("memory", "pids")
    since = sh("date", "+%s.%N").strip()
    docker("run", "-d", "--name", "box-i", "-m", "64m", IMAGE, "sleep", "1000")
    docker("rename", "box-i", "box-j")
    equal(inspect("box-j", ".HostConfig.Memory"), 64 << 20)
    until("top knows it", lambda: "sleep 1000" in docker("top", "box-j"))

    def stats():
        return docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "box-j")
    # two samples a second apart: what takes longer than two seconds the client shows as dashes
    matches(until("stats in time", lambda: "--" not in (seen := stats()) and seen), r"^box-j [\d.]+[KM]iB / 64MiB 1$")
    docker("exec", "box-j", "true")
    docker("kill", "box-j")
    docker("wait", "box-j")
    docker("rm", "box-j")
    events = docker("events", "--since", since, "--until", sh("date", "+%s.%N").strip(), "--format", "{{.Type}} {{.Action}}")
    wanted = ["create", "start", "rename", "exec_die", "kill", "die", "destroy"]
    equal([w for line in events.splitlines() if (w := line.removeprefix("container ")) in wanted], wanted)


def given_up(box):
    """A restart that Docker gave up is begun anew. Go's shim may cause it: the next one for the container finds the last one's socket
    although that one is about to end, if it takes a tenth of a second for that."""
    if Engine.tested.is_debians and state(box) == "exited" and inspect(box, ".State.Error").endswith(("shutdown", "closed")):
        docker("start", box)
        return True
    return False


@step("restart policies: on-failure counts, always brings back what was killed")
def _():
    with running("--restart", "on-failure:2", cmd=("sh", "-c", "exit 3")) as box:
        until("two restarts", lambda: not given_up(box) and inspect(box, ".RestartCount") == 2 and state(box) == "exited")
        equal(inspect(box, ".State.ExitCode"), 3)
    with running("--restart", "always") as box:
        def killed():
            first = until("it runs", lambda: host_pid(box))
            os.kill(first, 9)
            return until("it is back or given up", lambda: state(box) == "running" and host_pid(box) not in (0, first) or given_up(box) and "given up")
        until("it is back", lambda: killed() != "given up")


@step("health checks run in the container")
def _():
    with running("--health-cmd", "test -e /well", "--health-interval", "200ms", "--health-retries", "1") as box:
        until("unhealthy", lambda: inspect(box, ".State.Health.Status") == "unhealthy")
        docker("exec", box, "touch", "/well")
        until("healthy", lambda: inspect(box, ".State.Health.Status") == "healthy")


@step("a container with a whole init: it starts services, brings back one that ends, and stops in order")
def _():
    table = "::sysinit:/bin/touch /booted\\n::respawn:/bin/sleep 990\\n::shutdown:/bin/touch /share/down\\n"
    with running("-v", "/tmp/init-share:/share", "--stop-signal", "USR2", cmd=("sh", "-c", f"printf '{table}' > /etc/inittab; exec init")) as box:
        def service():
            return [line.split()[0] for line in docker("exec", box, "ps", "-e", "-o", "pid=,args=").splitlines() if "sleep 990" in line]
        first = until("the service runs", service)
        docker("exec", box, "test", "-e", "/booted")
        docker("exec", box, "kill", first[0])
        until("init brought it back", lambda: service() not in ([], first))
        docker("stop", "-t", "8", box)
        assert os.path.exists("/tmp/init-share/down"), "init was killed before it had shut down"


@step("the engine's REST API creates, starts, waits for and removes a container")
def _():
    def api(method, path, body="{}"):
        out = sh("curl", "-s", "-X", method, "--unix-socket", "/run/docker.sock", "-H", "Content-Type: application/json", "-d", body, f"http://d/v1.44{path}")
        return json.loads(out) if out.strip() else None
    box = api("POST", "/containers/create", json.dumps({"Image": IMAGE, "Cmd": ["sh", "-c", "echo by REST; exit 6"]}))["Id"]
    equal(api("POST", f"/containers/{box}/start"), None)
    equal(api("POST", f"/containers/{box}/wait")["StatusCode"], 6)
    equal(docker("logs", box), "by REST\n")
    equal(api("DELETE", f"/containers/{box}"), None)


@step("ten containers at once")
def _():
    out = sh("sh", "-c", f"for i in $(seq 10); do docker run --rm {IMAGE} echo $i & done; wait", timeout=90)
    equal(sorted(map(int, out.split())), list(range(1, 11)))
