"""containerd with its own shim (io.containerd.runc.v2) and BinaryName set to the runtime, driven by ctr."""
import contextlib
import itertools
import json
import os

import image
from steps import CGROUP2, Daemon, Snapshot, Suite, Terminal, contains, equal, matches, needs_controller, sh, until

suite = Suite("containerd")
step = suite.step
IMAGE = "docker.io/knarr/base:1"
LOG = "/tmp/containerd.log"
suite.logs = [LOG]
numbers = itertools.count(1)


class Engine:
    daemon = None
    before = None
    runtime = None


def ctr(*argv, **options):
    return sh("ctr", *argv, **options)


def flags():
    return ["--runc-binary", Engine.runtime]


def run(*argv, **options):
    """`ctr run --rm` of the test image's shell: the last argument is its script, those before are flags. The shim writes the output
    to a file: ctr itself loses that of a short task now and then, when it is over before ctr has come round to opening its FIFO."""
    name = f"once{next(numbers)}"
    log = f"/tmp/{name}.log"
    seen = ctr("run", "--rm", "--log-uri", f"file://{log}", *flags(), *argv[:-1], IMAGE, name, "sh", "-c", argv[-1], **options)
    with open(log) as file:
        return file.read() + seen


@contextlib.contextmanager
def running(*more, cmd=("sleep", "1000")):
    name = f"task{next(numbers)}"
    try:
        ctr("run", "-d", *flags(), *more, IMAGE, name, *cmd)
        yield name
    finally:
        ctr("task", "rm", "-f", name, rc=None)
        ctr("container", "rm", name, rc=None)


def status(name):
    found = [line.split() for line in ctr("task", "ls").splitlines() if line.startswith(name + " ")]
    return found[0][2] if found else None


def pid(name):
    return int(next(line.split()[1] for line in ctr("task", "ls").splitlines() if line.startswith(name + " ")))


@step("run: output, exit status, kernel and process table")
def _():
    out = run("uname -r; /bin/ps -e -o pid= -o comm= | head -1").split("\n")
    equal(out[0], os.uname().release)
    equal(out[1].split(), ["1", "sh"])
    run("exit 7", rc=7)
    contains(ctr("run", "--rm", *flags(), IMAGE, "none", "no-such-program", rc=1, both=True), "executable file not found in $PATH")


@step("the runtime that runs is the one that was named")
def _():
    contains(ctr("run", "--rm", "--runc-binary", "/no/such/runtime", IMAGE, "none", "true", rc=1, both=True), "/no/such/runtime")


@step("the CRI part of the configuration is read as docs/engines.md has it")
def _():
    dump = sh("containerd", "config", "dump")
    contains(dump, f"BinaryName = '{Engine.runtime}'", "default_runtime_name = 'tested'", "containerd.runtimes.tested]")


@step("run -t has a terminal")
def _():
    t = Terminal("ctr", "run", "--rm", "-t", *flags(), IMAGE, "term", "sh")
    t.expect("# ")
    t.send("tty; stty size\r")
    t.expect(r"/dev/pts/0\s+30 100")
    t.send("exit 3\r")
    t.end(3)


@step("task exec: output, exit status, user, folder, terminal")
def _():
    with running() as task:
        equal(ctr("task", "exec", "--exec-id", "e1", "--cwd", "/tmp", "--user", "1000:29", task, "sh", "-c", "pwd; id -u; id -g"), "/tmp\n1000\n29\n")
        ctr("task", "exec", "--exec-id", "e2", task, "sh", "-c", "exit 5", rc=5)
        contains(ctr("task", "exec", "--exec-id", "e3", task, "no-such-program", rc=1, both=True), "executable file not found in $PATH")
        t = Terminal("ctr", "task", "exec", "-t", "--exec-id", "e4", task, "sh")
        t.expect("# ")
        t.send("tty; exit 6\r")
        t.expect(r"/dev/pts/\d")
        t.end(6)


@step("task pause and resume")
def _():
    with running(cmd=("sh", "-c", "while :; do date +%s%N > /n; sleep 0.05; done")) as task:
        path = f"/proc/{pid(task)}/root/n"

        def now():
            with open(path) as file:
                return file.read()
        until("it counts", lambda: os.path.exists(path))
        ctr("task", "pause", task)
        equal(status(task), "PAUSED")
        first = now()
        sh("sleep", "0.3")
        equal(now(), first)
        ctr("task", "resume", task)
        equal(status(task), "RUNNING")
        until("it counts again", lambda: now() != first)


@step("task kill by name and number, --all, and of one that has ended")
def _():
    with running(cmd=("sh", "-c", "trap 'echo > /usr1' USR1; echo > /up; while :; do sleep 0.05; done")) as task:
        root = f"/proc/{pid(task)}/root"
        until("it is up", lambda: os.path.exists(f"{root}/up"))
        ctr("task", "kill", "-s", "SIGUSR1", task)
        until("the trap ran", lambda: os.path.exists(f"{root}/usr1"))
        ctr("task", "kill", "--all", "-s", "9", task)
        until("it has stopped", lambda: status(task) == "STOPPED")
        contains(ctr("task", "kill", task, rc=1, both=True), "process already finished: not found")
    with running() as task:
        contains(ctr("task", "delete", task, rc=1, both=True), "must be stopped before deletion")


@step("task ps lists the processes, task metrics the cgroup's figures")
def _():
    needs_controller("memory", "pids")
    with running() as task:
        ctr("task", "exec", "-d", "--exec-id", "more", task, "sleep", "996")
        pids = ctr("task", "ps", task)
        contains(pids, str(pid(task)), sh("pgrep", "-f", "^sleep 996").strip())
        metrics = json.loads(ctr("task", "metrics", "--format", "json", task))
        equal(int(metrics["pids"]["current"]), 2)
        assert int(metrics["memory"]["usage"]["usage"] if not CGROUP2 else metrics["memory"]["usage"]) > 0


@step("limits of memory and cpu in the cgroup files")
def _():
    needs_controller("memory", "cpu")
    with running("--memory-limit", str(64 << 20), "--cpus", "0.5") as task:
        def limit(v1, v2):
            with open(f"/sys/fs/cgroup/default/{task}/{v2}" if CGROUP2 else f"/sys/fs/cgroup/{v1.split('/')[0]}/default/{task}/{v1.split('/')[1]}") as file:
                return file.read().strip()
        equal(limit("memory/memory.limit_in_bytes", "memory.max"), str(64 << 20))
        equal(limit("cpu/cpu.cfs_quota_us", "cpu.max").split()[0], "50000")


@step("read-only root, host network, devices, privileged, seccomp, masks and mounts")
def _():
    contains(run("--read-only", "touch /x", rc=1, both=True), "Read-only file system")
    equal(run("--net-host", "readlink /proc/self/ns/net").strip(), os.readlink("/proc/self/ns/net"))
    contains(run("--privileged", "grep CapEff /proc/self/status"), matches(open("/proc/self/status").read(), r"CapBnd:\s*(\w+)").group(1))
    contains(run("--seccomp", "grep Seccomp: /proc/self/status"), "2")
    os.makedirs("/tmp/ctr-share", exist_ok=True)
    run("--mount", "type=bind,src=/tmp/ctr-share,dst=/share,options=rbind:rw", "echo x > /share/f")
    assert os.path.exists("/tmp/ctr-share/f")
    contains(run("--mount", "type=tmpfs,dst=/t,options=size=1m", "grep ' /t ' /proc/mounts"), "size=1024k")
    run("--device", "/dev/full", "[ -c /dev/full ]")
    equal(run("--user", "1000:29", "id -u; id -g"), "1000\n29\n")
    equal(run("--cwd", "/tmp", "--env", "A=b", "pwd; echo $A"), "/tmp\nb\n")
    equal(run("--hostname", "demo", "hostname"), "demo\n")


@step("id mappings of a user namespace")
def _():
    out = run("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "--remap-labels=false", "cat /proc/self/uid_map; id -u", rc=None, both=True)
    equal(out.split(), ["0", "100000", "65536", "0"])


@step("a task outlives containerd and is managed again")
def _():
    with running() as task:
        first = pid(task)
        Engine.daemon.stop()
        os.kill(first, 0)
        start_daemon()
        equal((status(task), pid(task)), ("RUNNING", first))
        equal(ctr("task", "exec", "--exec-id", "again", task, "echo", "again"), "again\n")


@step("a killed shim takes its container along")
def _():
    with running() as task:
        first = pid(task)
        os.kill(int(sh("pgrep", "-f", f"containerd-shim-runc-v2.*-id {task}( |$)").split()[0]), 9)
        until("the process is gone with its shim", lambda: not os.path.exists(f"/proc/{first}"))


CONFIG = """version = 3

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'tested'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tested]
  runtime_type = 'io.containerd.runc.v2'

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tested.options]
    BinaryName = '%s'
    SystemdCgroup = false
"""


def start_daemon():
    os.makedirs("/etc/containerd", exist_ok=True)
    with open("/etc/containerd/config.toml", "w") as file:
        file.write(CONFIG % Engine.runtime)
    Engine.daemon = Daemon(LOG, "containerd", "-l", "warn")
    Engine.daemon.wait_for("/run/containerd/containerd.sock")
    until("containerd answers", lambda: sh("ctr", "version", rc=None))


def start():
    Engine.before = Snapshot()
    start_daemon()
    image.docker_archive("/tmp/base-image.tar", "knarr/base:1")
    ctr("image", "import", "/tmp/base-image.tar")
    contains(ctr("image", "ls"), IMAGE)


def stop():
    for line in ctr("task", "ls", "-q").split():
        ctr("task", "rm", "-f", line, rc=None)
    ctr("container", "rm", *ctr("container", "ls", "-q").split(), rc=None)
    Engine.daemon.stop()
    Engine.before.nothing_left(but=r"^cgroup \S+/default$")


def engine(runtime):
    Engine.runtime = runtime
    return start, stop
