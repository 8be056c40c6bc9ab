"""containerd's CRI plugin with the tested runtime as its default, Debian's CNI plugins, and what its steps share: pods and containers.
It must not know single steps."""
import contextlib
import itertools
import json
import os

import containerd_engine
import image
from containerd_engine import Engine, ctr, start_daemon
from cri_client import Client
from steps import Snapshot, Suite, equal, has_capability, sh, until
from tested import Tested

suite = Suite("cri")
suite.logs = [containerd_engine.LOG]
IMAGE, PAUSE = "docker.io/knarr/base:1", "docker.io/knarr/pause:1"
LOGS = "/var/log/pods"
CAP_SYS_RESOURCE = 24
numbers = itertools.count(1)
client = None

CONFIG = """version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '%s'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = %s
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '/etc/cni/net.d'

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'tested'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.named]
  runtime_type = '%s'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tested]
%s
"""
NETWORK = {"cniVersion": "1.0.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": True,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "loopback"}]}


def call(method, *request, **fields):
    return client.call(method, *request, **fields)


def start_cri():
    # without CAP_SYS_RESOURCE no process may lower an oom score, as the CRI asks for its pods
    start_daemon(CONFIG % (PAUSE, str(not has_capability(CAP_SYS_RESOURCE)).lower(), Engine.tested.runtime_type, Engine.tested.of_cri()))
    why = "containerd ended"

    def ready():
        nonlocal why
        try:
            why = ", ".join(c.message or c.type for c in call("Status").status.conditions if not c.status)
        except AssertionError as error:
            why = str(error)
        return not why
    try:
        until("the CRI is ready", lambda: not Engine.daemon.alive() or ready())
    except AssertionError as late:
        raise AssertionError(f"{late}: {why}") from None


def start():
    global client
    Engine.bin, Engine.old = "/usr/bin", False
    os.makedirs("/etc/cni/net.d", exist_ok=True)
    with open("/etc/cni/net.d/10-pods.conflist", "w") as file:
        json.dump(NETWORK, file)
    Engine.before = Snapshot()
    client = Client("/run/containerd/containerd.sock")
    start_cri()
    image.docker_archive("/tmp/base-image.tar", "knarr/base:1")
    image.pause_archive("/tmp/pause-image.tar", "knarr/pause:1", Engine.tested.beside("knarr-init") or "/usr/bin/catatonit", "-P")
    for name in "base", "pause":
        ctr("-n", "k8s.io", "image", "import", f"/tmp/{name}-image.tar")
    until("the CRI knows the images", lambda: len(call("ListImages").images) == 2)


class Pod:
    """A pod sandbox with its containers."""

    def __init__(self, linux=None, handler="", **config):
        n = next(numbers)
        self.config = {"metadata": {"name": f"pod{n}", "uid": f"uid{n}", "namespace": "tests", "attempt": 0}, "hostname": f"pod{n}",
                       "log_directory": f"{LOGS}/pod{n}", "linux": {"cgroup_parent": "/kubepods", **(linux or {})}, **config}
        self.id = call("RunPodSandbox", config=self.config, runtime_handler=handler).pod_sandbox_id

    def status(self):
        return call("PodSandboxStatus", pod_sandbox_id=self.id).status

    def ip(self):
        return self.status().network.ip

    def create(self, *command, linux=None, **config):
        name = f"c{next(numbers)}"
        linux = linux or {}
        # the CRI's default is one pid namespace for the pod, the kubelet's one for each container
        security = {"namespace_options": {"pid": "CONTAINER"}, **linux.get("security_context", {})}
        config = {"metadata": {"name": name, "attempt": 0}, "image": {"image": IMAGE}, "command": list(command), "log_path": f"{name}.log",
                  "linux": {**linux, "security_context": security}, **config}
        return call("CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config).container_id

    def start(self, *command, **config):
        container = self.create(*command, **config)
        call("StartContainer", container_id=container)
        return container

    def log(self, container):
        """A container's log as pairs of stream and text."""
        with open(status(container).log_path) as file:
            # a line that is being written is complete the next time
            return [(line.split(" ")[1], line.rstrip("\n").split(" ", 3)[3]) for line in file if line.endswith("\n")]

    def has_logged(self, container, *wanted):
        """Demands what the log of a container that has ended comes to: containerd may write the last lines after it has told of the end."""
        try:
            until("the log is whole", lambda: self.log(container) == list(wanted))
        except AssertionError:
            equal(self.log(container), list(wanted))


@contextlib.contextmanager
def pod(**config):
    this = Pod(**config)
    try:
        yield this
    finally:
        call("StopPodSandbox", pod_sandbox_id=this.id)
        call("RemovePodSandbox", pod_sandbox_id=this.id)


def status(container):
    return call("ContainerStatus", container_id=container).status


def info(container):
    """What containerd tells beyond the CRI."""
    return json.loads(call("ContainerStatus", container_id=container, verbose=True).info["info"])


def state(container):
    return client.enum("ContainerState", status(container).state).removeprefix("CONTAINER_")


def exited(container):
    until("the container has ended", lambda: state(container) == "EXITED")
    return status(container)


def execute(container, *command, **fields):
    """ExecSync: exit status, stdout, stderr."""
    response = call("ExecSync", container_id=container, cmd=list(command), **fields)
    return response.exit_code, response.stdout.decode(), response.stderr.decode()


def shims():
    """The ids that the shims of the pods' namespace were started for; a shim's copy that has just made a container is there for a moment."""
    lines = sh("pgrep", "-af", f"{Engine.tested.shim} .*-namespace k8s.io", rc=None).splitlines()
    return sorted(line.split(" -id ")[1].split()[0] for line in lines if " -id " in line)


def reset():
    for sandbox in call("ListPodSandbox").items:
        call("StopPodSandbox", pod_sandbox_id=sandbox.id)
        call("RemovePodSandbox", pod_sandbox_id=sandbox.id)


suite.reset = reset


def but():
    """What is kept of pods that are gone: the parent of their cgroups, the bridge; of Go's shim that was killed, the containers' cgroups."""
    kept = r"^cgroup \S+/(kubepods|k8s.io)$|^link cni0$|^mount /run/netns$|^process \d+ \S*containerd -l"
    return kept + (r"|^cgroup \S+/kubepods/\w+$" if Engine.tested.is_debians else "")


def stop():
    reset()
    until("all shims are gone", lambda: shims() == [])
    Engine.daemon.stop()
    sh("ip", "link", "delete", "cni0", rc=None)
    Engine.before.nothing_left(but=but())


def engine(runtime):
    Engine.tested = Tested(runtime)
    return start, stop
