"""containerd driven by ctr: what it has a runtime do. The same steps for containerd's own shim with the runtime as BinaryName and
for a tested shim."""
import json
import os

import containerd_engine
from containerd_engine import IMAGE, Engine, ctr, execute, flags, pid, run, running, shim_pid, start_daemon, status
from steps import CGROUP2, Suite, Terminal, contains, equal, matches, needs_controller, sh, stands_still, until
from tested import Tested

suite = Suite("containerd")
step = suite.step


@step("run: output, exit status, kernel and process table")
def _():
    out = run("uname -r; /bin/ps -e -o pid= -o comm= | head -1").split("\n")
    equal(out[0], os.uname().release)
    equal(out[1].split(), ["1", "sh"])
    run("exit 7", rc=7)
    contains(ctr("run", "--rm", *flags(), IMAGE, "none", "no-such-program", rc=1, both=True), "executable file not found in $PATH")


@step("the runtime that runs is the one that was named")
def _():
    if Engine.tested.is_shim:
        with running() as task:
            assert os.path.samefile(f"/proc/{shim_pid(task)}/exe", Engine.tested.path)
        missing = ["--runtime", "io.containerd.nosuch.v2"], "containerd-shim-nosuch-v2"
    else:
        missing = ["--runc-binary", "/no/such/runtime"], "/no/such/runtime"
    contains(ctr("run", "--rm", *missing[0], IMAGE, "none", "true", rc=1, both=True), missing[1])


@step("the CRI part of the configuration is read as docs/engines.md has it")
def _():
    dump = sh("containerd", "config", "dump")
    named = f"runtime_path = '/usr/local/bin/{Engine.tested.shim}'" if Engine.tested.is_shim else f"BinaryName = '{Engine.tested.path}'"
    contains(dump, named, "default_runtime_name = 'tested'", "containerd.runtimes.tested]")


@step("run -t has a terminal")
def _():
    t = Terminal("ctr", "run", "--rm", "-t", *flags(), IMAGE, "term", "sh")
    t.expect("# ")
    t.send("tty\r")
    t.expect(r"/dev/pts/0\s")
    t.expect("# ")
    t.has_its_size()
    t.send("exit 3\r")
    t.end(3)


@step("task exec: output, exit status, user, directory, terminal")
def _():
    with running() as task:
        equal(execute(task, "sh", "-c", "pwd; id -u; id -g", more=("--cwd", "/tmp", "--user", "1000:29")), "/tmp\n1000\n29\n")
        ctr("task", "exec", "--exec-id", "e2", task, "sh", "-c", "exit 5", rc=5)
        contains(ctr("task", "exec", "--exec-id", "e3", task, "no-such-program", rc=1, both=True), "executable file not found in $PATH")
        t = Terminal("ctr", "task", "exec", "-t", "--exec-id", "e4", task, "sh")
        t.expect("# ")
        t.send("tty; exit 6\r")
        t.expect(r"/dev/pts/\d")
        t.end(6)


@step("task pause and resume")
def _():
    counts = ("sh", "-c", "while :; do date +%s%N > /n; sleep 0.05; done")
    with running(cmd=counts) as task, running(cmd=counts) as twin:
        def now(of=task):
            with open(f"/proc/{pid(of)}/root/n") as file:
                return file.read()
        until("both count", lambda: all(os.path.exists(f"/proc/{pid(of)}/root/n") for of in (task, twin)))
        ctr("task", "pause", task)
        equal(status(task), "PAUSED")
        first = stands_still(now, lambda: now(twin))
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
        # the kernel shows a program's command line a moment after its exec
        more = until("the exec runs", lambda: sh("pgrep", "-f", "^sleep 996", rc=None).strip())
        contains(ctr("task", "ps", task), str(pid(task)), more)

        def figures():
            return json.loads(ctr("task", "metrics", "--format", "json", task))
        # a process counts until it is reaped: so do those that made the others, for a moment
        until("two processes are counted", lambda: int(figures()["pids"]["current"]) == 2)
        metrics = figures()
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
        equal(execute(task, "echo", "again"), "again\n")


@step("a killed shim takes its container along")
def _():
    with running() as task:
        first = pid(task)
        os.kill(shim_pid(task), 9)
        until("the process is gone with its shim", lambda: not os.path.exists(f"/proc/{first}"))
        until("containerd has cleaned up", lambda: status(task) is None)


def engine(runtime):
    Engine.tested = Tested(runtime)
    return containerd_engine.engine(suite)
