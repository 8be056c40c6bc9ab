"""Makes the file systems of the test images from programs of the surrounding Debian tree: busybox, ps, tini, and the libraries
they need. No registry is asked for anything. It must not know any engine."""
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

ROOTFS, TAR = "/tmp/base", "/tmp/base.tar"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:alice:/home/alice:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\naudio:x:29:alice\nalice:x:1000:\nnogroup:x:65534:\n"


def build():
    """Writes the root file system to ROOTFS and as a tar archive to TAR, once."""
    if os.path.exists(TAR):
        return
    for directory in "bin dev etc home/alice proc root run srv/www sys tmp usr var/lib".split():
        os.makedirs(f"{ROOTFS}/{directory}")
    os.symlink("../bin", f"{ROOTFS}/usr/bin")
    os.chmod(f"{ROOTFS}/tmp", 0o1777)
    os.chown(f"{ROOTFS}/home/alice", 1000, 1000)
    for path, text in {"passwd": PASSWD, "group": GROUP, "os-release": "ID=knarr-base\n"}.items():
        with open(f"{ROOTFS}/etc/{path}", "w") as file:
            file.write(text)
    with open(f"{ROOTFS}/srv/www/index.html", "w") as file:
        file.write("served from a container\n")
    shutil.copy("/usr/bin/busybox", f"{ROOTFS}/bin/busybox")
    for applet in subprocess.check_output(["/usr/bin/busybox", "--list"], text=True).split():
        if applet not in ("busybox", "ps", "stat"):
            os.symlink("busybox", f"{ROOTFS}/bin/{applet}")
    for program in "/usr/bin/ps", "/usr/bin/stat", "/usr/sbin/capsh", "/usr/bin/unshare":
        add_with_libraries(program)
    shutil.copy("/usr/bin/tini-static", f"{ROOTFS}/bin/tini")
    with tarfile.open(TAR, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(ROOTFS, ".")


def add_with_libraries(program):
    """Copies a dynamically linked program, its loader and its libraries to the same paths in ROOTFS."""
    target = f"{ROOTFS}/bin/{os.path.basename(program)}"
    if os.path.lexists(target):
        os.unlink(target)
    shutil.copy(program, target)
    for word in subprocess.check_output(["ldd", program], text=True).split():
        if word.startswith("/"):
            os.makedirs(ROOTFS + os.path.dirname(word), exist_ok=True)
            shutil.copy(word, ROOTFS + word)


def build_context(directory, files):
    """A directory with files for `build`."""
    os.makedirs(directory, exist_ok=True)
    for name, text in files.items():
        with open(f"{directory}/{name}", "w") as file:
            file.write(text)
    return directory


def pause_archive(path, name, program, *arguments):
    """Writes an image of nothing but a static program that waits: the first container of a pod."""
    layer = "/tmp/pause.tar"
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(os.path.realpath(program), "pause")
    docker_archive(path, name, layer, ["/pause", *arguments])


def docker_archive(path, name, layer=TAR, command=("/bin/sh",)):
    """Writes an image of one layer in the format of `docker save`."""
    with open(layer, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    config = json.dumps({"architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"), "os": "linux",
                         "config": {"Cmd": list(command), "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
                         "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                         "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "integration/engines"}]}).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        tar.add(layer, "layer.tar")
        for file, data in ("config.json", config), ("manifest.json", manifest):
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
