"""buildah with --runtime: run in working containers, commit, build with layers, isolations, rootless by a user."""
import os

import image
import podman_steps
from podman_steps import Engine
from steps import Suite, Terminal, contains, equal, needs_controller, sh

suite = Suite("buildah")
step = suite.step
IMAGE = "localhost/knarr/base:1"


def buildah(*argv, **options):
    return sh("buildah", *argv, **options)


def run(box, script, *flags, **options):
    return buildah("run", "--runtime", Engine.runtime, *flags, box, "--", "sh", "-c", script, **options)


@step("from, run, config, commit: the image has what RUN wrote")
def _():
    box = buildah("from", "--pull-never", "--name", "work", IMAGE).strip()
    equal(run(box, "echo made > /made; uname -r; id -u"), f"{os.uname().release}\n0\n")
    buildah("config", "--env", "A=b", "--cmd", "cat /made", box)
    equal(run(box, "echo $A"), "b\n")
    equal(buildah("run", box, "--", "cat", "/made", env={"BUILDAH_RUNTIME": Engine.runtime}), "made\n")
    contains(buildah("run", box, "--", "true", env={"BUILDAH_RUNTIME": "/no/such/runtime"}, rc=None, both=True), "/no/such/runtime")
    buildah("commit", "-q", box, "localhost/made:1")
    equal(podman_steps.podman("run", "--rm", "localhost/made:1"), "made\n")


@step("run: exit status, user, directory, hostname, volumes, read-only binds, terminal")
def _():
    run("work", "exit 4", rc=4)
    equal(run("work", "id -u; pwd; hostname", "--user", "alice", "--workingdir", "/tmp", "--hostname", "demo"), "1000\n/tmp\ndemo\n")
    os.makedirs("/tmp/buildshare", exist_ok=True)
    run("work", "echo x > /share/f", "-v", "/tmp/buildshare:/share")
    assert os.path.exists("/tmp/buildshare/f")
    contains(run("work", "echo x > /share/g", "-v", "/tmp/buildshare:/share:ro", rc=1, both=True), "Read-only file system")
    t = Terminal("buildah", "run", "--runtime", Engine.runtime, "-t", "work", "sh")
    t.expect("# ")
    t.send("tty; exit 5\r")
    t.expect(r"/dev/pts/0")
    t.end(5)


@step("run: a program that is not there, and one that may not be run")
def _():
    contains(buildah("run", "--runtime", Engine.runtime, "work", "--", "no-such-program", rc=None, both=True), "executable file not found in $PATH")
    contains(buildah("run", "--runtime", Engine.runtime, "work", "--", "/etc/passwd", rc=None, both=True), "permission denied")


@step("run: capabilities and isolation of the container")
def _():
    contains(run("work", "hostname hello", rc=1, both=True), "not permitted")
    equal(run("work", "hostname hello; hostname", "--cap-add", "CAP_SYS_ADMIN"), "hello\n")
    equal(run("work", "/bin/ps -e -o comm= | head -1").strip(), "sh")
    equal(run("work", "ls /sys/class/net", "--network", "none"), "lo\n")


@step("build with layers: the second time from the cache, mounts and secrets")
def _():
    text = (f"FROM {IMAGE} AS first\nRUN echo one > /one\nFROM {IMAGE}\nCOPY --from=first /one /one\n"
            "RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=secret,id=s "
            "cp /run/secrets/s /secret\nCMD [\"cat\", \"/one\", \"/secret\"]\n")
    image.build_context("/tmp/buildcontext", {"Dockerfile": text, "s": "secret\n"})
    argv = "build", "--runtime", Engine.runtime, "--pull-never", "--layers", "--secret", "id=s,src=/tmp/buildcontext/s", "-t", "layered", "/tmp/buildcontext"
    buildah(*argv, timeout=120)
    equal(podman_steps.podman("run", "--rm", "layered"), "one\nsecret\n")
    contains(buildah(*argv, both=True), "Using cache")
    image.build_context("/tmp/buildcontext", {"Dockerfile": f"FROM {IMAGE}\nRUN exit 3\n"})
    contains(buildah("build", "--runtime", Engine.runtime, "--pull-never", "/tmp/buildcontext", rc=3, both=True), "exit status 3")


@step("limits of a build are in its cgroup")
def _():
    needs_controller("memory")
    show = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    image.build_context("/tmp/buildcontext", {"Dockerfile": f"FROM {IMAGE}\nRUN {show}\n"})
    contains(buildah("build", "--runtime", Engine.runtime, "--pull-never", "--memory", "64m", "/tmp/buildcontext"), str(64 << 20))


@step("id mappings of a user namespace")
def _():
    box = buildah("from", "--pull-never", "--userns-uid-map=0:100000:65536", "--userns-gid-map=0:100000:65536", IMAGE).strip()
    equal(run(box, "cat /proc/self/uid_map; echo x > /f; stat -c %u /f").split(), ["0", "100000", "65536", "0"])


def stop():
    buildah("rm", "--all")
    podman_steps.stop()


def engine(runtime):
    start, _ = podman_steps.engine(runtime)
    return start, stop
