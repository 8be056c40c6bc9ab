"""Tests: the program's start and end, what is left behind by it, and what an init holds and costs while it waits."""
import os
import signal
import subprocess
import sys
import time

import inits
from inits import Init, Skip, children, equal, record, run, status, test, until

ORPHANS = """
import os, sys, time
def dead():
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try: count += open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
        except OSError: pass
    return count
os.system("n=%s; while [ $n -gt 0 ]; do (: &); n=$((n - 1)); done" % sys.argv[1])
end = time.monotonic() + float(sys.argv[2])
while (left := dead()) and time.monotonic() < end: time.sleep(0.05)
print(left, flush=True)
sys.exit(7)
"""


@test("thousands of orphans are reaped while the program lives", agree="tini tini-static catatonit dumb-init", differ="nothing")
def orphans(path):
    flags = [] if path == "nothing" else [path, "--"]
    out = subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *flags, sys.executable, "-c", ORPHANS, "2000",
                          str(inits.patience)], stdout=subprocess.PIPE, timeout=120, check=False)
    equal((out.stdout.strip(), out.returncode), (b"0", 7))


@test("the exit status is the program's", agree="tini tini-static catatonit dumb-init")
def codes(path):
    for code in (0, 1, 2, 7, 126, 127, 128, 143, 200, 255):
        equal(run(path, "--", "sh", "-c", f"exit {code}")[0], code)


@test("a program that a signal ended gives 128 and its number", agree="tini catatonit dumb-init")
def signalled(path):
    for number in (1, 6, 9, 11, 15, 40, 64):
        equal(run(path, "--", sys.executable, "-c", f"import os; os.kill(os.getpid(), {number})")[0], 128 + number)


@test("-e makes an exit status 0, as often as it is given", agree="tini tini-static", differ="catatonit")
def remapped(path):
    for code, want in ((143, 0), (7, 0), (8, 8), (0, 0)):
        equal(run(path, "-e", "143", "-e7", "--", "sh", "-c", f"exit {code}")[0], want)
    equal(run(path, "-e", "143", "--", "sh", "-c", "kill $$")[0], 0)


@test("a program that is not there is 127, one that can not be run 126", agree="tini", differ="catatonit dumb-init")
def not_run(path):
    for program, code in (("/nope", 127), ("nope", 127), ("/etc/passwd", 126)):
        seen, _, err = run(path, "--", program)
        equal(seen, code)
        assert program in err, f"{err!r} does not name {program}"


@test("a program is found by PATH, and a script without a first line is the shell's", agree="tini catatonit dumb-init")
def path_search(path):
    folder = f"/tmp/knarr-init-path-{os.getpid()}"
    os.makedirs(f"{folder}/a/prog")
    os.makedirs(f"{folder}/b")
    try:
        with open(f"{folder}/b/prog", "w") as file:
            file.write("echo $0 $1 $2; exit 5\n")
        os.chmod(f"{folder}/b/prog", 0o755)
        got = run(path, "--", "prog", "one", "two", env={"PATH": f"{folder}/no:{folder}/a:{folder}/b:{os.environ['PATH']}"})
        equal(got[:2], (5, f"{folder}/b/prog one two\n"))
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


@test("an environment without PATH still finds programs", agree="tini catatonit dumb-init")
def no_path(path):
    out = subprocess.run(["env", "-u", "PATH", path, "--", "sh", "-c", "exit 6"], stderr=subprocess.DEVNULL, check=False)
    equal(out.returncode, 6)


@test("inits in each other pass on and reap", agree="tini catatonit dumb-init")
def nested(path):
    with Init(path, "--", path, "--", path, "--", sys.executable, "-c",
              "import os,signal\nif os.fork(): print('up', flush=True); signal.pause()\nelse: os._exit(0)") as init:
        init.line()
        init.kill(15)
        equal(init.end(), 143)


@test("not the first process: orphans come to the init and are reaped", agree="catatonit", differ="tini dumb-init")
def subreaper(path):
    equal(adopts(path), "adopted")


@test("-s makes a subreaper", agree="tini")
def subreaper_by_flag(path):
    equal(adopts(path, "-s"), "adopted")


def adopts(path, *flags):
    script = "(sh -c 'echo $$; exec sleep 100' &) ; exec sleep 100"
    with Init(path, *flags, "--", "sh", "-c", script, first=False) as init:
        orphan = int(init.line())
        try:
            until("it has another parent", lambda: status(orphan, "PPid") == str(init.pid))
        except AssertionError:
            return "not adopted"
        finally:
            os.kill(orphan, signal.SIGKILL)
        until("it is reaped", lambda: not os.path.exists(f"/proc/{orphan}"))
        return "adopted"


@test("a caller that ignores SIGCHLD still gets the program's status", differ="tini")
def ignored_children(path):
    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    with Init(path, "-s", "--", "sh", "-c", "sleep 0.1; exit 4", first=False, preexec=ignore) as init:
        equal(init.end(inits.patience), 4)


@test("LISTEN_PID becomes the program's pid", agree="catatonit", differ="tini")
def listeners(path):
    equal(run(path, "--", "sh", "-c", "echo $LISTEN_PID $LISTEN_FDS $$", env={"LISTEN_PID": "1", "LISTEN_FDS": "2"})[1], "2 2 2\n")


@test("a LISTEN_PID that means another process stays", agree="tini catatonit")
def other_listener(path):
    equal(run(path, "--", "sh", "-c", "echo $LISTEN_PID", env={"LISTEN_PID": "77"})[1], "77\n")


@test("an init holds no descriptors of its caller's, the program gets them", agree="catatonit", differ="tini dumb-init")
def lets_go(path):
    fd = os.open("/etc/passwd", os.O_RDONLY)
    try:
        with Init(path, "--", "sh", "-c", f"cat <&{fd} | head -1; pwd; exec sleep 100", pass_fds=[fd], cwd="/usr") as init:
            equal((init.line(), init.line()), (open("/etc/passwd").readline().strip(), "/usr"))
            # the program may run before the init has let go
            until("it has let go of the file", lambda: "/etc/passwd" not in held(init.pid))
    finally:
        os.close(fd)


def held(pid):
    """What its descriptors are."""
    files = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            files.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            pass
    return files


@test("an init's working directory is the root, the program's its caller's", agree="dumb-init", differ="tini")
def works_nowhere(path):
    with Init(path, "--", "sh", "-c", "pwd; exec sleep 100", cwd="/usr") as init:
        equal(init.line(), "/usr")
        until("it is in the root", lambda: os.readlink(f"/proc/{init.pid}/cwd") == "/")


@test("with -k what is left gets SIGTERM and the time to end")
def grace(path):
    left = "trap 'sleep 0.2; echo done; exit' TERM; echo up; while :; do sleep 0.05; done"
    for first in (True, False):
        with leaves(path, "-k", "60", left=left, first=first) as init:
            equal(init.line(), "up")
            init.process.stdin.close()
            equal((init.line(), init.end()), ("done", 3))


@test("with -k what does not end is killed, and the status stays the program's")
def grace_over(path):
    for first in (True, False):
        left = "trap '' TERM; echo \\$\\$; while :; do sleep 0.05; done"
        with leaves(path, "-k", "1", left=left, first=first) as init:
            pid = int(init.line())
            init.process.stdin.close()
            equal(init.end(), 3)
        if not first:
            until("what was left is dead", lambda: is_dead(pid))


def leaves(path, *flags, left, first):
    """An init whose program starts another and ends with 3 when its input ends."""
    return Init(path, *flags, "--", "sh", "-c", f"sh -c \"{left}\" & read end; exit 3", first=first, stdin=subprocess.PIPE)


def is_dead(pid):
    """Gone, or a zombie that its new parent has not reaped yet."""
    try:
        return status(pid, "State")[0] in "ZX"
    except OSError:
        return True


@test("-P reaps, and ends by SIGINT", agree="catatonit")
def pause(path):
    with Init(path, "-P", stdout=subprocess.DEVNULL) as init:
        until("it waits", lambda: (status(init.pid, "Name"), status(init.pid, "State")[0]) == (os.path.basename(path)[:15], "S"))
        enter = ["nsenter", f"--target={init.pid}", "--pid", "--", "sh", "-c", "(sleep 0.1 &)"]
        subprocess.run(enter, check=True)
        until("the orphan is reaped", lambda: not children(init.pid))
        init.kill(2)
        equal(init.end(), 0)


@test("--version says tini's name, as Docker wants it", agree="tini tini-static catatonit", differ="dumb-init")
def version(path):
    code, out, _ = run(path, "--version")
    equal((code, out.startswith("tini version ")), (0, True))


@test("-h, -l and -V tell, on standard output", differ="dumb-init")
def tells(path):
    for flag, part in (("-h", "-e N"), ("-l", "icense"), ("-V", "version")):
        code, out, err = run(path, flag)
        equal((code, part in out, err), (0, True, ""))


@test("an init that waits is not woken", agree="catatonit dumb-init", differ="tini")
def asleep(path):
    with Init(path, "--", "sleep", "100") as init:
        until("all is up", lambda: children(init.pid) and status(children(init.pid)[0], "Name") == "sleep")
        # before it waits it may be woken as often as it likes
        until("it is not woken for 2.5 s", lambda: not woken(init.pid, 2.5))


def woken(pid, seconds):
    before = status(pid, "voluntary_ctxt_switches")
    time.sleep(seconds)
    return status(pid, "voluntary_ctxt_switches") != before


@test("an init that waits has at most 32 kB, one thread and no heap", differ="tini catatonit dumb-init")
def small(path):
    if "debug" in path:
        raise Skip("not a release build")
    # words and environment lie on its stack: what they take is the caller's
    with Init("env", "-i", "PATH=/usr/bin:/bin", path, "--", "sleep", "100") as init:
        until("all is up", lambda: children(init.pid) and status(children(init.pid)[0], "Name") == "sleep")
        with open(f"/proc/{init.pid}/smaps_rollup") as file:
            rss = next(int(line.split()[1]) for line in file if line.startswith("Rss:"))
        with open(f"/proc/{init.pid}/maps") as file:
            assert "[heap]" not in file.read(), "a heap"
        assert rss <= 32, f"{rss} kB"
        equal(status(init.pid, "Threads"), "1")


@test("the program has no capability, limit or flag that the init did not have", agree="tini catatonit dumb-init")
def same(path):
    fields = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")
    with record(path, first=False) as init:
        child = children(init.pid)[0]
        equal([status(child, f) for f in fields], [status(os.getpid(), f) for f in fields])
