"""Docker: capabilities, seccomp, users, limits in the cgroup files and in force, devices, read-only roots."""
import json
import os

from docker_engine import IMAGE, docker, host_pid, inspect, run, running, suite
from steps import CGROUP2, Skip, Terminal, contains, equal, has_capability, matches, needs_controller, sh, until

step = suite.step
CAP_SYS_RESOURCE = 24


def limit(box, v1, v2):
    """A cgroup file of a running container, as the container itself sees it: the name on cgroup v1, the name on v2."""
    return docker("exec", box, "cat", f"/sys/fs/cgroup/{v2 if CGROUP2 else v1}").strip()


def field(status, name):
    return matches(status, rf"^{name}:\s*(.*)$").group(1)


@step("hostname is refused, with --cap-add=SYS_ADMIN it works")
def _():
    contains(run("hostname hello", rc=1, both=True), "not permitted")
    equal(run("--cap-add=SYS_ADMIN", "hostname hello; hostname"), "hello\n")


@step("the capability sets are Docker's, none with --cap-drop=ALL, all with --privileged")
def _():
    show = "cat /proc/self/status"
    status = run(show)
    for name in "CapPrm", "CapEff", "CapBnd":
        equal(field(status, name), "00000000a80425fb")
    for name in "CapInh", "CapAmb":
        equal(field(status, name), "0000000000000000")
    equal(field(run("--cap-drop=ALL", show), "CapBnd"), "0000000000000000")
    equal(field(run("--cap-drop=ALL", "--cap-add=NET_ADMIN", show), "CapEff"), "0000000000001000")
    with open("/proc/self/status") as file:
        equal(field(run("--privileged", show), "CapEff"), field(file.read(), "CapBnd"))


@step("no-new-privileges")
def _():
    equal(field(run("cat /proc/self/status"), "NoNewPrivs"), "0")
    equal(field(run("--security-opt", "no-new-privileges", "cat /proc/self/status"), "NoNewPrivs"), "1")


@step("the default seccomp profile is in force, unconfined lifts it, a profile of one's own works")
def _():
    equal(field(run("cat /proc/self/status"), "Seccomp"), "2")
    contains(run("unshare --user true", rc=1, both=True), "Operation not permitted")
    equal(field(run("--security-opt", "seccomp=unconfined", "unshare --user cat /proc/self/status"), "Seccomp"), "0")
    with open("/tmp/profile.json", "w") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}, file)
    contains(run("--security-opt", "seccomp=/tmp/profile.json", "mkdir /d", rc=1, both=True), "Function not implemented")


@step("masked and read-only paths of /proc and /sys")
def _():
    run("! echo 1 2>/dev/null > /proc/sys/kernel/hostname; ! echo b 2>/dev/null > /proc/sysrq-trigger; [ ! -s /proc/kcore ]; "
        "[ -z \"$(ls /sys/firmware)\" ]; ! mkdir /sys/fs/cgroup/x 2>/dev/null; [ ! -s /proc/timer_list ]")
    run("--privileged", "cat /proc/sys/kernel/hostname > /tmp/h && cat /tmp/h > /proc/sys/kernel/hostname")


@step("-m, --memory-swap and --memory-reservation in the cgroup files")
def _():
    needs_controller("memory")
    with running("-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m") as box:
        equal(limit(box, "memory/memory.limit_in_bytes", "memory.max"), str(64 << 20))
        equal(limit(box, "memory/memory.memsw.limit_in_bytes", "memory.swap.max"), str((32 if CGROUP2 else 96) << 20))
        equal(limit(box, "memory/memory.soft_limit_in_bytes", "memory.low"), str(32 << 20))


@step("--cpus, --cpu-shares and --cpuset-cpus in the cgroup files")
def _():
    needs_controller("cpu", "cpuset")
    with running("--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0") as box:
        equal(limit(box, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0], "50000")
        # shares become a weight by a linear formula, and by a quadratic one since runc 1.3.2 and crun 1.23
        assert limit(box, "cpu/cpu.shares", "cpu.weight") in (("20", "59") if CGROUP2 else ("512",))
        equal(limit(box, "cpuset/cpuset.cpus", "cpuset.cpus"), "0")
        equal(docker("exec", box, "nproc").strip(), "1")


@step("--pids-limit in the cgroup file and in force")
def _():
    needs_controller("pids")
    with running("--pids-limit", "8") as box:
        equal(limit(box, "pids/pids.max", "pids.max"), "8")
        contains(docker("exec", box, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do /bin/sleep 5 & done", rc=None, both=True), "can't fork")


@step("I/O limits of a device in the cgroup files")
def _():
    needs_controller("io")
    device = next((d for d in ("vda", "sda", "nvme0n1") if os.path.exists(f"/sys/block/{d}")), None)
    if not device:
        raise Skip("no block device on this machine")
    with open(f"/sys/block/{device}/dev") as file:
        number = file.read().strip()
    with running("--device-read-bps", f"/dev/{device}:1mb", "--device-write-iops", f"/dev/{device}:50") as box:
        contains(limit(box, "blkio/blkio.throttle.read_bps_device", "io.max"), number, "1048576")
        contains(limit(box, "blkio/blkio.throttle.write_iops_device", "io.max"), number, "50")


@step("update changes memory, cpu and pids of a running container")
def _():
    needs_controller("memory", "cpu", "pids")
    with running("-m", "64m", "--memory-swap", "64m") as box:
        docker("update", "-m", "128m", "--memory-swap", "256m", "--cpus", "0.25", "--pids-limit", "20", box)
        equal(limit(box, "memory/memory.limit_in_bytes", "memory.max"), str(128 << 20))
        equal(limit(box, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0], "25000")
        equal(limit(box, "pids/pids.max", "pids.max"), "20")
        docker("update", "-m", "32m", "--memory-swap", "64m", box)
        equal(limit(box, "memory/memory.limit_in_bytes", "memory.max"), str(32 << 20))


@step("a process beyond its memory is killed, and Docker says so")
def _():
    needs_controller("memory")
    # the first process holds the memory: its death is the container's
    with running("-m", "16m", "--memory-swap", "16m", cmd=("tail", "/dev/zero")) as box:
        equal(docker("wait", box).strip(), "137")
        until("OOMKilled", lambda: inspect(box, ".State.OOMKilled"))


@step("--user, --group-add and an unknown user")
def _():
    equal(run("--user", "1000:29", "--group-add", "65534", "id -u; id -g; id -G"), "1000\n29\n29 65534\n")
    equal(run("--user", "alice", "echo $(id -un) $(id -Gn) $HOME $(cut -d' ' -f1-2 /proc/self/status | grep -c 'CapEff.*0000000000000000')"),
          "alice alice audio /home/alice 1\n")
    equal(run("--user", "4242", "id -u"), "4242\n")
    contains(docker("run", "--rm", "--user", "nosuchuser", IMAGE, "true", rc=125, both=True), "unable to find user nosuchuser")


@step("--ulimit lowers limits, and raises a hard one where the host may")
def _():
    equal(run("--ulimit", "nofile=100:200", "ulimit -Sn; ulimit -Hn"), "100\n200\n")
    equal(run("--ulimit", "core=0", "ulimit -c"), "0\n")
    if not has_capability(CAP_SYS_RESOURCE):
        raise Skip("lowering works; raising needs CAP_SYS_RESOURCE, which this machine keeps from everyone")
    equal(run("--ulimit", "nofile=2000000:2000000", "ulimit -Hn"), "2000000\n")


@step("--oom-score-adj")
def _():
    equal(run("--oom-score-adj", "500", "cat /proc/self/oom_score_adj"), "500\n")


@step("--read-only with --tmpfs and its options")
def _():
    out = run("--read-only", "--tmpfs", "/scratch:size=1m,mode=1770,noexec",
              "touch /x; echo a > /scratch/f && stat -c %a /scratch; grep ' /scratch ' /proc/mounts", both=True)
    contains(out, "Read-only file system", "1770", "size=1024k", "noexec")
    run("--read-only", "echo x > /dev/shm/y")
    contains(run("--read-only", "echo y > /etc/hostname", rc=1, both=True), "Read-only file system")


@step("--device gives a device and nothing else is allowed")
def _():
    if not os.path.exists("/dev/fuse"):
        raise Skip("no /dev/fuse on this machine")
    run("[ ! -e /dev/fuse ]")
    run("--device", "/dev/fuse", "[ -c /dev/fuse ] && exec 3<>/dev/fuse")
    run("--device", "/dev/fuse:/dev/other:r", "[ -c /dev/other ] && exec 3</dev/other && ! (exec 4>/dev/other) 2>/dev/null")
    contains(run("mknod /tmp/f c 10 229 && exec 3<>/tmp/f", rc=None, both=True), "Operation not permitted")
    run("--device-cgroup-rule", "c 10:229 rwm", "mknod /tmp/f c 10 229 && exec 3<>/tmp/f")


@step("the devices and links of every container")
def _():
    out = run("ls -l /dev; echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; "
              "echo y 2>/dev/null > /dev/full || echo full")
    contains(out, "fd -> /proc/self/fd", "stdin -> /proc/self/fd/0", "ptmx -> pts/ptmx")
    contains(out, *[f" {name}\n" for name in ("null", "zero", "full", "random", "tty", "mqueue", "shm")])
    contains(out, "4\n4\nfull")


@step("--privileged sees the host's devices and writes its cgroups")
def _():
    out = run("--privileged", f"ls /dev | wc -l; mkdir /sys/fs/cgroup/{'x' if CGROUP2 else 'pids/x'} && echo made; "
              "mkdir /mnt && unshare --mount mount -t tmpfs t /mnt && echo mounted")
    contains(out, "made", "mounted")
    assert int(out.split()[0]) > 20, out


@step("--sysctl, --shm-size and --ulimit do not leak to the host")
def _():
    before = sh("sysctl", "-n", "net.ipv4.ip_unprivileged_port_start")
    equal(run("--sysctl", "net.ipv4.ip_unprivileged_port_start=77", "--sysctl", "kernel.msgmax=9000",
              "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax"), "77\n9000\n")
    equal(sh("sysctl", "-n", "net.ipv4.ip_unprivileged_port_start"), before)
    contains(run("--shm-size", "8m", "df -k /dev/shm"), "8192")


@step("namespaces shared with the host and with another container")
def _():
    def link(kind, pid="self"):
        return os.readlink(f"/proc/{pid}/ns/{kind}")

    def seen(kind, *flags):
        return run(*flags, f"readlink /proc/self/ns/{kind}").strip()
    equal(seen("pid", "--pid=host"), link("pid"))
    equal(seen("net", "--network=host"), link("net"))
    equal(seen("uts", "--uts=host"), link("uts"))
    equal(seen("ipc", "--ipc=host"), link("ipc"))
    equal(seen("cgroup", "--cgroupns=host"), link("cgroup"))
    assert seen("cgroup", "--cgroupns=private") != link("cgroup")
    with running("--ipc=shareable") as box:
        pid = host_pid(box)
        for kind, flag in ("pid", "--pid"), ("net", "--network"), ("ipc", "--ipc"):
            equal(seen(kind, f"{flag}=container:{box}"), link(kind, pid))
        until("sleep is seen", lambda: "sleep 1000" in run(f"--pid=container:{box}", "/bin/ps -e -o args="))


@step("--cgroupns=private shows the container's cgroup as the root")
def _():
    out = run("--cgroupns=private", "cat /proc/self/cgroup")
    assert all(line.endswith(":/") for line in out.split()), out


@step("--cgroup-parent puts the container there")
def _():
    with running("--cgroup-parent", "/knarr-parent") as box:
        with open(f"/proc/{host_pid(box)}/cgroup") as file:
            contains(file.read(), f"/knarr-parent/{inspect(box, '.Id')}")
    until("the parent is removed", lambda: not sh("sh", "-c", "rmdir /sys/fs/cgroup/knarr-parent /sys/fs/cgroup/*/knarr-parent; "
                                                       "ls -d /sys/fs/cgroup/knarr-parent /sys/fs/cgroup/*/knarr-parent", rc=None))


@step("exec --privileged has the capabilities and the terminal user that were asked for")
def _():
    with running("--user", "alice") as box:
        equal(field(docker("exec", box, "cat", "/proc/self/status"), "CapEff"), "0000000000000000")
        with open("/proc/self/status") as file:
            bound = field(file.read(), "CapBnd")
        equal(field(docker("exec", "--privileged", "-u", "0", box, "cat", "/proc/self/status"), "CapEff"), bound)
        t = Terminal("docker", "exec", "-it", box, "sh")
        t.expect(r"\$ ")
        t.send("stat -c %U $(tty)\r")
        t.expect("alice")
        t.send("exit\r")
        t.end(0)


@step("exec is in the container's cgroups and under its limits")
def _():
    with running("--pids-limit", "50") as box:
        docker("exec", "-d", box, "sleep", "997")
        pid = until("the exec runs", lambda: sh("pgrep", "-f", "^sleep 997", rc=None).strip())
        with open(f"/proc/{pid}/cgroup") as one, open(f"/proc/{host_pid(box)}/cgroup") as other:
            equal(one.read(), other.read())
        equal(field(docker("exec", box, "cat", "/proc/self/status"), "Seccomp"), "2")
