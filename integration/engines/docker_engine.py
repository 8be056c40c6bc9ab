"""dockerd with the runtime as its default, and what the Docker steps share: the `docker` command and the test image.
It must not know single steps."""
import contextlib
import itertools
import json
import os

import image
from steps import CGROUP2, Daemon, Snapshot, Suite, equal, sh, until
from tested import Tested

suite = Suite("docker")
IMAGE = "knarr/base:1"
LOG = "/tmp/dockerd.log"
numbers = itertools.count(1)
suite.logs = [LOG]


class Engine:
    """The daemon that runs now; steps that need another configuration restart it."""
    daemon = None
    before = None
    tested = None


def docker(*argv, **options):
    return sh("docker", *argv, **options)


def run(*argv, **options):
    """`docker run --rm` of the test image's shell: the last argument is its script, those before are flags. It waits a moment: the daemon
    drops what a container has written that is over before the daemon has come round to opening its FIFO."""
    return docker("run", "--rm", *argv[:-1], IMAGE, "sh", "-c", f"sleep 0.1; {argv[-1]}", **options)


@contextlib.contextmanager
def running(*flags, cmd=("sleep", "1000")):
    """A detached container for the time of a `with`: its value is the container's name."""
    name = f"box{next(numbers)}"
    try:
        docker("run", "-d", "--name", name, *flags, IMAGE, *cmd)
        yield name
    finally:
        docker("rm", "-f", "-v", name, rc=None)


def inspect(name, template):
    return json.loads(docker("inspect", "-f", "{{json " + template + "}}", name))


def state(name):
    return inspect(name, ".State.Status")


def host_pid(name):
    return inspect(name, ".State.Pid")


def start_daemon(*flags, **configuration):
    # the first `runc` of PATH is the one that BuildKit runs, which knows no shims: where there is a tested one, it is that
    os.makedirs("/opt/first", exist_ok=True)
    command = Engine.tested.beside("knarr") if Engine.tested.is_shim else Engine.tested.path
    if command and not os.path.lexists("/opt/first/runc"):
        os.symlink(command, "/opt/first/runc")
    config = {"runtimes": {"tested": Engine.tested.of_docker()}, "default-runtime": "tested",  # as docs/engines.md has it
              "exec-opts": ["native.cgroupdriver=cgroupfs"], "storage-driver": "overlay2"}
    if Engine.tested.beside("knarr-init"):
        config["init-path"] = Engine.tested.beside("knarr-init")
    os.makedirs("/etc/docker", exist_ok=True)
    config.update(configuration)
    with open("/etc/docker/daemon.json", "w") as file:
        json.dump({name: value for name, value in config.items() if value is not None}, file)
    Engine.daemon = Daemon(LOG, "dockerd", *flags, env={"PATH": "/opt/first:" + os.environ["PATH"]})
    Engine.daemon.wait_for("/run/docker.sock")
    until("dockerd answers", lambda: not Engine.daemon.alive() or sh("docker", "version", "-f", "{{.Server.Version}}", rc=None).strip())


def stop_daemon():
    Engine.daemon.stop()
    assert not os.path.exists("/run/docker.pid"), "dockerd left its pid file"


def start():
    Engine.before = Snapshot()
    start_daemon()
    equal(docker("info", "-f", "{{.DefaultRuntime}} {{.CgroupDriver}} {{.CgroupVersion}}").strip(), f"tested cgroupfs {2 if CGROUP2 else 1}")
    docker("import", "-c", 'CMD ["/bin/sh"]', image.TAR, IMAGE)


def reset():
    for box in sh("docker", "ps", "-aq", rc=None).split():
        docker("rm", "-f", "-v", box, rc=None)


suite.reset = reset


def stop():
    reset()
    docker("network", "prune", "-f")
    stop_daemon()
    # the daemon leaves its bridge and its firewall, whose default is to drop what other engines forward
    sh("ip", "link", "delete", "docker0", rc=None)
    sh("nft", "flush", "ruleset")
    # the daemon keeps its own directories: the parent cgroup of all containers and its state's mounts
    Engine.before.nothing_left(but=r"^cgroup \S+/docker(/buildkit)?$|^mount /run/docker/netns/default$|^mount /var/lib/docker$")


def engine(runtime):
    Engine.tested = Tested(runtime)
    return start, stop
