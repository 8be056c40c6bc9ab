"""containerd's shim under faults: containerd stopped and killed under running tasks, shims killed at any moment."""
import os
import random
import re
import signal
import subprocess
import time

from containerd_engine import BUNDLES, IMAGE, Engine, Events, ctr, execute, flags, leftovers, nothing_but, pid, reset, running, shim_pid, start_daemon, status
from shim_engine import suite
from steps import QUICK, SLOW, Snapshot, contains, equal, sh, until

step = suite.step


def but():
    """What may be there which was not before: a new containerd and, of Go's shim killed in the middle of `create`, the cgroups."""
    return r"^process \d+ \S*containerd -l" + (r"|^cgroup " if Engine.tested.is_debians else "")


def kill_daemon():
    Engine.daemon.process.kill()
    Engine.daemon.process.wait()


def lines(log):
    """A log's lines, but not one that is being written."""
    with open(log) as file:
        return [line.rstrip("\n") for line in file if line.endswith("\n")]


def gone_and_back(how):
    """What must be so after containerd was away: exits in between are reported, the rest continues."""
    log = f"/tmp/away{random.randrange(1 << 30)}"
    with running("--log-uri", f"file://{log}", cmd=("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done")) as stays, \
            running(cmd=("sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 9")) as ends, \
            running() as killed:
        pids = {task: pid(task) for task in (stays, ends, killed)}
        ctr("task", "exec", "-d", "--exec-id", "inner", stays, "sleep", "991")
        how()
        with open(f"/proc/{pids[ends]}/root/go", "w"):
            pass
        until("one ends by itself while containerd is away", lambda: not os.path.exists(f"/proc/{pids[ends]}/root/bin"))
        os.kill(pids[killed], signal.SIGKILL)
        written = len(lines(log))
        time.sleep(0.5)
        start_daemon()
        equal((status(stays), pid(stays)), ("RUNNING", pids[stays]))
        if forgotten := [task for task in (ends, killed) if not status(task)]:
            # containerd takes a shim without processes for one that leaked, and ends it with what it knew
            assert Engine.tested.is_debians, f"{forgotten} ended while containerd was away, and their exits are forgotten"
        else:
            until("the exits are known", lambda: (status(ends), status(killed)) == ("STOPPED", "STOPPED"))
            contains(ctr("task", "delete", ends, both=True), "exit code 9")
            contains(ctr("task", "delete", killed, both=True), "exit code 137")
        contains(ctr("task", "ps", stays), str(pids[stays]), until("the exec runs", lambda: sh("pgrep", "-f", "^sleep 991", rc=None).strip()))
        equal(execute(stays, "echo", "again"), "again\n")
        until("the log continues", lambda: len(lines(log)) > written + 5)
        seen = lines(log)
        equal(seen, [str(n) for n in range(1, len(seen) + 1)])
        with Events() as events:
            ctr("task", "kill", "-s", "9", stays)
            assert "exit" in events.wait(stays, "exit"), "no event after the restart"


@step("containerd stopped by SIGTERM under running tasks and started again")
def _():
    gone_and_back(lambda: Engine.daemon.stop())


@step("containerd killed by SIGKILL under running tasks and started again")
def _():
    gone_and_back(kill_daemon)


@step("a task's FIFOs work again after containerd was killed")
def _():
    with running(cmd=("sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01; done")) as task:
        for _ in range(2):
            reader = subprocess.Popen([f"{Engine.bin}/ctr", "task", "attach", task], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            contains(reader.stdout.readline().decode(), "line")
            reader.send_signal(signal.SIGSTOP)  # a ctr that sees its containerd end removes the FIFOs' directory
            kill_daemon()
            reader.kill()
            reader.wait()
            start_daemon()
        equal(status(task), "RUNNING")


@step("containerd killed again and again while tasks start and end")
def _():
    snapshot = Snapshot()
    for turn in range(3 if QUICK else 20):
        clients = [subprocess.Popen([f"{Engine.bin}/ctr", "run", "--rm", "--null-io", *flags(), IMAGE, f"storm{turn}x{i}", "sleep", "0.1"],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(4)]
        time.sleep(random.random() * 0.4)
        kill_daemon()
        for client in clients:
            client.wait(60 * SLOW)
        start_daemon()
        reset()
    until("no task is left", lambda: "storm" not in ctr("task", "ls") + ctr("container", "ls") or reset())
    nothing_but([], 60)  # a shim of which containerd never wrote down the address ends when no client has connected for a while
    if Engine.tested.is_debians:  # one that was started, but of which containerd had not yet written down the address
        for process in sh("pgrep", "-f", rf"{re.escape(Engine.tested.shim)}.* -id storm", rc=None).split():
            os.kill(int(process), signal.SIGKILL)
    snapshot.nothing_left(but=but())


def victim(name, client):
    """The process to kill, once it is there; none if the client's task was over before one was seen: a machine may be slow to look."""
    found = []

    def look():
        over = client.poll() is not None
        found[:] = sh("pgrep", "-f", rf"{re.escape(Engine.tested.shim)}.* -id {name}( |$)", rc=None).split()
        return found or over
    until("the shim is there", look)
    return found


@step("a shim killed by SIGKILL: the exit is reported with 137, and nothing of the task is left")
def _():
    before, snapshot = leftovers(), Snapshot()
    with Events() as events:
        with running(cmd=("sh", "-c", "sleep 1000 & sleep 1000")) as task:
            first = pid(task)
            ctr("task", "exec", "-d", "--exec-id", "more", task, "sleep", "990")
            os.kill(shim_pid(task), signal.SIGKILL)
            until("the process is gone with its shim", lambda: not os.path.exists(f"/proc/{first}"))
            events.wait(task, "exit")
            topics = events.wait(task)
            equal(sorted(topics[-2:]), ["delete", "exit"])
            # containerd itself reports it, after the shim's `delete`
            equal([fields["exit_status"] for topic, fields in events.seen(task) if topic == "/tasks/exit"], [137])
            until("the task is gone", lambda: status(task) is None)
            assert not os.path.exists(f"{BUNDLES}/{task}"), "the bundle is still there"
    snapshot.nothing_left(but=r"^process \d+ ctr events|^process \d+ \S*/ctr events")
    nothing_but(before)


@step("a shim killed while containerd is away is cleaned up when it comes back")
def _():
    before, snapshot = leftovers(), Snapshot()
    with running() as one, running() as two:
        first, second = pid(one), pid(two)
        shim = shim_pid(one)
        kill_daemon()
        os.kill(shim, signal.SIGKILL)
        os.kill(first, 0)
        start_daemon()
        until("its process is gone", lambda: not os.path.exists(f"/proc/{first}"))
        until("its bundle is gone", lambda: not os.path.exists(f"{BUNDLES}/{one}"))
        equal((status(two), pid(two)), ("RUNNING", second))
    snapshot.nothing_left(but=but())
    nothing_but(before)


@step("a shim killed at any moment of a task's life leaves nothing")
def _():
    before, snapshot, seen = leftovers(), Snapshot(), 0
    for turn in range(10 if QUICK else 100):
        name = f"killed{turn}"
        client = subprocess.Popen([f"{Engine.bin}/ctr", "run", "--rm", "--null-io", *flags(), IMAGE, name, "sleep", "0.05"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shims = victim(name, client)
        seen += len(shims)
        time.sleep(random.random() * 0.12)
        for shim in shims:
            try:
                os.kill(int(shim), signal.SIGKILL)
            except ProcessLookupError:
                pass  # the task was over before
        client.wait(60 * SLOW)
        ctr("task", "rm", "-f", name, rc=None)
        ctr("container", "rm", name, rc=None)
    assert seen, "not one shim was seen before its task was over"
    contains(ctr("task", "ls"), "TASK")
    snapshot.nothing_left(but=but())
    nothing_but(before)
