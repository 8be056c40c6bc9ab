#!/usr/bin/env python3
"""Power cuts: what each command that changes a store writes, cut at every point.

  power_cut.py KNARR-IMAGE [SCENARIO...]

A command (load, pull, import, commit, rmi, prune) runs under strace on a small store. From the log a model of the file
system is made in which each change is durable or not: a sync of a file makes its content durable, one of a directory its
names, one of the file system everything; what was there before is durable. For each point of the log, states are built that
a power cut there may leave: everything up to it; nothing that was not synced; names kept but content lost, as a journal
without data does; and random choices. Each state is written out as a store. It must then open, every image it names must be
whole, images that the command does not concern must exist, and running the command again must repair it.
"""
import ast, ctypes, http.server, json, os, random, re, shutil, stat, subprocess, sys, tempfile, threading

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
        # The parent directory of the store already exists.
        self.names[os.path.dirname(root)] = Inode("d")
        self.names[root] = self.root_inode = Inode("d")
        self.linked = {}
        if os.path.isdir(root):
            self.there(root)
        # What exists before the command is not cut.
        self.base = len(self.ops)

    def there(self, directory):
        """Operations that create the contents of DIRECTORY."""
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            meta = entry.stat(follow_symlinks=False)
            kind = "d" if entry.is_dir(follow_symlinks=False) else "l" if entry.is_symlink() else "f"
            kind = "w" if stat.S_ISCHR(meta.st_mode) else kind
            inode = self.linked.setdefault(meta.st_ino, Inode(kind))
            self.create(entry.path, inode)
            if kind == "f" and meta.st_size:
                self.add("data", inode, open(entry.path, "rb").read())
            elif kind == "l":
                self.add("data", inode, os.fsencode(os.readlink(entry.path)))
            elif kind == "d":
                self.there(entry.path)
            self.add("mode", inode, stat.S_IMODE(meta.st_mode))
            self.add("time", inode, meta.st_mtime_ns // 10**9)

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


def read_log(path, log):
    """Adds the calls in strace's file at PATH to LOG."""
    partial = {}
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


def durable(ops, cut, base):
    """For each of the first CUT operations: whether a sync before the cut covers it, or it is older than the log."""
    marks, synced, everything = [False] * cut, set(), False
    for at in range(cut - 1, -1, -1):
        op = ops[at]
        if at < base:
            marks[at] = True
        elif op[0] == "syncfs":
            everything = True
        elif op[0] == "sync":
            synced.add(op[1])
        elif everything:
            marks[at] = True
        elif op[0] == "names":
            # A rename is one transaction: durable as soon as one of its directories is.
            marks[at] = any(parent in synced for parent, _, _ in op[1])
        else:
            marks[at] = op[1] in synced
    return marks


def build(log, keep, target):
    """Writes out the state in which the operations KEEP happened."""
    directories, data, modes, times = {}, {}, {}, {}
    for at in keep:
        op = log.ops[at]
        if op[0] == "names":
            for parent, name, inode in op[1]:
                entries = directories.setdefault(parent, {})
                entries.pop(name, None)
                if inode is not None:
                    entries[name] = inode
        elif op[0] == "data":
            # A link has one target; files are only ever written from their start to their end.
            data[op[1]] = op[2] if op[1].kind == "l" else data.get(op[1], b"") + op[2]
        elif op[0] == "mode":
            modes[op[1]] = op[2]
        elif op[0] == "time":
            times[op[1]] = op[2]
    made = {}

    def write(inode, path):
        if inode.kind == "d":
            os.makedirs(path, exist_ok=True)
            for name, child in directories.get(inode, {}).items():
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


def settle():
    """Waits for background processes that empty the trash: they must not meet the next store at the same path."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def check(store, scenario, what):
    """The store opens, has no incomplete image, has lost nothing, and can be repaired."""
    listed = run("--root", store, "images", "--format", "{{.Repository}}:{{.Tag}}")
    if listed.returncode != 0:
        return f"{what}: does not open: {listed.stderr}"
    names = listed.stdout.split()
    lost = [name for name in scenario.keeps if name not in names]
    if lost:
        return f"{what}: lost {lost}, has {names}"
    verified = run("--root", store, "verify")
    if names and verified.returncode != 0:
        return f"{what}: names {names} but: {verified.stdout}{verified.stderr}"
    heal = scenario.heal
    if scenario.takes_away and scenario.takes_away not in names:
        heal = ["images"]
    for step in (heal, ["verify"], ["prune", "-f"], ["verify"]):
        again = run("--root", store, *step)
        if again.returncode != 0:
            return f"{what}: {step[0]} after it: {again.stdout}{again.stderr}"
    left = run("--root", store, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    wanted = scenario.keeps + ([scenario.makes] if scenario.makes else [])
    if sorted(left) != sorted(wanted):
        return f"{what}: {left} after healing, not {wanted}"
    return None


class Scenario:
    """A command, the store it starts with, and what must be true of the store after a cut at any point."""

    def __init__(self, command, start=None, heal=None, keeps=(), makes=None, takes_away=None):
        self.command, self.start, self.heal = command, start, heal or command
        self.keeps, self.makes, self.takes_away = list(keeps), makes, takes_away


class Registry(http.server.BaseHTTPRequestHandler):
    """Serves the OCI layout in DIRECTORY as the only repository."""
    directory = None

    def do_GET(self):
        kind, reference = self.path.rstrip("/").split("/")[-2:]
        path, media = None, "application/octet-stream"
        if kind == "manifests" and not reference.startswith("sha256:"):
            entry = json.load(open(f"{self.directory}/index.json"))["manifests"][0]
            reference, media = entry["digest"], entry["mediaType"]
        if kind in ("manifests", "blobs"):
            path = f"{self.directory}/blobs/" + reference.replace(":", "/")
        body = open(path, "rb").read() if path and os.path.exists(path) else b"{}"
        self.send_response(200 if path or self.path == "/v2/" else 404)
        self.send_header("content-type", media)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def scenarios(work):
    """Creates stores and archives in WORK, and the scenarios by name."""
    tree, made, image = f"{work}/tree", f"{work}/made", f"{work}/image.tar"
    os.makedirs(f"{tree}/etc/conf.d")
    for number in range(6):
        with open(f"{tree}/etc/conf.d/{number}", "w") as file:
            file.write(str(number) * 100)
    os.symlink("conf.d/0", f"{tree}/etc/link")
    with open(f"{work}/new", "w") as file:
        file.write("new")
    subprocess.run(["tar", "-C", tree, "--sort=name", "-czf", f"{work}/tree.tar.gz", "."], check=True)

    def must(store, *arguments):
        done = run("--root", store, *arguments)
        assert done.returncode == 0, done.stderr
        settle()

    must(made, "import", f"{work}/tree.tar.gz", "app:1")
    must(made, "create", "--name", "c", "app:1", "sh")
    must(made, "cp", f"{work}/new", "c:/etc/new")
    changed = f"{work}/changed"
    subprocess.run(["cp", "-a", made, changed], check=True)
    must(made, "commit", "c", "app:2")
    must(made, "rm", "c")
    must(made, "empty-trash")
    must(made, "save", "-o", image, "app:2")
    os.mkdir(f"{work}/layout")
    subprocess.run(["tar", "-C", f"{work}/layout", "-xf", image], check=True)
    Registry.directory = f"{work}/layout"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = f"127.0.0.1:{server.server_port}/app:2"
    # Without the name app:2, but with its blobs and layers: a removal that was cut before the garbage collection.
    unnamed = f"{work}/unnamed"
    subprocess.run(["cp", "-a", made, unnamed], check=True)
    for file in os.listdir(f"{unnamed}/refs"):
        if "app%3A2" in file or "app:2" in file:
            os.remove(f"{unnamed}/refs/{file}")
    return {
        "load": Scenario(["load", "-qi", image], makes="app:2"),
        "pull": Scenario(["pull", "-q", name], makes=name),
        "pull beside its base": Scenario(["pull", "-q", name], start=changed, keeps=["app:1"], makes=name),
        "import": Scenario(["import", f"{work}/tree.tar.gz", "app:3"], makes="app:3"),
        "commit": Scenario(["commit", "c", "app:2"], start=changed, keeps=["app:1"], makes="app:2"),
        "rmi": Scenario(["rmi", "app:2"], start=made, keeps=["app:1"], takes_away="app:2"),
        "prune": Scenario(["prune", "-f"], start=unnamed, keeps=["app:1"]),
    }


def trace(scenario, work):
    """The log of the scenario's command."""
    store = os.path.realpath(f"{work}/store")
    shutil.rmtree(store, ignore_errors=True)
    if scenario.start:
        subprocess.run(["cp", "-a", scenario.start, store], check=True)
    before = Log(store)
    strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", f"{work}/log"]
    subprocess.run([*strace, BIN, "--root", store, *scenario.command], check=True, capture_output=True)
    return read_log(f"{work}/log", before)


def cuts(name, scenario, work, step):
    """The number of states and the errors in some of them."""
    full = trace(scenario, work)
    total, failures, source = 0, [], random.Random(1)
    for cut in sorted({*range(full.base + 1, len(full.ops) + 1, step), len(full.ops)}):
        marks = durable(full.ops, cut, full.base)
        content = [full.ops[at][0] != "names" for at in range(cut)]
        choices = {
            "everything": range(cut),
            "only what was synced": [at for at in range(cut) if marks[at]],
            "names without content": [at for at in range(cut) if marks[at] or not content[at]],
            "a random part": [at for at in range(cut) if marks[at] or source.random() < 0.5],
        }
        for state, keep in choices.items():
            target = os.path.join(work, "cut")
            build(full, keep, target)
            problem = check(target, scenario, f"{name}: cut {cut - full.base} of {len(full.ops) - full.base}, {state}")
            settle()
            shutil.rmtree(target)
            total += 1
            failures += [problem] if problem else []
    return total, failures


def main():
    # PR_SET_CHILD_SUBREAPER: orphans become children of this process.
    assert ctypes.CDLL(None).prctl(36, 1) == 0
    work = tempfile.mkdtemp(prefix="knarr-power-cut.", dir="/var/tmp")
    try:
        total, failures = 0, []
        step = int(os.environ.get("KNARR_CUT_STEP", "1"))
        for name, scenario in scenarios(work).items():
            if sys.argv[2:] and name not in sys.argv[2:]:
                continue
            states, wrong = cuts(name, scenario, work, step)
            print(f"{'FAIL ' if wrong else 'ok   '} {name}: {states} states of a power cut", flush=True)
            total, failures = total + states, failures + wrong
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
