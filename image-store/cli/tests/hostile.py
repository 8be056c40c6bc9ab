#!/usr/bin/env python3
"""Malicious images against knarr-image, umoci, podman and containerd: what each makes of them.

  hostile.py KNARR-IMAGE [-v]

Each image of hostile_corpus.py is unpacked by each tool in the Debian tree at $KNARR_LAB/root (default ~/.cache/knarr-lab),
which is entered with this file as root, in private namespaces. What knarr-image does must be what at least one of the others
does: refuse, or unpack to the same tree; the exceptions have their reason in OWN_WAY. Nothing outside a root may change,
and knarr-image must leave its store whole. Without that tree only the latter is checked, on this machine's own root.
"""
import hashlib, os, shutil, stat, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import hostile_corpus

REFUSED = "refused"
# Where knarr-image does what none of the other tools does.
OWN_WAY = {
    "a name with dots": "refused: the others take it as a name below the root, which whoever wrote it did not mean",
    "a name with dots inside": "refused: as above",
    "a PAX path with dots": "refused: as above",
    "a PAX uid that is too large": "refused: no system has such an owner, and the others leave the file to root",
    "another version of the schema": "refused: the specification says that it must be 2",
    "a whiteout as a directory": "refused: the others make a directory of this name, which no layer can say of another",
    "overlay's own whiteout": "refused: it would hide a file behind the back of whoever looks for whiteouts",
    "a GNU sparse file": "the others do not know the kind of entry that GNU tar writes, though they take the same file as PAX",
    "bookkeeping of aufs": "left out as the specification's reserved names are",
}


def listing(root):
    """What a container would see: a line per path; directories without their times."""
    lines, todo = [], [b""]
    while todo:
        at = todo.pop()
        try:
            entries = list(os.scandir(os.path.join(os.fsencode(root), at)))
        except OSError as error:
            lines.append(f"{at} {error.strerror}")
            continue
        for item in entries:
            path = os.path.join(at, item.name)
            try:
                meta = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                # Overlay lists a whiteout in a directory that only one layer has, although it cannot be used.
                continue
            line = f"{path!r} {stat.filemode(meta.st_mode)} {meta.st_uid}:{meta.st_gid}"
            if stat.S_ISDIR(meta.st_mode):
                if len(path) < 3000:
                    todo.append(path)
            elif stat.S_ISLNK(meta.st_mode):
                line += f" -> {os.readlink(item.path)!r}"
            elif stat.S_ISREG(meta.st_mode):
                content = hashlib.sha256(open(item.path, "rb").read()).hexdigest()[:12]
                line += f" {meta.st_size} {content} {int(meta.st_mtime)}"
            else:
                line += f" {meta.st_rdev}"
            lines.append(line)
    return sorted(lines)


def run(*command, limit=300):
    done = subprocess.run(["timeout", "-k", "1", str(limit), *command], capture_output=True)
    said = done.stderr if done.returncode else done.stdout
    return done.returncode, said.decode(errors="replace").strip()


def knarr(case):
    code, said = run("./knarr-image", "--root", "ours", "load", "-q", "-i", f"corpus/{case}", limit=120)
    if code:
        return (REFUSED if code < 100 else f"died {code}"), said
    image = said.split()[-1]
    os.makedirs("view", exist_ok=True)
    code, said = run("./knarr-image", "--root", "ours", "mount", image, "view")
    if code:
        return f"died {code}", said
    try:
        return listing("view"), said
    finally:
        run("umount", "view")
        run("./knarr-image", "--root", "ours", "rmi", "-f", image)


def umoci(case):
    code, said = run("umoci", "unpack", "--image", f"corpus/{case}:t", f"umoci/{case}")
    return (REFUSED if code else listing(f"umoci/{case}/rootfs")), said


def podman(case):
    command = ["podman", "--root", "/mnt/podman", "--runroot", "/run/podman", "--storage-driver", "overlay"]
    code, said = run(*command, "pull", "-q", f"oci:/mnt/corpus/{case}:t")
    if code:
        return REFUSED, said
    image = said.splitlines()[-1]
    code, path = run(*command, "image", "mount", image)
    if code:
        return REFUSED, path
    try:
        return listing(path.splitlines()[-1]), said
    finally:
        run(*command, "image", "unmount", image)


def containerd(case):
    run("tar", "-C", f"corpus/{case}", "-cf", "import.tar", ".")
    code, said = run("ctr", "image", "import", "--base-name", f"docker.io/test/{case}", "import.tar")
    if code:
        return REFUSED, said
    os.makedirs(f"containerd-{case}", exist_ok=True)
    code, said = run("ctr", "image", "mount", f"docker.io/test/{case}:t", f"containerd-{case}")
    if code:
        return REFUSED, said
    try:
        return listing(f"containerd-{case}"), said
    finally:
        run("umount", f"containerd-{case}")


def outside():
    return listing("/" + hostile_corpus.OUTSIDE)


def inside(verbose):
    """Runs all cases in the tree; the working directory is /mnt, which has the corpus and knarr-image."""
    os.makedirs("outside")
    for name in ("canary", "victim"):
        with open(f"outside/{name}", "w") as file:
            file.write("untouched")
    tools = {}
    server = None
    if shutil.which("umoci"):
        os.makedirs("umoci")
        tools["umoci"] = umoci
    if shutil.which("podman"):
        tools["podman"] = podman
    if shutil.which("containerd") and shutil.which("ctr"):
        log = open("containerd.log", "w")
        server = subprocess.Popen(["containerd", "--root", "/mnt/containerd", "--state", "/run/containerd"], stdout=log, stderr=log)
        for _ in range(600):
            if run("ctr", "version")[0] == 0:
                tools["containerd"] = containerd
                break
            time.sleep(0.1)
    passed, failed, untouched = 0, 0, outside()
    for case, name in hostile_corpus.write("corpus"):
        ours, said = knarr(case)
        problems = []
        if outside() != untouched:
            problems.append("changed what is outside")
        if isinstance(ours, str) and ours != REFUSED:
            problems.append(ours)
        theirs = {tool: take(case) for tool, take in tools.items()}
        if outside() != untouched:
            # Another tool did it, because ours was checked before: reported, but no failure.
            print(f"note  {name}: another tool changed what is outside", flush=True)
            untouched = outside()
        same = [tool for tool, (outcome, _) in theirs.items() if outcome == ours]
        if theirs and not same and name not in OWN_WAY:
            problems.append("none of the others does so")
        shown = REFUSED if ours == REFUSED else "unpacked"
        detail = f"{shown}, as {', '.join(same) or 'none'}" + (f" ({OWN_WAY[name]})" if name in OWN_WAY and not same else "")
        print(f"{'FAIL ' if problems else 'ok   '} {name}: {'; '.join(problems + [detail])}", flush=True)
        if verbose or problems:
            print(f"      knarr-image: {said[:300]}")
            for tool, (outcome, said) in theirs.items():
                if outcome == REFUSED or ours == REFUSED:
                    print(f"      {tool}: {REFUSED + ': ' + said[-300:] if outcome == REFUSED else 'unpacked'}")
                else:
                    print(f"      {tool}: only there {sorted(set(outcome) - set(ours))[:6]}, only here {sorted(set(ours) - set(outcome))[:6]}")
        passed, failed = passed + (not problems), failed + bool(problems)
    code, said = run("./knarr-image", "--root", "ours", "verify")
    left = [name for name in ("ingest", "leases", "refs") if os.listdir(f"ours/{name}")]
    if code or left:
        print(f"FAIL  the store afterwards: {said} {left}")
    passed, failed = passed + (not code and not left), failed + bool(code or left)
    if server:
        server.terminate()
        server.wait()
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


ENTER = """
mount --bind "$LAB" "$LAB"; cd "$LAB"; mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys
mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp; mount --bind "$W" mnt; mkdir -p run/old; pivot_root . run/old; cd /; umount -l /run/old
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
cd /mnt; python3 tests/hostile.py --inside "$@"; exit $?
"""


def main():
    if os.geteuid() != 0:
        print("skipped: needs root\n0 passed, 0 failed, 1 skipped")
        return 0
    lab = os.path.join(os.environ.get("KNARR_LAB", os.path.expanduser("~/.cache/knarr-lab")), "root")
    work = tempfile.mkdtemp(prefix="knarr-hostile.", dir="/var/tmp")
    try:
        shutil.copy(sys.argv[1], f"{work}/knarr-image")
        os.mkdir(f"{work}/tests")
        for file in ("hostile.py", "hostile_corpus.py"):
            shutil.copy(os.path.join(HERE, file), f"{work}/tests/{file}")
        namespaces = ["unshare", "-m", "-p", "-f", "--kill-child", "--propagation", "private"]
        if os.path.exists(f"{lab}/usr/bin/python3"):
            command = [*namespaces, "bash", "-ec", ENTER, "_", *sys.argv[2:]]
        else:
            print(f"skipped: comparison with other tools: nothing at {lab}")
            script = 'mount --bind "$1" /mnt; cd /mnt; shift; exec python3 tests/hostile.py --inside "$@"'
            command = [*namespaces, "bash", "-ec", script, "_", work, *sys.argv[2:]]
        return subprocess.call(command, env=os.environ | {"LAB": lab, "W": work})
    finally:
        shutil.rmtree(work, ignore_errors=True)


sys.exit(inside("-v" in sys.argv) if sys.argv[1] == "--inside" else main())
