"""Drives commands on a terminal, as a person would type: typed.py STEP...

Steps: run:COMMAND, size:ROWS,COLUMNS, pause:SECONDS, expect:TEXT (what comes until then is passed over), send:TEXT (both with escapes such as
\\n and \\x10), end:CODE (the command ends with this code). Says what it saw when a step does not come true.
Knows nothing of containers.
"""
import codecs
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

TIMEOUT = 60


class Terminal:
    def __init__(self, command):
        self.seen = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execvp("sh", ["sh", "-c", command])

    def read(self, seconds):
        """False: there will be nothing more."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        self.seen += data
        return data != b""

    def expect(self, text):
        end = time.time() + TIMEOUT
        more = True
        while text not in self.seen:
            if not more or time.time() > end:
                sys.exit(f"expected {text!r}, saw {self.seen!r}")
            more = self.read(0.5)
        self.seen = self.seen.split(text, 1)[1]

    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, code):
        limit = time.time() + TIMEOUT
        more = True
        while True:
            more = more and self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.time() > limit:
                os.kill(self.pid, 9)
                sys.exit(f"does not end; saw {self.seen!r}")
            if not more:
                time.sleep(0.02)
        found = os.waitstatus_to_exitcode(status)
        if found != code:
            sys.exit(f"ended with {found}, not with {code}; saw {self.seen!r}")


terminal = None
for step in sys.argv[1:]:
    what, _, argument = step.partition(":")
    if what == "run":
        terminal = Terminal(argument)
    elif what == "size":
        terminal.size(*map(int, argument.split(",")))
    elif what == "pause":
        time.sleep(float(argument))
    elif what == "expect":
        terminal.expect(codecs.escape_decode(argument.encode())[0])
    elif what == "send":
        os.write(terminal.master, codecs.escape_decode(argument.encode())[0])
    elif what == "end":
        terminal.end(int(argument))
    else:
        sys.exit(f"step {step!r}: is none of run, size, pause, expect, send, end")
