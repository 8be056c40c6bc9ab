"""containerd with the tested runtime, and what its steps share: the `ctr` command, the test image, tasks that run for a while.
It must not know single steps."""
import contextlib
import itertools
import json
import os
import re

import image
from steps import Daemon, Snapshot, contains, sh, until

IMAGE = "docker.io/knarr/base:1"
LOG = "/tmp/containerd.log"
SOCKETS = "/run/containerd/s"
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task/default"
numbers = itertools.count(1)


class Engine:
    """The daemon that runs now; steps that need another configuration restart it."""
    daemon = None
    before = None
    tested = None
    bin = "/usr/bin"  # of containerd and ctr
    old = False          # containerd 1.6


def ctr(*argv, **options):
    return sh(f"{Engine.bin}/ctr", *argv, **options)


def flags():
    return Engine.tested.ctr_flags()


def run(*argv, **options):
    """`ctr run --rm` of the test image's shell: the last argument is its script, those before are flags. The shim writes the output
    to a file: ctr itself loses that of a short task now and then, when it is over before ctr has come round to opening its FIFO. Both
    streams are one: Go's shim closes the file for both when the first has ended."""
    name = f"once{next(numbers)}"
    log = f"/tmp/{name}.log"
    seen = ctr("run", "--rm", "--log-uri", f"file://{log}", *flags(), *argv[:-1], IMAGE, name, "sh", "-c", f"exec 2>&1; {argv[-1]}", **options)
    with open(log) as file:
        return file.read() + seen


def execute(task, *command, more=()):
    """What a `ctr task exec` writes; by a file for the same reason."""
    name = f"exec{next(numbers)}"
    log = f"/tmp/{name}.log"
    ctr("task", "exec", "--log-uri", f"file://{log}", "--exec-id", name, *more, task, *command)
    with open(log) as file:
        return file.read()


@contextlib.contextmanager
def running(*more, cmd=("sleep", "1000"), runtime=None):
    """A detached task for the time of a `with`: its value is the task's name."""
    name = f"task{next(numbers)}"
    try:
        ctr("run", "-d", *(runtime or flags()), *more, IMAGE, name, *cmd)
        yield name
    finally:
        ctr("task", "rm", "-f", name, rc=None)
        ctr("container", "rm", name, rc=None)


def _row(name):
    return next((line.split() for line in ctr("task", "ls").splitlines() if line.startswith(name + " ")), None)


def status(name):
    row = _row(name)
    return row and row[2]


def pid(name):
    return int(_row(name)[1])


def shim_pid(name):
    """The process that serves a task: the only one with the task's id on its command line besides ctr."""
    def found():
        return sh("pgrep", "-f", rf"{re.escape(Engine.tested.shim)}.* -id {name}( |$)", rc=None).split()
    # a copy of it that has just made the container may take a moment to go
    return int(until(f"{name} has one shim", lambda: len(pids := found()) == 1 and pids)[0])


class Events:
    """What `ctr events` prints while a `with` lasts: a list of (topic, fields)."""

    def __enter__(self):
        self.path = f"/tmp/events{next(numbers)}"
        self.daemon = Daemon(self.path, f"{Engine.bin}/ctr", "events")
        # ctr does not say when it is subscribed: an event that we cause ourselves does
        until("ctr receives events", lambda: ctr("namespaces", "label", "default", f"heard={next(numbers)}") or self.seen())
        return self

    def __exit__(self, *_):
        self.daemon.stop()

    def seen(self, name=None):
        found = []
        with open(self.path) as file:
            for line in file:
                # a line that is being written is complete the next time
                if parts := re.search(r" (/\w+/[\w-]+) (\{.*\})$", line):
                    fields = json.loads(parts.group(2))
                    if name in (None, fields.get("container_id", fields.get("id"))):
                        found.append((parts.group(1), fields))
        return found

    def topics(self, name):
        return [topic.removeprefix("/tasks/") for topic, _ in self.seen(name) if topic.startswith("/tasks/")]

    def wait(self, name, last="delete"):
        """The topics of a task, once the last one is there."""
        until(f"the event {last} of {name}", lambda: last in self.topics(name))
        return self.topics(name)


CONFIG = """version = 3

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'tested'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tested]
%s
"""


# containerd's own limits are for machines that never stall: a shim that is late is no shim that has died
TIMEOUTS = """
[timeouts]
  'io.containerd.timeout.shim.cleanup' = '60s'
  'io.containerd.timeout.shim.load' = '60s'
  'io.containerd.timeout.task.state' = '60s'
"""


def start_daemon(config=None, env=None, timeout=60):
    os.makedirs("/etc/containerd", exist_ok=True)
    with open("/etc/containerd/config.toml", "w") as file:
        file.write("version = 2\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n" if Engine.old else config or CONFIG % Engine.tested.of_cri())
        file.write(TIMEOUTS)
    Engine.daemon = Daemon(LOG, f"{Engine.bin}/containerd", "-l", "warn", env=env)
    Engine.daemon.wait_for("/run/containerd/containerd.sock", timeout)
    # the socket of a killed daemon is still there
    until("containerd answers", lambda: not Engine.daemon.alive() or "TASK" in ctr("task", "ls", rc=None))


def reset():
    for line in ctr("task", "ls", "-q", rc=None).split():
        ctr("task", "rm", "-f", line, rc=None)
    for line in ctr("container", "ls", "-q", rc=None).split():
        ctr("container", "rm", line, rc=None)


def engine(suite, directory="/usr/bin"):
    """The pair of functions by which main.py starts and stops the engine of a suite."""
    suite.logs = [LOG]

    def start():
        Engine.bin, Engine.old = directory, "1.6" in directory
        Engine.before = Snapshot()
        start_daemon()
        image.docker_archive("/tmp/base-image.tar", "knarr/base:1")
        ctr("image", "import", "/tmp/base-image.tar")
        contains(ctr("image", "ls"), IMAGE)

    def stop():
        reset()
        Engine.daemon.stop()
        Engine.before.nothing_left(but=r"^cgroup \S+/default$" + (r"|^cgroup \S+/(storm|killed)\w+$" if Engine.tested.is_debians else ""))
        # shims take a moment to notice that they are not needed any more
        nothing_but([])

    suite.reset = reset
    return start, stop


def leftovers():
    """Bundles and shims' sockets that exist; not the sockets of Go's shim, which it leaves when it is killed."""
    directories = [BUNDLES] if Engine.tested.is_debians else [BUNDLES, SOCKETS]
    # containerd hides a bundle before it removes it, and may be killed in between
    return [f"{directory}/{name}" for directory in directories if os.path.isdir(directory) for name in os.listdir(directory)
            if not name.startswith(".")]


def nothing_but(wanted, timeout=30):
    """Demands that bundles and shims' sockets are those that were there before."""
    try:
        until("all gone", lambda: set(leftovers()) <= set(wanted), timeout)
    except AssertionError:
        raise AssertionError("left behind:\n" + "\n".join(sorted(set(leftovers()) - set(wanted)))) from None
