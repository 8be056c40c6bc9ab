"""Docker: steps that need the daemon itself in another state or configuration."""
import os

import image
from docker_engine import IMAGE, docker, host_pid, run, running, start_daemon, state, stop_daemon, suite
from steps import equal

step = suite.step


@step("live-restore: a container outlives the daemon and is managed again")
def _():
    stop_daemon()
    start_daemon("--live-restore")
    with running(cmd=("sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done")) as box:
        pid = host_pid(box)
        stop_daemon()
        os.kill(pid, 0)
        start_daemon("--live-restore")
        equal((state(box), host_pid(box)), ("running", pid))
        equal(docker("exec", box, "echo", "again"), "again\n")
        docker("stop", box)
        equal(docker("wait", box).strip(), "8")


@step("userns-remap: root inside is nobody outside, run, exec, volumes and a network work")
def _():
    stop_daemon()
    for path, line in {"passwd": "dockremap:x:900:900::/:/bin/false", "group": "dockremap:x:900:",
                       "subuid": "dockremap:500000:65536", "subgid": "dockremap:500000:65536"}.items():
        with open(f"/etc/{path}", "a") as file:
            file.write(line + "\n")
    start_daemon("--userns-remap", "default")
    docker("import", "-c", 'CMD ["/bin/sh"]', image.TAR, IMAGE)
    equal(run("cat /proc/self/uid_map").split(), ["0", "500000", "65536"])
    with running("-m", "64m", "-v", "/data") as box:
        with open(f"/proc/{host_pid(box)}/status") as file:
            equal([line.split()[1] for line in file if line.startswith("Uid:")], ["500000"])
        equal(docker("exec", box, "sh", "-c", "echo x > /data/f && id -u && stat -c %u /data/f"), "0\n0\n")
        docker("exec", box, "ping", "-c", "1", "-W", "2", "172.17.0.1")
        docker("stop", "-t", "0", box)
    equal(run("--userns=host", "cat /proc/self/uid_map").split()[1], "0")
