"""podman with --runtime: life, terminals, limits, networks, pods, builds, user namespaces, rootless."""
import contextlib
import itertools
import json
import os
import resource

import image
from steps import CGROUP2, Skip, Snapshot, Suite, Terminal, contains, equal, has_capability, matches, needs_controller, needs_criu, sh, until

suite = Suite("podman")
step = suite.step
IMAGE = "localhost/knarr/base:1"
HTTPD = ("httpd", "-f", "-p", "80", "-h", "/srv/www")
PAGE = "served from a container\n"
CAP_SYS_RESOURCE = 24
numbers = itertools.count(1)


class Engine:
    before = None
    runtime = None


def command():
    return ["podman", "--runtime", Engine.runtime]


def podman(*argv, **options):
    return sh(*command(), *argv, **options)


def run(*argv, **options):
    """`podman run --rm` of the test image's shell: the last argument is its script, those before are flags."""
    return podman("run", "--rm", *argv[:-1], IMAGE, "sh", "-c", argv[-1], **options)


@contextlib.contextmanager
def running(*flags, cmd=("sleep", "1000")):
    name = f"pod{next(numbers)}"
    try:
        podman("run", "-d", "--name", name, *flags, IMAGE, *cmd)
        yield name
    finally:
        podman("rm", "-f", "-v", "-t", "0", name, rc=None)


def inspect(name, template):
    return json.loads(podman("inspect", "-f", "{{json " + template + "}}", name))


def limit(box, v1, v2):
    return podman("exec", box, "cat", f"/sys/fs/cgroup/{v2 if CGROUP2 else v1}").strip()


def link(kind, pid="self"):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@step("the runtime of a container is the tested one")
def _():
    with running() as box:
        equal(inspect(box, ".OCIRuntime"), Engine.runtime)


@step("the runtime that containers.conf names needs no flag")
def _():
    sh("podman", "run", "-d", "--name", "by-name", IMAGE, "sleep", "1000")
    equal(inspect("by-name", ".OCIRuntime"), "tested")
    contains(sh("podman", "run", "--rm", IMAGE, "no-such-program", rc=127, both=True), "not found in $PATH")
    sh("podman", "rm", "-f", "-t", "0", "by-name")


@step("run: kernel, processes, hostname, exit statuses, error texts")
def _():
    out = run("-h", "demo", "uname -r; hostname; /bin/ps -e -o pid= | head -1").split()
    equal(out, [os.uname().release, "demo", "1"])
    run("exit 3", rc=3)
    run("--init", "kill -9 $$", rc=137)
    contains(podman("run", "--rm", IMAGE, "no-such-program", rc=127, both=True), "not found in $PATH")
    contains(podman("run", "--rm", IMAGE, "/no/such/program", rc=127, both=True), "no such file or directory")
    contains(podman("run", "--rm", IMAGE, "/etc/passwd", rc=126, both=True).lower(), "permission denied")
    podman("run", "--rm", "--no-such-flag", IMAGE, "true", rc=125)


@step("knarr-init is the container's init: --init-path")
def _():
    init = "/opt/runtime/knarr-init"
    if not os.path.exists(init):
        raise Skip("no knarr-init beside the runtime")
    ours = ("--init", "--init-path", init)
    contains(run(*ours, "ps -o pid,args; /run/podman-init --version"), "/run/podman-init -- sh -c", "knarr-init")
    run(*ours, "kill -9 $$", rc=137)
    podman("run", "--rm", *ours, IMAGE, "no-such-program", rc=127)
    with running(*ours, cmd=("sh", "-c", "trap 'exit 23' TERM; sh -c '(sleep 0.2; echo > /slept) &'; while :; do sleep 0.1; done")) as box:
        until("the orphan ended", lambda: "slept" in podman("exec", box, "ls", "/"))
        until("no zombie", lambda: podman("exec", box, "ps", "-o", "stat").count("Z") == 0)
        podman("stop", "-t", "20", box)
        equal(inspect(box, ".State.ExitCode"), 23)


@step("run -it has a terminal of the right size, detach keys and attach")
def _():
    t = Terminal(*command(), "run", "-it", "--name", "term", IMAGE, "sh")
    t.expect("# ")
    t.send("tty; V=kept\r")
    t.expect(r"/dev/pts/0\s")
    t.expect("# ")
    t.has_its_size()
    t.press("\x10", "\x11")
    t.end(0)
    t = Terminal(*command(), "attach", "term")
    t.send("\recho V is $V\r")
    t.expect("V is kept")
    t.send("exit 7\r")
    t.end(None)
    until("podman knows of the end", lambda: inspect("term", ".State.Status") == "exited")
    equal(inspect("term", ".State.ExitCode"), 7)
    podman("rm", "term")


@step("run -i passes stdin, --preserve-fds passes a file")
def _():
    equal(podman("run", "--rm", "-i", IMAGE, "cat", stdin="through\n"), "through\n")
    out = sh("bash", "-c", f"exec 3<<<fd-three; {' '.join(command())} run --rm --preserve-fds=1 {IMAGE} sh -c 'cat <&3'")
    equal(out, "fd-three\n")


@step("exec: output, statuses, user, directory, environment, terminal, detached")
def _():
    with running("-h", "inner") as box:
        equal(podman("exec", "-e", "B=exec", "-w", "/tmp", "-u", "alice", box, "sh", "-c", "echo $B $(pwd) $(id -u) $(id -Gn) $(hostname)"),
              "exec /tmp 1000 alice audio inner\n")
        podman("exec", box, "sh", "-c", "exit 9", rc=9)
        podman("exec", box, "no-such-program", rc=127)
        podman("exec", box, "/etc/passwd", rc=126)
        t = Terminal(*command(), "exec", "-it", box, "sh")
        t.expect("# ")
        t.has_its_size()
        t.send("tty; exit 4\r")
        t.expect(r"/dev/pts/\d")
        t.end(4)
        podman("exec", "-d", box, "touch", "/touched")
        until("exec -d ran", lambda: "touched" in podman("exec", box, "ls", "/"))
        until("sleep is there", lambda: "sleep 1000" in podman("exec", box, "ps", "faux"))


@step("ps, top, logs, inspect and stats know the container")
def _():
    needs_controller("memory", "pids")
    with running("-m", "64m", cmd=("sh", "-c", "echo said; exec sleep 1000")) as box:
        contains(podman("ps"), box)
        until("sleep runs", lambda: "sleep 1000" in podman("top", box, "pid", "args"))
        until("logs", lambda: podman("logs", box) == "said\n")
        matches(podman("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", box), rf"^{box} 1$")


@step("pause, unpause, stop, start, restart, kill, rm")
def _():
    with running(cmd=("sh", "-c", "trap 'exit 5' TERM; echo > /up; while :; do date +%s%N > /n; sleep 0.05; done")) as box:
        until("it is up", lambda: podman("exec", box, "cat", "/n", rc=None))
        podman("pause", box)
        equal(inspect(box, ".State.Status"), "paused")
        podman("unpause", box)
        podman("stop", box)
        equal(inspect(box, ".State.ExitCode"), 5)
        podman("start", box)
        until("it is up", lambda: podman("exec", box, "cat", "/n", rc=None))
        podman("restart", "-t", "5", box)
        podman("kill", "-s", "KILL", box)
        equal(podman("wait", box).strip(), "137")
        podman("rm", box)


@step("capabilities, no-new-privileges and seccomp")
def _():
    show = "cat /proc/self/status"
    status = run(show)
    matches(status, r"^CapEff:\s*00000000800405fb$")
    matches(status, r"^Seccomp:\s*2$")
    contains(run("hostname hello", rc=1, both=True), "not permitted")
    equal(run("--cap-add=SYS_ADMIN", "hostname hello; hostname"), "hello\n")
    matches(run("--cap-drop=ALL", show), r"^CapBnd:\s*0000000000000000$")
    matches(run("--security-opt", "no-new-privileges", show), r"^NoNewPrivs:\s*1$")
    matches(run("--security-opt", "seccomp=unconfined", show), r"^Seccomp:\s*0$")
    matches(run("--user", "alice", "--cap-add", "CHOWN", show), r"^CapAmb:\s*0000000000000001$")


@step("limits of memory, cpu and pids in the cgroup files, and update of them")
def _():
    needs_controller("memory", "cpu", "pids", "cpuset")
    with running("-m", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "50", "--cpuset-cpus", "0") as box:
        equal(limit(box, "memory/memory.limit_in_bytes", "memory.max"), str(64 << 20))
        equal(limit(box, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0], "50000")
        equal(limit(box, "pids/pids.max", "pids.max"), "50")
        equal(limit(box, "cpuset/cpuset.cpus", "cpuset.cpus"), "0")
        podman("update", "--cpus", "0.25", "--pids-limit", "20", box)
        equal(limit(box, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0], "25000")
        equal(limit(box, "pids/pids.max", "pids.max"), "20")


@step("a process beyond its memory is killed, and podman says so")
def _():
    needs_controller("memory")
    with running("-m", "16m", "--memory-swap", "16m", cmd=("tail", "/dev/zero")) as box:
        equal(podman("wait", box).strip(), "137")
        equal(inspect(box, ".State.OOMKilled"), True)


@step("--cgroups=no-conmon, enabled and split")
def _():
    for mode in "no-conmon", "enabled":
        contains(run(f"--cgroups={mode}", "--cgroupns=host", "cat /proc/self/cgroup"), "libpod")
    if not CGROUP2:
        raise Skip("no-conmon and enabled work; podman offers split on cgroup v2 only")
    contains(run("--cgroups=split", "--cgroupns=host", "cat /proc/self/cgroup"), "/init/libpod-payload-")


@step("--read-only, --tmpfs, --ulimit, --sysctl, --shm-size, --device, --umask")
def _():
    contains(run("--read-only", "--tmpfs", "/scratch:size=1m,mode=1770", "touch /x; grep ' /scratch ' /proc/mounts", both=True),
             "Read-only file system", "size=1024k", "mode=1770")
    equal(run("--ulimit", "nofile=100:200", "ulimit -Sn; ulimit -Hn"), "100\n200\n")
    equal(run("--sysctl", "kernel.msgmax=9000", "cat /proc/sys/kernel/msgmax"), "9000\n")
    contains(run("--shm-size", "8m", "df -k /dev/shm"), "8192")
    equal(run("--umask", "0077", "umask"), "0077\n")
    if os.path.exists("/dev/fuse"):
        run("--device", "/dev/fuse", "[ -c /dev/fuse ] && exec 3<>/dev/fuse")


@step("--privileged, --systemd=always and unmasked paths")
def _():
    with open("/proc/self/status") as file:
        wanted = matches(file.read(), r"^CapBnd:\s*(\w+)$").group(1)
    matches(run("--privileged", "cat /proc/self/status"), rf"^CapEff:\s*{wanted}$")
    contains(run("--systemd=always", "cat /proc/mounts"), " /run tmpfs", " /tmp tmpfs")
    run("[ ! -s /proc/kcore ]")


@step("volumes: a directory, :ro, named, :O overlay, --volumes-from")
def _():
    os.makedirs("/tmp/podshare", exist_ok=True)
    run("-v", "/tmp/podshare:/share", "echo inside > /share/f")
    with open("/tmp/podshare/f") as file:
        equal(file.read(), "inside\n")
    contains(run("-v", "/tmp/podshare:/share:ro", "echo no > /share/f", rc=1, both=True), "Read-only file system")
    equal(run("-v", "/tmp/podshare:/share:O", "echo over > /share/f; cat /share/f"), "over\n")
    with open("/tmp/podshare/f") as file:
        equal(file.read(), "inside\n")
    run("-v", "keep:/data", "echo kept > /data/f")
    with running("-v", "keep:/data") as box:
        equal(run("--volumes-from", box, "cat /data/f"), "kept\n")
    podman("volume", "rm", "keep")


@step("-p 8001:80 answers curl")
def _():
    with running("-p", "8001:80", cmd=HTTPD) as box:
        equal(until("it answers", lambda: sh("curl", "-s", "-m", "5", "--noproxy", "*", "http://127.0.0.1:8001/", rc=None)), PAGE)
        contains(podman("port", box), "80/tcp -> 0.0.0.0:8001")


@step("user networks: names resolve")
def _():
    podman("network", "create", "blue")
    try:
        with running("--network", "blue", cmd=HTTPD) as box:
            until("the name resolves", lambda: run("--network", "blue", f"wget -T 3 -qO- http://{box}/", rc=None) == PAGE)
    finally:
        podman("network", "rm", "-f", "-t", "0", "blue")


@step("--network none, host and container:, --pid and --ipc of another container")
def _():
    equal(run("--network", "none", "ls /sys/class/net"), "lo\n")
    equal(run("--network", "host", "readlink /proc/self/ns/net").strip(), link("net"))
    with running("--ipc", "shareable") as box:
        pid = inspect(box, ".State.Pid")
        for kind, flag in ("pid", "--pid"), ("net", "--network"), ("ipc", "--ipc"):
            equal(run(f"{flag}=container:{box}", f"readlink /proc/self/ns/{kind}").strip(), link(kind, pid))


@step("a pod: shared network, hostname and ipc, its own limits, stop, start and rm")
def _():
    podman("pod", "create", "--name", "shop", "-p", "8002:80")
    try:
        podman("run", "-d", "--pod", "shop", "--name", "shop-web", IMAGE, *HTTPD)
        equal(until("the neighbour answers", lambda: podman("run", "--rm", "--pod", "shop", IMAGE, "wget", "-qO-", "http://127.0.0.1/", rc=None)), PAGE)
        equal(sh("curl", "-s", "-m", "20", "--noproxy", "*", "http://127.0.0.1:8002/"), PAGE)
        contains(podman("pod", "ps"), "shop", "Running")
        podman("pod", "pause", "shop")
        podman("pod", "unpause", "shop")
        podman("pod", "stop", "-t", "0", "shop")
        podman("pod", "start", "shop")
        equal(inspect("shop-web", ".State.Status"), "running")
    finally:
        podman("pod", "rm", "-f", "-t", "0", "shop")


@step("user namespaces: --uidmap and --userns=auto, with a volume and exec")
def _():
    equal(run("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "cat /proc/self/uid_map").split(), ["0", "100000", "65536"])
    with running("--uidmap", "0:100000:65536", "-v", "mapped:/data:U") as box:
        with open(f"/proc/{inspect(box, '.State.Pid')}/status") as file:
            contains(file.read(), "Uid:\t100000\t100000")
        equal(podman("exec", box, "sh", "-c", "id -u; echo x > /data/f; stat -c %u /data/f"), "0\n0\n")
    podman("volume", "rm", "mapped")
    with running("--userns=auto:size=1024") as box:
        contains(podman("exec", box, "cat", "/proc/self/uid_map"), "1024")


@step("--rootfs runs an unpacked directory")
def _():
    equal(podman("run", "--rm", "--rootfs", image.ROOTFS + ":O", "sh", "-c", "cat /etc/os-release"), "ID=knarr-base\n")


@step("commit, diff, cp, export, save and load")
def _():
    with running() as box:
        podman("exec", box, "sh", "-c", "echo new > /new")
        contains(podman("diff", box), "A /new")
        podman("cp", f"{box}:/new", "/tmp/podnew")
        podman("cp", "/tmp/podnew", f"{box}:/again")
        equal(podman("exec", box, "cat", "/again"), "new\n")
        podman("commit", "-q", box, "localhost/knarr/committed:1")
        podman("export", "-o", "/tmp/podexport.tar", box)
        contains(sh("tar", "tf", "/tmp/podexport.tar"), "new")
    equal(podman("run", "--rm", "localhost/knarr/committed:1", "cat", "/new"), "new\n")
    podman("save", "-q", "-o", "/tmp/podsaved.tar", "localhost/knarr/committed:1")
    podman("rmi", "localhost/knarr/committed:1")
    podman("load", "-q", "-i", "/tmp/podsaved.tar")
    podman("rmi", "localhost/knarr/committed:1")


@step("build: RUN in the tested runtime, again from the cache")
def _():
    image.build_context("/tmp/podcontext", {"Dockerfile": f"FROM {IMAGE}\nENV A=hello\nRUN echo $A > /built && id -u >> /built\nCMD [\"cat\", \"/built\"]\n"})
    podman("build", "-t", "built", "/tmp/podcontext", timeout=120)
    equal(podman("run", "--rm", "built"), "hello\n0\n")
    contains(podman("build", "-t", "built2", "/tmp/podcontext", both=True), "Using cache")
    image.build_context("/tmp/podcontext", {"Dockerfile": f"FROM {IMAGE}\nRUN exit 3\n"})
    contains(podman("build", "/tmp/podcontext", rc=3, both=True), "exit status 3")


@step("restart policy and health check")
def _():
    with running("--restart", "on-failure:2", cmd=("sh", "-c", "exit 3")) as box:
        until("two restarts", lambda: inspect(box, ".RestartCount") == 2 and inspect(box, ".State.Status") == "exited")
    with running("--health-cmd", "test -e /well") as box:
        podman("healthcheck", "run", box, rc=1)
        podman("exec", box, "touch", "/well")
        podman("healthcheck", "run", box)


@step("container checkpoint and restore: it continues where it was, also under another name from an archive")
def _():
    needs_criu()
    script = "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/count; sleep 0.1; done"
    with running("--network", "none", cmd=("sh", "-c", script)) as box:
        def count(name=box):
            return int(until("it has counted", lambda: podman("exec", name, "cat", "/dev/shm/count", rc=None).strip()))
        until("it counts", lambda: count() > 3)
        before = count()
        podman("container", "checkpoint", box)
        equal(inspect(box, ".State.Checkpointed"), True)
        podman("container", "restore", box)
        now = count()
        assert before <= now < before + 1000, f"it was at {before}, and is at {now}"
        podman("container", "checkpoint", "--export", "/tmp/saved.tar.gz", box)
        podman("rm", "-f", "-t", "0", box)
        podman("container", "restore", "--import", "/tmp/saved.tar.gz", "--name", "imported")
        try:
            assert count("imported") >= now
            equal(podman("exec", "imported", "cat", "/proc/1/comm").strip(), "sh")
        finally:
            podman("rm", "-f", "-t", "0", "imported", rc=None)
            os.remove("/tmp/saved.tar.gz")


@step("ten containers at once")
def _():
    out = sh("sh", "-c", f"for i in $(seq 10); do {' '.join(command())} run --rm {IMAGE} echo $i & done; wait", timeout=120)
    equal(sorted(map(int, out.split())), list(range(1, 11)))


@step("play kube")
def _():
    needs_controller("memory")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kube"},
           "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "web", "image": IMAGE, "command": list(HTTPD), "imagePullPolicy": "Never",
                                    "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}]}}
    with open("/tmp/pod.yaml", "w") as file:
        json.dump(pod, file)
    try:
        podman("kube", "play", "/tmp/pod.yaml")
        equal(limit("kube-web", "memory/memory.limit_in_bytes", "memory.max"), str(64 << 20))
        equal(until("it answers", lambda: podman("exec", "kube-web", "wget", "-qO-", "http://127.0.0.1/", rc=None)), PAGE)
    finally:
        podman("kube", "down", "/tmp/pod.yaml", rc=None)


def alice(*argv, **options):
    """podman as a user without privileges, with subordinate ids."""
    return sh("setpriv", "--reuid=1000", "--regid=1000", "--init-groups", "env", "-C", "/var/lib/alice", "HOME=/var/lib/alice", "USER=alice",
              "XDG_RUNTIME_DIR=/run/user/1000", *command(), *argv, **options)


@step("rootless: run, exec, limits are refused or kept, keep-id, pause, stop, rm")
def _():
    for directory in "/var/lib/alice", "/run/user/1000":
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chown(directory, 1000, 1000)
    for path, line in {"passwd": "alice:x:1000:1000::/var/lib/alice:/bin/sh", "group": "alice:x:1000:",
                       "subuid": "alice:200000:65536", "subgid": "alice:200000:65536"}.items():
        with open(f"/etc/{path}", "a") as file:
            file.write(line + "\n")
    alice("load", "-q", "-i", "/tmp/base-image.tar")
    flags = "run", "--rm", "--network", "none"
    equal(alice(*flags, IMAGE, "cat", "/proc/self/uid_map").split(), ["0", "1000", "1", "1", "200000", "65536"])
    equal(alice(*flags, "--userns=keep-id", IMAGE, "id", "-u"), "1000\n")
    alice(*flags, IMAGE, "sh", "-c", "exit 3", rc=3)
    alice("run", "-d", "--network", "none", "--name", "r", IMAGE, "sleep", "1000")
    equal(alice("exec", "r", "sh", "-c", "id -u; echo > /f; stat -c %u /f"), "0\n0\n")
    alice("stop", "-t", "0", "r")
    alice("rm", "r")


@step("rootless: the network by pasta, a published port answers")
def _():
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun on this machine")
    alice("run", "-d", "--name", "w", "-p", "8003:80", IMAGE, *HTTPD)
    try:
        equal(until("it answers", lambda: sh("curl", "-s", "-m", "5", "--noproxy", "*", "http://127.0.0.1:8003/", rc=None)), PAGE)
    finally:
        alice("rm", "-f", "-t", "0", "w")


def ulimits():
    """podman and buildah ask for a million files by default: without CAP_SYS_RESOURCE only what this process has can be given."""
    names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    return [f"{name}={soft}:{hard}" for name, number in names.items() for soft, hard in [resource.getrlimit(number)]]


def start():
    Engine.before = Snapshot()
    name = os.path.basename(Engine.runtime)
    # podman gives a runtime the JSON log, whose errors it understands, only when its name is listed
    with open("/etc/containers/containers.conf", "w") as file:
        # as docs/engines.md has it
        file.write(f"""[engine]
runtime = "tested"
runtime_supports_json = ["crun", "runc", "tested", "{name}"]
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
tested = ["{Engine.runtime}"]
[containers]
log_driver = "k8s-file"
""")
        if not has_capability(CAP_SYS_RESOURCE):
            file.write(f"default_ulimits = {json.dumps(ulimits())}\n")
    for path, line in {"passwd": "containers:x:901:901::/:/bin/false",
                       "subuid": "containers:10000000:1000000", "subgid": "containers:10000000:1000000"}.items():
        with open(f"/etc/{path}", "a") as file:
            file.write(line + "\n")
    os.environ["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
    image.docker_archive("/tmp/base-image.tar", IMAGE)
    podman("load", "-q", "-i", "/tmp/base-image.tar")


def reset():
    podman("rm", "-a", "-f", "-v", "-t", "0", rc=None)


suite.reset = reset


def stop():
    reset()
    # conmon calls podman once more for each container that has ended, which may still be at work
    until("podman is at rest", lambda: not sh("pgrep", "-x", "podman|conmon", rc=None))
    podman("system", "reset", "-f")
    # a user's podman keeps a process that holds its user namespace
    sh("pkill", "-U", "1000", "catatonit", rc=None)
    # in hierarchies without a controller podman forgets the pods' own cgroups; --cgroups=split puts podman into init/runtime
    Engine.before.nothing_left(but=r"^cgroup \S+/libpod_parent(/conmon)?$|"
                               r"^cgroup /sys/fs/cgroup/(systemd|unified)/libpod_parent/\w{64}$|^cgroup /sys/fs/cgroup/init/runtime$|"
                               r"^mount /run/netns$|^mount /run/user")


def engine(runtime):
    Engine.runtime = runtime
    return start, stop
