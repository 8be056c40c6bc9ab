"""Tests: inits on a terminal: who is in the foreground, who gets the keys, who may write."""
import os
import pty
import select
import signal
import sys
import termios
import time

import inits
from inits import equal, test


class Terminal:
    """A session on a pseudo terminal. `stop` sets TOSTOP: who writes from the background is stopped."""

    def __init__(self, *words, stop=False):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                modes = termios.tcgetattr(0)
                modes[3] = (modes[3] | termios.TOSTOP) if stop else modes[3]
                modes[3] &= ~termios.ECHO
                termios.tcsetattr(0, termios.TCSANOW, modes)
                os.execvp(words[0], words)
            finally:
                os._exit(99)

    def expect(self, text):
        end = time.monotonic() + inits.patience
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f"no {text!r} but {self.seen!r}"
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the terminal closed without {text!r}: {self.seen!r}") from None
        self.seen = self.seen.partition(text)[2]

    def end(self):
        end = time.monotonic() + inits.patience
        while time.monotonic() < end:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(code)
            if select.select([self.fd], [], [], 0.02)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    time.sleep(0.02)
        raise AssertionError(f"it did not end: {self.seen!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


PROGRAM = """
import os, sys, signal
print("foreground", os.tcgetpgrp(0) == os.getpgrp(), flush=True)
print("read", input(), flush=True)
# a handler of Python's may be called only after the next signal
signal.pthread_sigmask(signal.SIG_BLOCK, {2})
print("up", flush=True)
signal.sigwait({2})
print("interrupted", flush=True)
sys.exit(8)
"""


@test("on a terminal with TOSTOP the program is in the foreground: it reads, writes and gets the keys", agree="tini catatonit")
def foreground(path):
    with Terminal("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", path, "--", sys.executable, "-c", PROGRAM, stop=True) as terminal:
        terminal.expect("foreground True")
        os.write(terminal.fd, b"hello\n")
        terminal.expect("read hello")
        terminal.expect("up")
        os.write(terminal.fd, b"\x03")
        terminal.expect("interrupted")
        equal(terminal.end(), 8)


@test("an init writes to a terminal with TOSTOP while its program has the foreground", agree="tini")
def writes(path):
    with Terminal("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", path, "-vvv", "--", sys.executable, "-c",
                  "import os,signal\nsignal.pthread_sigmask(0, {10})\nos.kill(1, 10)\nsignal.sigwait({10})\nprint('got', flush=True)",
                  stop=True) as terminal:
        terminal.expect("got")
        equal(terminal.end(), 0)


@test("an init in the background leaves the terminal to who has it", differ="tini")
def background(path):
    script = ("import os,subprocess,sys\n"
              f"child = subprocess.Popen([{path!r}, '--', 'sh', '-c', 'echo; exec sleep 100'], preexec_fn=os.setpgrp, stdout=subprocess.PIPE)\n"
              "child.stdout.readline()\nmine = os.tcgetpgrp(0) == os.getpgrp()\nchild.terminate()\nchild.wait()\nsys.exit(not mine)")
    with Terminal(sys.executable, "-c", script) as terminal:
        equal(terminal.end(), 0)
