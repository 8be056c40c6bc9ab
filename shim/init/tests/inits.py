"""Runs inits: as the first process of a pid namespace or not, with pipes or a terminal; what a test asks of the kernel about
them; registering and counting tests. It must not know single tests."""
import ctypes
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDER = os.path.join(HERE, "recorder.py")
LAB = os.path.join(os.environ.get("KNARR_LAB", os.path.expanduser("~/.cache/knarr-lab")), "root")
PEERS = ("tini", "tini-static", "catatonit", "dumb-init")
SIGQUEUE = {"x86_64": 129, "aarch64": 138, "riscv64": 138}.get(platform.machine())
libc = ctypes.CDLL(None, use_errno=True)
tests = []
patience = 15  # seconds until what must happen has not


class Skip(Exception):
    """This machine lacks what the test needs."""


def test(name, agree="", differ=""):
    """Registers a test. It is run with knarr-init; with the peers that `agree`, which must pass too and so prove the test right; and
    with those that `differ`, which must fail and so prove that it can."""
    def register(function):
        tests.append((name, function, agree.split(), differ.split()))
        return function
    return register


def find(name):
    """A peer: this machine's or the lab's (whose dynamic ones can run only there)."""
    return shutil.which(name) or next((p for p in [f"{LAB}/usr/bin/{name}"] if os.path.exists(p) and name == "catatonit"), None)


class Init:
    """An init with a program under it."""

    def __init__(self, path, *words, first=True, preexec=None, env=None, stdin=subprocess.DEVNULL, **options):
        self.words = [path, *map(str, words)]
        wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if first else []
        if options.pop("strace", None):
            wrapper = ["strace", "-D", "-o", "/dev/null", "-e", "trace=prctl", "-e", "inject=prctl:delay_enter=2000000"]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        self.process = subprocess.Popen(wrapper + self.words, stdin=stdin, preexec_fn=preexec, env={**os.environ, **(env or {})}, **options)
        self.first, self.seen = first, b""

    @property
    def pid(self):
        """The init's, in our own pid namespace."""
        if not self.first:
            return self.process.pid
        return until("unshare has a child", lambda: children(self.process.pid))[0]

    def line(self):
        """The next line of its standard output."""
        fd = self.process.stdout.fileno()
        os.set_blocking(fd, False)
        end = time.monotonic() + patience
        while b"\n" not in self.seen:
            try:
                data = os.read(fd, 65536)
                assert data, f"{self.words}: its output ended; stderr {self.process.stderr and self.process.stderr.read()!r}"
                self.seen += data
            except BlockingIOError:
                assert time.monotonic() < end, f"{self.words}: no line in {patience} s"
                time.sleep(0.002)
        first, _, self.seen = self.seen.partition(b"\n")
        return first.decode()

    def kill(self, number):
        os.kill(self.pid, number)

    def end(self, timeout=20):
        """Its exit status; nothing of it lives on."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.words} did not end in {timeout} s") from None
        code = self.process.returncode
        return 128 - code if code < 0 else code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in [*descendants(self.process.pid), self.process.pid] if self.process.poll() is None else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


def run(path, *words, **options):
    """Runs an init to its end: exit status, output, errors."""
    with Init(path, *words, **options) as init:
        try:
            out, err = init.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{init.words} did not end in 20 s") from None
        code = init.process.returncode
        return (128 - code if code < 0 else code), out.decode(), err.decode()


def record(path, *flags, count=1, words=(), **options):
    """A recorder under an init, and its pid, process group, session and parent as it sees them."""
    init = Init(path, *flags, "--", sys.executable, RECORDER, count, *words, **options)
    try:
        lines = [init.line().split() for _ in range(2 if "fork" in words else 1)]
        init.ids = next([int(i) for i in line[1:]] for line in lines if line[0] == "ready")
    except BaseException:
        init.__exit__()
        raise
    return init


def sigqueue(pid, number, value):
    """sigqueue(3), by the raw call."""
    info = (ctypes.c_int * 32)(number, 0, -1, 0, os.getpid(), os.getuid(), value)
    assert libc.syscall(SIGQUEUE, pid, number, ctypes.byref(info)) == 0, os.strerror(ctypes.get_errno())


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(p) for p in file.read().split()]
    except OSError:
        return []


def descendants(pid):
    return [d for child in children(pid) for d in [*descendants(child), child]]


def status(pid, field):
    with open(f"/proc/{pid}/status") as file:
        return next(line.split(":", 1)[1].strip() for line in file if line.startswith(field + ":"))


def until(what, check, timeout=None):
    timeout = timeout or patience
    end = time.monotonic() + timeout
    while not (value := check()):
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.005)
    return value


def equal(seen, wanted):
    assert seen == wanted, f"seen {seen!r}, wanted {wanted!r}"


def attempt(function, path):
    """None if the test passed, else why not."""
    try:
        function(path)
    except Skip:
        raise
    except Exception as error:
        where = next(f for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename != __file__)
        return f"{os.path.basename(where.filename)}:{where.lineno}: {error!r}"
    return None


def main(path, only):
    global patience
    count = {"passed": 0, "failed": 0, "skipped": 0}

    def say(word, label, why=""):
        count[word] += 1
        why = why and f"\n#   {why}" if word == "failed" else f"# skipped: {why}" if word == "skipped" else f"# {time.monotonic() - began:.1f} s"
        print("not ok" if word == "failed" else "ok", sum(count.values()), label, why, flush=True)

    for name, function, agree, differ in tests:
        if only not in name:
            continue
        for who in ["knarr-init", *agree, *differ]:
            began = time.monotonic()
            program = path if who == "knarr-init" else find(who) or who
            patience = 2 if who in differ else 15
            label = f"{who}: {name}" if who not in differ else f"{who} is known to fail: {name}"
            try:
                if "/" not in program and who != "nothing":
                    raise Skip(f"no {who} on this machine")
                why = attempt(function, program)
            except Skip as skip:
                say("skipped", label, str(skip))
                continue
            if who in differ:
                say("passed" if why else "failed", label, "" if why else "but it passed")
            else:
                say("failed" if why else "passed", label, why or "")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] else 0
