"""recorder.py COUNT [fork] [plain]: blocks all signals, says "ready PID PGID SID PPID", then one line "SIGNAL CODE VALUE" for each of COUNT
signals, and exits with 0. With `fork`, a child in the same process group does so too (its lines begin with "child"). Raw system
calls, because C libraries keep signals 32 and 33 for themselves."""
import ctypes
import os
import platform
import sys

PROCMASK, TIMEDWAIT = {"x86_64": (14, 128), "aarch64": (135, 137), "riscv64": (135, 137)}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
every = ctypes.c_uint64(2 ** 64 - 1)


class Info(ctypes.Structure):
    _fields_ = [("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int), ("pad", ctypes.c_int),
                ("pid", ctypes.c_int), ("uid", ctypes.c_int), ("value", ctypes.c_int), ("rest", ctypes.c_int * 25)]


def record(count, prefix=""):
    # one write for each line, so that two recorders' lines do not mix
    os.write(1, f"{prefix}ready {os.getpid()} {os.getpgrp()} {os.getsid(0)} {os.getppid()}\n".encode())
    info = Info()
    while count:
        if libc.syscall(TIMEDWAIT, ctypes.byref(every), ctypes.byref(info), None, 8) > 0 and info.signo != 17:
            os.write(1, f"{prefix}{info.signo} {info.code} {info.value if info.code < 0 else 0}\n".encode())
            count -= 1


def main(count, *words):
    libc.syscall(PROCMASK, 2, ctypes.byref(every), None, 8)
    if "fork" in words and os.fork() == 0:
        record(count, "child ")
        os._exit(0)
    record(count)
    if "fork" in words:
        os.wait()


main(int(sys.argv[1]), *sys.argv[2:])
