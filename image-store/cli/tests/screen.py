"""What a person sees: screen.py ROWS COLUMNS COMMAND... runs a command on a terminal of that size and prints what is on it in the
end, with what has scrolled away before it. Knows as much of a terminal as progress bars need.
"""
import fcntl
import os
import pty
import re
import struct
import sys
import termios

rows, columns = int(sys.argv[1]), int(sys.argv[2])
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
if (pid := os.fork()) == 0:
    os.close(master)
    os.login_tty(slave) if hasattr(os, "login_tty") else [os.setsid(), [os.dup2(slave, fd) for fd in range(3)]]
    os.execvp(sys.argv[3], sys.argv[3:])
os.close(slave)
seen = b""
while True:
    try:
        data = os.read(master, 65536)
    except OSError:  # the last one has closed its side
        break
    if not data:
        break
    seen += data
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

screen, away, y, x = [""] * rows, [], 0, 0


def down():
    global y
    y += 1
    if y == rows:
        away.append(screen.pop(0))
        screen.append("")
        y = rows - 1


for token in re.findall(r"\x1b\[\d*[A-Za-z]|[^\x1b]", seen.decode()):
    if token == "\r":
        x = 0
    elif token == "\n":
        down()
    elif token.endswith("A") and len(token) > 1:
        y = max(0, y - int(token[2:-1] or 1))
    elif token == "\x1b[K":
        screen[y] = screen[y][:x]
    else:
        if x == columns:
            x = 0
            down()
        screen[y] = screen[y][:x].ljust(x) + token + screen[y][x + 1 :]
        x += 1
print("\n".join(away + screen).rstrip("\n"))
sys.exit(code)
