"""Docker: knarr-init in the place of docker-init, by the daemon's flag and by its configuration."""
import contextlib
import json
import os
import time

from docker_engine import IMAGE, docker, inspect, run, running, start_daemon, state, stop_daemon, suite
from steps import Skip, contains, equal, sh, until

step = suite.step
INIT = "/opt/runtime/knarr-init"


@contextlib.contextmanager
def daemon(*flags, **configuration):
    """Another daemon for the time of a `with`."""
    if not os.path.exists(INIT):
        raise Skip("no knarr-init beside the runtime")
    stop_daemon()
    try:
        start_daemon(*flags, **configuration)
        yield
    finally:
        stop_daemon()
        start_daemon()


def init_is_ours(box):
    return os.path.samefile(f"/proc/{inspect(box, '.State.Pid')}/root/sbin/docker-init", INIT)


@step("knarr-init is the daemon's init: --init-path")
def _():
    with daemon("--init-path", INIT, **{"init-path": None}):
        script = "trap 'exit 23' TERM; sh -c '(sleep 0.2; echo > /slept) &'; while :; do sleep 0.1; done"
        with running("--init", cmd=("sh", "-c", script)) as box:
            assert init_is_ours(box), "another init"
            until("the orphan ended", lambda: "slept" in docker("exec", box, "ls", "/"))
            equal(docker("exec", box, "cat", "/proc/1/comm").strip(), "docker-init")
            until("no zombie", lambda: docker("exec", box, "ps", "-e", "-o", "stat=").count("Z") == 0)
            began = time.monotonic()
            docker("stop", "-t", "20", box)
            assert time.monotonic() - began < 15, "the program did not get SIGTERM"
            equal((state(box), inspect(box, ".State.ExitCode")), ("exited", 23))
        run("--init", "kill -9 $$", rc=137)
        docker("run", "--rm", "--init", IMAGE, "no-such-program", rc=127)
        docker("run", "--rm", "--init", IMAGE, "/etc/passwd", rc=126)
        equal(docker("run", "--rm", "-i", "--init", IMAGE, "cat", stdin="through\n"), "through\n")
        with running("--init", "-e", "TINI_VERBOSITY=3", cmd=("sh", "-c", "trap 'echo usr1' USR1; echo up; while :; do sleep 0.1; done")) as box:
            until("it is up", lambda: "up" in docker("logs", box))
            docker("kill", "-s", "USR1", box)
            until("the program wrote", lambda: "usr1" in docker("logs", box))
            until("so did its init", lambda: "knarr-init: forwarded SIGUSR1" in docker("logs", box, both=True))
        equal(sh(INIT, "--version"), docker("run", "--rm", "--init", IMAGE, "/sbin/docker-init", "--version"))


@step("knarr-init is the init of every container: init-path and init in the daemon's configuration")
def _():
    with daemon(**{"init-path": INIT, "init": True}):
        equal(json.loads(docker("info", "-f", "{{json .InitBinary}}")), INIT)
        with running() as box:
            assert init_is_ours(box), "another init"
            docker("exec", box, "true")
        run("--init=false", "[ $$ = 1 ]")
