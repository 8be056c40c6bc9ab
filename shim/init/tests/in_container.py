"""Tests: the init as a real container's first process, run by the `knarr` that was built beside it."""
import json
import os
import shutil
import subprocess
import tempfile

from inits import Skip, equal, test


def container(knarr, path, script):
    """Runs a shell script under the init in a container; exit status and output."""
    busybox = shutil.which("busybox")
    if not os.path.exists(knarr) or not busybox:
        raise Skip(f"no {knarr if busybox else 'busybox'}")
    with tempfile.TemporaryDirectory(prefix="knarr-init-") as folder:
        for name in ("proc", "sys", "dev", "bin", "tmp"):
            os.makedirs(f"{folder}/rootfs/{name}")
        shutil.copy(busybox, f"{folder}/rootfs/bin/busybox")
        for name in ("sh", "sleep", "ps", "kill", "cat"):
            os.symlink("busybox", f"{folder}/rootfs/bin/{name}")
        shutil.copy(path, f"{folder}/rootfs/init")
        subprocess.run([knarr, "spec", "--bundle", folder], check=True)
        with open(f"{folder}/config.json") as file:
            config = json.load(file)
        config["process"].update(terminal=False, args=["/init", "--", "sh", "-c", script], env=["PATH=/bin"])
        config["root"]["readonly"] = True
        with open(f"{folder}/config.json", "w") as file:
            json.dump(config, file)
        name = f"knarr-init-{os.getpid()}"
        root = ["--root", f"{folder}/state"]
        process = subprocess.Popen([knarr, *root, "run", "--bundle", folder, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            yield process, lambda *words: subprocess.run([knarr, *root, words[0], name, *words[1:]], check=True)
        finally:
            if process.poll() is None:
                subprocess.run([knarr, *root, "delete", "--force", name], check=False)
            process.wait(20)
            process.stdout.close()


def register(knarr):
    @test("in a container it is the first process, reaps, passes on and ends as the program", agree="tini-static catatonit")
    def in_container(path):
        script = "(sleep 0.01 &); n=0; while [ $n -lt 200 ] && sleep 0.05 && ps -o comm,stat | grep -qE '^sleep|Z'; do n=$((n+1)); done; " \
            "cat /proc/1/comm; ps -o stat | grep -c Z; trap 'echo asked; exit 23' TERM; echo up; while :; do sleep 0.05; done"
        for process, knarr_does in container(knarr, path, script):
            equal([process.stdout.readline() for _ in range(3)], [b"init\n", b"0\n", b"up\n"])
            knarr_does("kill", "TERM")
            equal(process.stdout.readline(), b"asked\n")
            equal(process.wait(20), 23)

    @test("in a container it does not end or stop by signals from within", agree="tini-static catatonit")
    def from_within(path):
        for process, _ in container(knarr, path, "kill -9 1; kill -STOP 1; echo alive; exit 6"):
            equal((process.stdout.readline(), process.wait(20)), (b"alive\n", 6))
