#!/usr/bin/env python3
"""Power cuts: what a load writes, cut at every point.

  power_cut.py KNARR-IMAGE

A small image is loaded under strace. From the log a model of the file system is made in which each change is durable or not:
a sync of a file makes its content durable, one of a folder its names, one of the file system everything. For each point of
the log, states are built that a power cut there may leave: everything up to it; nothing that was not synced; names kept but
content lost, as a journal without data does; and random choices. Each state is written out as a store. It must then open,
every image it names must be whole, and loading the image again must heal it.
"""
import ast, os, random, re, shutil, subprocess, sys, tempfile

BIN = os.path.realpath(sys.argv[1])
CALLS = ("openat,openat2,open,mkdirat,mkdir,write,pwrite64,ftruncate,rename,renameat,renameat2,linkat,symlinkat,mknodat,"
         "unlinkat,unlink,rmdir,fsync,fdatasync,syncfs,fchmod,fchmodat,utimensat")


class Inode:
    def __init__(self, kind):
        self.kind = kind


class Log:
    """The calls as operations on inodes: (kind, ...), in order."""

    def __init__(self, root):
        self.root, self.names, self.ops = root, {}, []
        # The folder the store is in exists before it.
        self.names[os.path.dirname(root)] = Inode("d")
        self.names[root] = Inode("d")

    def add(self, *op):
        self.ops.append(op)

    def inside(self, path):
        return path is not None and (path == self.root or path.startswith(self.root + "/"))

    def entry(self, path, inode):
        parent = self.names[os.path.dirname(path)]
        return (parent, os.path.basename(path), inode)

    def create(self, path, inode):
        self.names[path] = inode
        self.add("names", [self.entry(path, inode)])

    def rename(self, old, new):
        inode = self.names[old]
        changes = [self.entry(old, None), self.entry(new, inode)]
        if inode.kind == "d":
            for path in [p for p in self.names if p.startswith(old + "/")]:
                self.names[new + path[len(old):]] = self.names.pop(path)
        del self.names[old]
        self.names[new] = inode
        self.add("names", changes)

    def remove(self, path):
        if path in self.names:
            changes = [self.entry(path, None)]
            del self.names[path]
            self.add("names", changes)

    def call(self, name, args, result):
        """One successful call; ARGS is strace's text."""
        strings = [decode(s) for s in re.findall(r'"((?:[^"\\]|\\.)*)"', args)]
        fds = [decode(p).decode(errors="replace").removesuffix(" (deleted)") for p in re.findall(r"(?:\d+|AT_FDCWD)<([^>]*)>", args)]

        def path(text, base):
            text = text.decode(errors="surrogateescape")
            joined = text if text.startswith("/") else os.path.join(base, text)
            match = re.match(r"/proc/self/fd/\d+", joined)
            return None if match else os.path.normpath(joined)

        if name in ("openat", "openat2", "open"):
            target = path(strings[0], fds[0] if fds else "/")
            if self.inside(target) and "O_CREAT" in args and target not in self.names:
                mode = int(re.search(r"0([0-7]+)", args.split("O_CREAT")[1]).group(1) or "0", 8)
                self.create(target, Inode("f"))
                self.add("mode", self.names[target], mode)
        elif name in ("mkdirat", "mkdir"):
            target = path(strings[0], fds[0] if fds else "/")
            if self.inside(target):
                self.create(target, Inode("d"))
        elif name in ("write", "pwrite64"):
            if self.inside(fds[0]) and fds[0] in self.names:
                self.add("data", self.names[fds[0]], strings[0][: int(result)])
        elif name in ("rename", "renameat", "renameat2"):
            old, new = path(strings[0], fds[0] if fds else "/"), path(strings[1], fds[-1] if fds else "/")
            if self.inside(old) or self.inside(new):
                self.rename(old, new)
        elif name == "linkat":
            self.create(path(strings[1], fds[-1]), self.names[path(strings[0], fds[0])])
        elif name == "symlinkat":
            target = path(strings[1], fds[0])
            if self.inside(target):
                self.create(target, Inode("l"))
                self.add("data", self.names[target], strings[0])
        elif name == "mknodat":
            target = path(strings[0], fds[0])
            if self.inside(target):
                self.create(target, Inode("w"))
        elif name in ("unlinkat", "unlink", "rmdir"):
            target = path(strings[0], fds[0] if fds else "/")
            if self.inside(target):
                self.remove(target)
        elif name in ("fchmod", "fchmodat"):
            target = fds[0] if name == "fchmod" else path(strings[0], fds[0])
            if self.inside(target) and target in self.names:
                self.add("mode", self.names[target], int(re.findall(r"\b0([0-7]*)", args)[-1] or "0", 8))
        elif name == "utimensat":
            target = fds[0] if not strings else path(strings[0], fds[0])
            if self.inside(target) and target in self.names:
                self.add("time", self.names[target], int(re.findall(r"tv_sec=(-?\d+)", args)[-1]))
        elif name in ("fsync", "fdatasync"):
            if fds[0] in self.names:
                self.add("sync", self.names[fds[0]])
        elif name == "syncfs":
            self.add("syncfs")


def decode(text):
    return ast.literal_eval('b"' + text.encode("unicode_escape").decode().replace("\\\\", "\\") + '"')


def read_log(path, root):
    log, partial = Log(root), {}
    for line in open(path, errors="surrogateescape"):
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            partial[pid] = text.removesuffix("<unfinished ...>")
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", text)
        if resumed:
            text = partial.pop(pid) + resumed.group(1)
        match = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", text)
        if match and int(match.group(3)) >= 0:
            log.call(*match.groups())
    return log


def durable(ops, cut):
    """For each of the first CUT operations: whether a sync before the cut covers it."""
    marks, synced, everything = [False] * cut, set(), False
    for at in range(cut - 1, -1, -1):
        op = ops[at]
        if op[0] == "syncfs":
            everything = True
        elif op[0] == "sync":
            synced.add(op[1])
        elif everything:
            marks[at] = True
        elif op[0] == "names":
            # A rename is one transaction: durable as soon as one of its folders is.
            marks[at] = any(parent in synced for parent, _, _ in op[1])
        else:
            marks[at] = op[1] in synced
    return marks


def build(log, keep, target):
    """Writes out the state in which the operations KEEP happened."""
    folders, data, modes, times = {}, {}, {}, {}
    for at in keep:
        op = log.ops[at]
        if op[0] == "names":
            for parent, name, inode in op[1]:
                entries = folders.setdefault(parent, {})
                entries.pop(name, None)
                if inode is not None:
                    entries[name] = inode
        elif op[0] == "data":
            data[op[1]] = data.get(op[1], b"") + op[2]
        elif op[0] == "mode":
            modes[op[1]] = op[2]
        elif op[0] == "time":
            times[op[1]] = op[2]
    made = {}

    def write(inode, path):
        if inode.kind == "d":
            os.makedirs(path, exist_ok=True)
            for name, child in folders.get(inode, {}).items():
                write(child, os.path.join(path, name))
        elif inode in made:
            os.link(made[inode], path, follow_symlinks=False)
        elif inode.kind == "l":
            os.symlink(data.get(inode, b"lost"), path)
        elif inode.kind == "w":
            os.mknod(path, 0o020000)
        else:
            with open(path, "wb") as file:
                file.write(data.get(inode, b""))
        made.setdefault(inode, path)
        if inode in modes and inode.kind != "l":
            os.chmod(path, modes[inode])
        if inode in times:
            os.utime(path, (times[inode], times[inode]), follow_symlinks=False)

    write(log.root_inode, target)


def run(*arguments):
    return subprocess.run([BIN, *arguments], capture_output=True, text=True)


def check(store, image, what):
    """Opens, names nothing incomplete, heals."""
    listed = run("--root", store, "images", "-q")
    if listed.returncode != 0:
        return f"{what}: does not open: {listed.stderr}"
    names = listed.stdout.split()
    verified = run("--root", store, "verify")
    if names and verified.returncode != 0:
        return f"{what}: names {names} but: {verified.stdout}{verified.stderr}"
    for step in (["load", "-qi", image], ["verify"], ["prune"], ["verify"]):
        again = run("--root", store, *step)
        if again.returncode != 0:
            return f"{what}: {step[0]} after it: {again.stdout}{again.stderr}"
    return None


def main():
    work = tempfile.mkdtemp(prefix="knarr-power-cut.", dir="/var/tmp")
    try:
        tree = os.path.join(work, "tree")
        os.makedirs(os.path.join(tree, "etc/conf.d"))
        for number in range(6):
            with open(os.path.join(tree, "etc/conf.d", str(number)), "w") as file:
                file.write(str(number) * 100)
        os.symlink("conf.d/0", os.path.join(tree, "etc/link"))
        subprocess.run(["tar", "-C", tree, "--sort=name", "-czf", f"{work}/tree.tar.gz", "."], check=True)
        made = os.path.join(work, "made")
        assert run("--root", made, "import", f"{work}/tree.tar.gz", "app:1").returncode == 0
        assert run("--root", made, "create", "--name", "c", "app:1").returncode == 0
        with open(os.path.join(work, "new"), "w") as file:
            file.write("new")
        assert run("--root", made, "cp", f"{work}/new", "c:/etc/new").returncode == 0
        assert run("--root", made, "commit", "c", "app:2").returncode == 0
        image = f"{work}/image.tar"
        assert run("--root", made, "save", "-o", image, "app:2").returncode == 0
        store = os.path.join(work, "store")
        trace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", f"{work}/log"]
        subprocess.run([*trace, BIN, "--root", store, "load", "-qi", image], check=True, capture_output=True)
        os_root = os.path.realpath(store)
        full = read_log(f"{work}/log", os_root)
        full.root_inode = full.names[os_root]
        total, failures = 0, []
        source = random.Random(1)
        step = int(os.environ.get("KNARR_CUT_STEP", "1"))
        for cut in range(1, len(full.ops) + 1, step):
            marks = durable(full.ops, cut)
            content = [full.ops[at][0] != "names" for at in range(cut)]
            choices = {
                "everything": range(cut),
                "only what was synced": [at for at in range(cut) if marks[at]],
                "names without content": [at for at in range(cut) if marks[at] or not content[at]],
                "a random part": [at for at in range(cut) if marks[at] or source.random() < 0.5],
            }
            for name, keep in choices.items():
                target = os.path.join(work, "cut")
                build(full, keep, target)
                problem = check(target, image, f"cut {cut} of {len(full.ops)}, {name}")
                shutil.rmtree(target)
                total += 1
                if problem:
                    failures.append(problem)
        for problem in failures[:20]:
            print("FAIL ", problem)
        print(f"{total - len(failures)} passed, {len(failures)} failed, 0 skipped")
        return 1 if failures else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


if os.geteuid() != 0 or shutil.which("strace") is None:
    print("skipped: needs root and strace")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
sys.exit(main())
