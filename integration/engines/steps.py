"""What every engine's steps are made of: registering and running them, commands with a time limit, terminals, waiting.
One line is printed for each step, in TAP's manner. It must not know any engine."""
import fcntl
import itertools
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
import traceback

SLOW = float(os.environ.get("ENGINES_SLOW", "1"))
ONLY = os.environ.get("ENGINES_ONLY", "")
QUICK = bool(os.environ.get("ENGINES_QUICK"))
TIOCGPTPEER = 0x5441  # Python has no name for it
CGROUP2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


class Skip(Exception):
    """This machine lacks what the step needs: the text says what."""


class Suite:
    """The steps of one engine, run in the order in which they were written."""

    def __init__(self, name):
        self.name, self.steps, self.logs = name, [], []
        self.reset = lambda: None  # what a failed step left to the next ones is removed by this

    def step(self, name):
        def register(function):
            self.steps.append((name, function))
            return function
        return register


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = self.number = 0

    def run(self, suite, name, function):
        """Runs one step, prints its line, returns whether the next ones make sense."""
        self.number += 1
        began, label = time.monotonic(), f"{self.number} {suite.name}: {name}"
        starts = {log: os.path.getsize(log) if os.path.exists(log) else 0 for log in suite.logs}
        try:
            function()
        except Skip as why:
            self.skipped += 1
            say(f"ok {label} # skipped: {why}")
        except Exception as error:  # a broken step must not hide the steps after it
            self.failed += 1
            say(f"not ok {label} # {time.monotonic() - began:.1f} s")
            where = traceback.extract_tb(error.__traceback__)
            line = next((f for f in where if f.name == function.__name__), where[-1])
            comment(f"{os.path.basename(line.filename)}:{line.lineno}: {line.line}")
            comment(f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else str(error))
            for log, start in starts.items():
                comment(f"-- what {log} says of it\n" + tail(log, start, 8))
            try:
                suite.reset()
            except Exception as after:  # the engine may be what has failed
                comment(f"-- what the step left is still there: {after}")
            return False
        else:
            self.passed += 1
            say(f"ok {label} # {time.monotonic() - began:.1f} s")
        return True

    def summary(self):
        say(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")


def run_suite(tally, suite, start, stop):
    """Starts the engine, runs its steps, stops it. Without a started engine no step is run, and the run has failed."""
    if tally.run(suite, "the engine starts", start):
        for name, function in suite.steps:
            if re.search(ONLY, name):
                tally.run(suite, name, function)
    tally.run(suite, "the engine stops and leaves nothing behind", stop)


def say(line):
    print(line, flush=True)


def comment(text):
    for line in text.rstrip().splitlines():
        say("#   " + line)


def tail(path, start, lines):
    """The last lines of a log after an offset, without those that only inform."""
    try:
        with open(path, errors="replace") as file:
            file.seek(start)
            return "".join([line for line in file if "level=info" not in line and "level=debug" not in line][-lines:])
    except OSError as error:
        return str(error)


def sh(*argv, rc=0, timeout=120, stdin=None, env=None, both=False, cwd=None):
    """Runs a command, demands its exit status (None: any), returns its output. `both` adds what it wrote to stderr."""
    argv = [str(a) for a in argv]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="replace", cwd=cwd,
                               env={**os.environ, **env} if env else None, start_new_session=True)
    try:
        out, err = process.communicate(stdin, timeout=timeout * SLOW)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        # whatever still holds the pipes (a container's process) may never let go of them
        raise AssertionError(f"`{' '.join(argv)}` did not end in {timeout * SLOW:.0f} s") from None
    if rc is not None and process.returncode != rc:
        raise AssertionError(f"`{' '.join(argv)}` ended with {process.returncode}, not {rc}\n{out[-1500:]}{err[-1500:]}")
    return out + err if both else out


def equal(seen, wanted):
    assert seen == wanted, f"seen {seen!r}, wanted {wanted!r}"


def contains(text, *parts):
    for part in parts:
        assert part in text, f"{part!r} is not in {text[-1500:]!r}"


def matches(text, pattern):
    found = re.search(pattern, text, re.M)
    assert found, f"{pattern!r} does not match {text[-1500:]!r}"
    return found


def until(what, check, timeout=60):
    """Waits until check() is true, and returns what it returned."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"not within {timeout * SLOW:.0f} s: {what}"
        time.sleep(0.05)


def stands_still(read, twin):
    """What read() gives stays the same while twin(), the same from something that runs, changes six times."""
    first = read()
    for _ in range(6):
        before = twin()
        until("the twin continues", lambda: twin() != before)
    equal(read(), first)
    return first


class Terminal:
    """A command on a pseudo terminal of 100 columns and 30 rows, as a person would have it."""

    def __init__(self, *argv):
        self.argv, self.seen = " ".join(argv), ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                self.fd = 0
                self.resize(30, 100)  # before the command can look
                os.execvp(argv[0], argv)
            finally:
                os._exit(127)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def follows_resizes(self):
        """The shell in front sees a new size. A signal reports each: one that comes before anything listens is lost."""
        rows = itertools.count(40)

        def resized():
            wanted = str(next(rows))
            self.resize(int(wanted), 120)
            time.sleep(0.2)
            return self._size() == (wanted, "120")
        until("the terminal has the new size", resized)

    def has_its_size(self):
        """The shell in front sees the size: clients that tell of it do so after the start, when the shell may have been asked already."""
        until("the terminal has its size", lambda: self._size() == ("30", "100"))

    def _size(self):
        self.send("echo size $(stty size)\r")
        size = self.expect(r"size (\d+) (\d+)").groups()
        self.expect("# ")
        return size

    def send(self, text):
        os.write(self.fd, text.encode())

    def press(self, *keys):
        """Keys as fingers give them: apart from each other, each when the one before was taken (podman knows no two at once)."""
        for key in keys:
            until("the key before was taken", self._is_taken)
            self.send(key)
            time.sleep(0.1)

    def _is_taken(self):
        """What was sent has been read."""
        tty = fcntl.ioctl(self.fd, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        try:
            return struct.unpack("i", fcntl.ioctl(tty, termios.FIONREAD, bytes(4))) == (0,)
        finally:
            os.close(tty)

    def expect(self, pattern, timeout=60):
        """Waits for a pattern in what has not been matched yet."""
        end = time.monotonic() + timeout * SLOW
        while not (found := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            assert left > 0, f"`{self.argv}`: no {pattern!r} on the terminal, but {self.seen!r}"
            assert self._read(left), f"`{self.argv}` closed its terminal without {pattern!r}: {self.seen!r}"
        self.seen = self.seen[found.end():]
        return found

    def _read(self, timeout):
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the last process of the terminal is gone
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def end(self, rc=0, timeout=60):
        """Waits for the command's end and demands its exit status (None: any)."""
        end = time.monotonic() + timeout * SLOW
        while time.monotonic() < end:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                if rc is not None:
                    equal(os.waitstatus_to_exitcode(status), rc)
                return self.seen
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        raise AssertionError(f"`{self.argv}` did not end; its terminal: {self.seen!r}")


class Daemon:
    """A program in the background with its output in a log."""

    def __init__(self, log, *argv, env=None):
        self.log = log
        with open(log, "a") as out:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env={**os.environ, **(env or {})}, start_new_session=True)

    def alive(self):
        return self.process.poll() is None

    def wait_for(self, path, timeout=60):
        until(f"{self.process.args[0]} makes {path}", lambda: os.path.exists(path) or not self.alive(), timeout)
        assert self.alive(), f"{self.process.args[0]} ended with {self.process.returncode}"

    def stop(self, timeout=60):
        if self.alive():
            self.process.terminate()
        try:
            self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.process.args[0]} did not end after SIGTERM") from None


class Snapshot:
    """Processes, mounts, cgroups and links of these namespaces: compared, they show what an engine left behind."""

    def __init__(self):
        self.seen = self._look()

    @staticmethod
    def _look():
        look = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as file, open(f"/proc/{pid}/stat") as stat:
                    state = stat.read().rpartition(")")[2].split()
                    line = file.read().replace("\0", " ").strip()
            except OSError:
                continue
            if line and state[0] != "Z":
                look.add(f"process {pid} {line[:120]}")
        with open("/proc/self/mountinfo") as file:
            look |= {"mount " + line.split()[4] for line in file}
        for directory, names, _ in os.walk("/sys/fs/cgroup"):
            look |= {f"cgroup {os.path.join(directory, name)}" for name in names}
        look |= {"link " + link for link in os.listdir("/sys/class/net")}
        return look

    def nothing_left(self, but=r"^$"):
        """Demands that nothing is there which was not there at first, except what matches `but`."""
        def left():
            return sorted(x for x in self._look() - self.seen if not re.search(but, x))
        try:
            until("all gone", lambda: not left(), 30)
        except AssertionError:
            lines = left()
            raise AssertionError("\n".join(["left behind:", *lines[:20], *([f"and {len(lines) - 20} more"] if lines[20:] else [])])) from None


def needs_criu():
    """Checkpoints take a CRIU that works with this kernel."""
    if not shutil.which("criu"):
        raise Skip("criu is not installed")
    check = subprocess.run(["criu", "check"], capture_output=True, text=True, timeout=60 * SLOW, check=False)
    if check.returncode:
        raise Skip(f"criu check: {check.stderr.strip().splitlines()[-1:]}")


def needs_controller(*names):
    """Skips the step on a cgroup v2 tree without these controllers (a hybrid machine's has nearly none)."""
    if CGROUP2:
        with open("/sys/fs/cgroup/cgroup.controllers") as file:
            missing = sorted(set(names) - set(file.read().split()))
        if missing:
            raise Skip(f"cgroup v2 has no controller {' '.join(missing)} on this machine")


def has_capability(number):
    """Whether this process could give a capability to others."""
    with open("/proc/self/status") as file:
        return bool(int(re.search(r"CapBnd:\s*(\w+)", file.read()).group(1), 16) >> number & 1)
