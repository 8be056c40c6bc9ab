"""docker compose: a project of two services with a build, ports, volumes, a network, environment, order and scaling."""
import os

import docker_engine
from docker_engine import IMAGE, docker, host_pid
from steps import Suite, contains, equal, sh, until

suite = Suite("compose")
suite.logs = [docker_engine.LOG]
step = suite.step
FOLDER = "/tmp/shop"
FILE = f"""
services:
  back:
    image: {IMAGE}
    command: ["sh", "-c", "echo $$GREETING > /srv/www/index.html; exec httpd -f -p 80 -h /srv/www"]
    environment:
      GREETING: hello from the back
    networks: [inner]
    stop_grace_period: 1s
  front:
    build: ./front
    depends_on: [back]
    ports: ["8001:80"]
    volumes: ["kept:/kept"]
    networks: [inner]
    stop_grace_period: 1s
networks:
  inner:
volumes:
  kept:
"""
FRONT = f"""FROM {IMAGE}
COPY ask /srv/www/cgi-bin/ask
RUN chmod +x /srv/www/cgi-bin/ask
CMD ["httpd", "-f", "-p", "80", "-h", "/srv/www"]
"""
ASK = """#!/bin/sh
echo
wget -qO- http://back/
date +%s >> /kept/visits
wc -l < /kept/visits
"""


def compose(*argv, **options):
    # the plain builder, whose RUN is a container of the tested runtime; docker_storage has BuildKit's
    return docker("compose", "--project-directory", FOLDER, *argv, timeout=120, env={"DOCKER_BUILDKIT": "0"}, **options)


def ask():
    return sh("curl", "-s", "-m", "30", "--noproxy", "*", "http://127.0.0.1:8001/cgi-bin/ask", rc=None)


def visit(greeting):
    """The answer of the front, which counts who asks: so it is asked once, when both services are there."""
    until("the front is up", lambda: sh("curl", "-s", "-m", "5", "--noproxy", "*", "http://127.0.0.1:8001/index.html", rc=None))
    until("the back answers", lambda: compose("exec", "-T", "front", "wget", "-qO-", "http://back/", rc=None) == greeting)
    return ask()


@step("up builds and starts both services, and the front asks the back by its name")
def _():
    os.makedirs(f"{FOLDER}/front", exist_ok=True)
    for name, text in {"compose.yaml": FILE, "front/Dockerfile": FRONT, "front/ask": ASK}.items():
        with open(f"{FOLDER}/{name}", "w") as file:
            file.write(text)
    compose("up", "-d")
    equal(visit("hello from the back\n"), "hello from the back\n1\n")
    equal(docker("inspect", "-f", "{{.HostConfig.Runtime}}", "shop-back-1", "shop-front-1").split(), ["tested", "tested"])


@step("ps, logs, top and exec know the services")
def _():
    contains(compose("ps"), "shop-back-1", "shop-front-1", "0.0.0.0:8001->80/tcp")
    equal(compose("exec", "-T", "front", "wget", "-qO-", "http://back/"), "hello from the back\n")
    contains(compose("top"), "httpd")
    compose("logs")


@step("run starts a one-off container on the project's network")
def _():
    equal(compose("run", "--rm", "-T", "back", "wget", "-qO-", "http://front/index.html"), "served from a container\n")


@step("scaling to three and back")
def _():
    compose("up", "-d", "--scale", "back=3")
    equal(len(compose("ps", "-q", "back").split()), 3)
    contains(compose("exec", "-T", "front", "nslookup", "back", rc=None, both=True), "Address")
    compose("up", "-d", "--scale", "back=1")
    equal(len(compose("ps", "-q", "back").split()), 1)


@step("a changed service is made anew, its volume stays")
def _():
    before = host_pid("shop-back-1"), host_pid("shop-front-1")
    with open(f"{FOLDER}/compose.yaml", "w") as file:
        file.write(FILE.replace("hello from the back", "changed"))
    compose("up", "-d")
    equal(visit("changed\n"), "changed\n2\n")
    assert host_pid("shop-back-1") != before[0]


@step("pause, unpause, stop, start, kill and restart")
def _():
    compose("pause")
    equal(docker("inspect", "-f", "{{.State.Status}}", "shop-back-1").strip(), "paused")
    compose("unpause")
    compose("stop", "-t", "1")
    equal(compose("ps", "-q"), "")
    compose("start")
    until("the front answers", ask)
    compose("kill", "back")
    compose("restart", "-t", "1")
    until("the front answers", lambda: "changed" in ask())


@step("down removes containers and networks, -v the volumes too")
def _():
    compose("down", "-v", "-t", "1")
    equal(docker("ps", "-aq"), "")
    assert "shop_inner" not in docker("network", "ls")
    assert "shop_kept" not in docker("volume", "ls")


def engine(runtime):
    return docker_engine.engine(runtime)
