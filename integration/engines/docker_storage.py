"""Docker: images, commit, diff, cp, export, import, save, load, volumes and builds."""
import os

import image
from docker_engine import IMAGE, Engine, docker, inspect, run, running, suite
from steps import Daemon, Skip, contains, equal, matches, sh, until

step = suite.step
DOCKERFILE = f"""FROM {IMAGE}
MAINTAINER workshop
ENV GREETING=hello
RUN echo $GREETING > /built && id -u >> /built
EXPOSE 80
VOLUME /data
ENTRYPOINT ["/bin/cat"]
CMD ["/built"]
"""


@step("diff and commit: the new image has what was written")
def _():
    with running(cmd=("sh", "-c", "echo new > /new; rm /etc/group; sleep 1000")) as box:
        until("written", lambda: sorted(docker("diff", box).split("\n")[:-1]) == ["A /new", "C /etc", "D /etc/group"])
        docker("commit", "-m", "more", box, "knarr/committed:1")
    equal(docker("run", "--rm", "knarr/committed:1", "sh", "-c", "cat /new; [ ! -e /etc/group ] && echo gone"), "new\ngone\n")
    contains(docker("history", "knarr/committed:1"), "more")


@step("names: tag, images, rmi, rmi -f")
def _():
    docker("tag", "knarr/committed:1", "localhost:5000/a/b:c")
    contains(docker("images"), "localhost:5000/a/b", "knarr/committed")
    contains(docker("rmi", "knarr/committed:1"), "Untagged")
    contains(docker("rmi", "-f", "localhost:5000/a/b:c"), "Deleted")


@step("cp in both directions, to running and stopped containers")
def _():
    with open("/tmp/in.txt", "w") as file:
        file.write("copied\n")
    with running() as box:
        docker("cp", "/tmp/in.txt", f"{box}:/tmp/there")
        equal(docker("exec", box, "cat", "/tmp/there"), "copied\n")
        docker("exec", box, "sh", "-c", "echo back > /back")
        docker("stop", "-t", "0", box)
        docker("cp", f"{box}:/back", "/tmp/back")
        with open("/tmp/back") as file:
            equal(file.read(), "back\n")


@step("export and tar xf, import of it")
def _():
    with running() as box:
        docker("export", "-o", "/tmp/hello.tar", box)
    os.makedirs("/tmp/unpacked", exist_ok=True)
    sh("tar", "xf", "/tmp/hello.tar", "-C", "/tmp/unpacked")
    assert os.path.exists("/tmp/unpacked/bin/busybox")
    docker("import", "/tmp/hello.tar", "knarr/imported:1")
    equal(docker("run", "--rm", "knarr/imported:1", "/bin/sh", "-c", "echo imported"), "imported\n")
    docker("rmi", "knarr/imported:1")


@step("save, rmi, load")
def _():
    docker("tag", IMAGE, "knarr/saved:1")
    docker("save", "-o", "/tmp/saved.tar", "knarr/saved:1")
    docker("rmi", "knarr/saved:1")
    contains(docker("load", "-i", "/tmp/saved.tar"), "knarr/saved:1")
    equal(docker("run", "--rm", "knarr/saved:1", "echo", "loaded"), "loaded\n")
    docker("rmi", "knarr/saved:1")


@step("push to a registry of one's own, pull from it, run by digest")
def _():
    with open("/tmp/registry.yml", "w") as file:
        file.write("version: 0.1\nstorage: {filesystem: {rootdirectory: /tmp/registry}}\nhttp: {addr: 127.0.0.1:5000}\n")
    registry = Daemon("/tmp/registry.log", "docker-registry", "serve", "/tmp/registry.yml")
    try:
        until("the registry answers", lambda: sh("curl", "-s", "--noproxy", "*", "http://127.0.0.1:5000/v2/", rc=None) == "{}")
        docker("tag", IMAGE, "127.0.0.1:5000/team/base:1")
        digest = matches(docker("push", "127.0.0.1:5000/team/base:1"), r"digest: (sha256:\w+)").group(1)
        docker("rmi", "127.0.0.1:5000/team/base:1")
        equal(docker("run", "--rm", "127.0.0.1:5000/team/base:1", "echo", "pulled"), "pulled\n")
        equal(docker("run", "--rm", f"127.0.0.1:5000/team/base@{digest}", "echo", "by digest"), "by digest\n")
        docker("rmi", "-f", "127.0.0.1:5000/team/base:1")
    finally:
        registry.stop()


@step("an anonymous volume goes with its container on rm -v")
def _():
    docker("run", "--name", "anon", "-v", "/app", IMAGE, "sh", "-c", "echo data > /app/f")
    volume = inspect("anon", "(index .Mounts 0).Name")
    contains(docker("volume", "ls", "-q"), volume)
    docker("rm", "-v", "anon")
    assert volume not in docker("volume", "ls", "-q")


@step("a directory of the host: written on both sides, read-only with :ro, a file with --mount")
def _():
    os.makedirs("/tmp/share", exist_ok=True)
    run("-v", "/tmp/share:/share", "echo inside > /share/f")
    with open("/tmp/share/f") as file:
        equal(file.read(), "inside\n")
    contains(run("-v", "/tmp/share:/share:ro", "echo no > /share/f", rc=1, both=True), "Read-only file system")
    equal(run("--mount", "type=bind,src=/tmp/share/f,dst=/one/file,readonly", "cat /one/file"), "inside\n")
    contains(run("--mount", "type=bind,src=/no/such,dst=/x", "true", rc=125, both=True), "does not exist")


@step("read-only binds are read-only below too")
def _():
    if Engine.tested.is_shim:
        raise Skip("Docker makes them so only with a runtime that it calls by its path: no other is asked for its features")
    os.makedirs("/tmp/outer/inner", exist_ok=True)
    sh("mount", "-t", "tmpfs", "inner", "/tmp/outer/inner")
    try:
        contains(run("-v", "/tmp/outer:/o:ro", "echo no > /o/inner/f", rc=1, both=True), "Read-only file system")
        run("-v", "/tmp/outer:/o", "echo yes > /o/inner/f")
    finally:
        sh("umount", "/tmp/outer/inner")


@step("bind propagation: rslave sees a later mount of the host, private does not")
def _():
    os.makedirs("/tmp/prop/sub", exist_ok=True)
    sh("mount", "--bind", "/tmp/prop", "/tmp/prop")
    sh("mount", "--make-shared", "/tmp/prop")
    try:
        with running("-v", "/tmp/prop:/p:rslave") as slave, running("-v", "/tmp/prop:/p") as private:
            sh("mount", "-t", "tmpfs", "late", "/tmp/prop/sub")
            contains(docker("exec", slave, "cat", "/proc/mounts"), "/p/sub")
            assert "/p/sub" not in docker("exec", private, "cat", "/proc/mounts")
            sh("umount", "/tmp/prop/sub")
    finally:
        sh("umount", "/tmp/prop")


@step("a named volume keeps its data, --volumes-from shares it")
def _():
    docker("volume", "create", "keep")
    run("-v", "keep:/data", "echo kept > /data/f")
    with running("-v", "keep:/data") as box:
        equal(run("--volumes-from", box, "cat /data/f"), "kept\n")
    equal(run("-v", "keep:/other", "cat /other/f"), "kept\n")
    # a new volume starts with what the image has there
    equal(run("-v", "fresh:/srv/www", "cat /srv/www/index.html"), "served from a container\n")
    docker("volume", "rm", "keep", "fresh")


@step("a tmpfs by --mount, and a volume's subpath")
def _():
    contains(run("--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770", "grep ' /t ' /proc/mounts"), "size=1024k", "mode=1770")
    run("-v", "sub:/v", "mkdir /v/d; echo deep > /v/d/f")
    equal(run("--mount", "type=volume,src=sub,dst=/d,volume-subpath=d", "cat /d/f"), "deep\n")
    docker("volume", "rm", "sub")


def build(tag, builder, *flags):
    return docker("build", *flags, "-t", tag, "/tmp/context", env={"DOCKER_BUILDKIT": builder}, both=True, timeout=120)


@step("build, classic: RUN in a container of the tested runtime; again from the cache; a changed line rebuilds from there")
def _():
    image.build_context("/tmp/context", {"Dockerfile": DOCKERFILE})
    matches(build("knarr/built:1", "0"), r"Successfully tagged knarr/built:1")
    equal(docker("run", "--rm", "knarr/built:1"), "hello\n0\n")
    equal(build("knarr/built:2", "0").count("Using cache"), 7)
    image.build_context("/tmp/context", {"Dockerfile": DOCKERFILE.replace("id -u", "id -g; echo 2")})
    equal(build("knarr/built:3", "0").count("Using cache"), 2)
    contains(docker("history", "knarr/built:3"), "EXPOSE", "VOLUME", "ENTRYPOINT")
    image.build_context("/tmp/context", {"Dockerfile": f"FROM {IMAGE}\nRUN exit 3\n"})
    contains(docker("build", "--force-rm", "/tmp/context", env={"DOCKER_BUILDKIT": "0"}, rc=3, both=True), "returned a non-zero code: 3")


@step("build, BuildKit: RUN in the tested runtime; again from the cache; secrets and cache mounts")
def _():
    if not os.path.exists("/usr/libexec/docker/cli-plugins/docker-buildx"):
        raise Skip("no docker-buildx in the tree")
    mounts = "--mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=secret,id=s"
    text = DOCKERFILE.replace("RUN echo", f"RUN {mounts} cp /run/secrets/s /secret; echo")
    image.build_context("/tmp/context", {"Dockerfile": text, "s": "secret\n"})
    build("knarr/kit:1", "1", "--secret", "id=s,src=/tmp/context/s")
    equal(docker("run", "--rm", "knarr/kit:1"), "hello\n0\n")
    equal(docker("run", "--rm", "knarr/kit:1", "/secret"), "secret\n")
    contains(build("knarr/kit:2", "1", "--secret", "id=s,src=/tmp/context/s"), "CACHED")
    image.build_context("/tmp/context", {"Dockerfile": f"FROM {IMAGE}\nRUN exit 3\n"})
    contains(docker("build", "/tmp/context", env={"DOCKER_BUILDKIT": "1"}, rc=1, both=True), "exit code: 3")
