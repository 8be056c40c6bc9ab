#!/usr/bin/env python3
"""lifecycle.py [options] NAME=BINARY...: OCI runtimes side by side, in one run, each step of a container's life.

Interleaved, so that the machine's drift meets all alike: `run` of a static true, then create, start, state, exec, kill and delete of
a sleeping container. Prints medians in milliseconds, the ratio of the first runtime to each other one, peak memory of each step
(the runtime and what it waited for), the size of the binary, and the ratio of `run` to the bare system calls (floor.c), as a
command of its own and in-process. Config: the one that `runc spec` writes, without a terminal.

Needs root, static busybox and once and floor (make bench builds them) in --tools. Meant for a pure cgroup v2 tree, where every runtime goes
the same way. Compare only numbers of one run: machines differ, and so does one machine from hour to hour."""
import argparse, json, os, select, shutil, statistics, subprocess, sys, tempfile, time

STEPS = ('run', 'create', 'start', 'state', 'exec', 'kill', 'delete')


def bundle(directory, args, seccomp):
    root = os.path.join(directory, 'rootfs')
    for d in ('bin', 'proc', 'sys', 'dev', 'tmp', 'etc'):
        os.makedirs(os.path.join(root, d))
    shutil.copy(shutil.which('busybox'), os.path.join(root, 'bin/busybox'))
    for applet in ('true', 'sleep'):
        os.symlink('busybox', os.path.join(root, 'bin', applet))
    subprocess.run(['runc', 'spec', '-b', directory], check=True)
    path = os.path.join(directory, 'config.json')
    config = json.load(open(path))
    config['process'].update(terminal=False, args=args)
    if seccomp:
        config['linux']['seccomp'] = json.load(open(seccomp))
    json.dump(config, open(path, 'w'))
    return directory


class Tools:
    """Runs commands through `once`, which measures them."""
    def __init__(self, directory, errors):
        self.once, self.floor, self.errors = os.path.join(directory, 'once'), os.path.join(directory, 'floor'), errors

    def begin(self, argv):
        result, write = os.pipe()
        actions = [(os.POSIX_SPAWN_OPEN, 0, '/dev/null', os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, '/dev/null', os.O_WRONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 2, self.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), (os.POSIX_SPAWN_DUP2, write, 3)]
        pid = os.posix_spawn(self.once, [self.once] + argv, os.environ, file_actions=actions)
        os.close(write)
        return pid, result, argv

    def end(self, begun):
        pid, result, argv = begun
        os.waitpid(pid, 0)
        wall, memory, status = os.read(result, 200).split()
        os.close(result)
        if int(status):
            sys.exit('%s: wait status %s: %s' % (' '.join(argv), status.decode(), open(self.errors).read()[-400:]))
        return float(wall) / 1e3, int(memory)

    def measure(self, *argv):
        return self.end(self.begin(list(argv)))


def life(tools, runtime, cid, once, sleep, tmp):
    """One container run, and one led through each step: {step: (ms, kB)}."""
    took = {'run': tools.measure(runtime, 'run', '-b', once, cid)}
    pidfile = os.path.join(tmp, 'pid')
    took['create'] = tools.measure(runtime, 'create', '-b', sleep, '--pid-file', pidfile, cid)
    init = os.pidfd_open(int(open(pidfile).read()))
    took['start'] = tools.measure(runtime, 'start', cid)
    took['state'] = tools.measure(runtime, 'state', cid)
    took['exec'] = tools.measure(runtime, 'exec', cid, '/bin/true')
    took['kill'] = tools.measure(runtime, 'kill', cid, 'KILL')
    select.select([init], [], [])
    os.close(init)
    took['delete'] = tools.measure(runtime, 'delete', cid)
    return took


def many(tools, runtime, cid, once, at_once):
    """4 * at_once runs, at_once of them at any time: ms per container."""
    begin, left, now = time.perf_counter(), list(range(4 * at_once)), []
    while left or now:
        while left and len(now) < at_once:
            now.append(tools.begin([runtime, 'run', '-b', once, '%s-%d' % (cid, left.pop())]))
        ready = select.select([r for _, r, _ in now], [], [])[0]
        for begun in [b for b in now if b[1] in ready]:
            tools.end(begun)
            now.remove(begun)
    return {'run': ((time.perf_counter() - begin) * 1e3 / (4 * at_once), 0)}


def floor(tools, once, n):
    root = os.path.join(once, 'rootfs')
    command = statistics.median(tools.measure(tools.floor, root)[0] for _ in range(n))
    inside = float(subprocess.run([tools.floor, root, str(5 * n)], check=True, capture_output=True, text=True).stdout) / 1e3
    return command, inside


def table(title, names, rows, cell):
    print('\n%-16s' % title + ''.join('%9s' % n for n in names))
    for name, row in rows.items():
        print('%-16s' % name + ''.join('%9s' % (cell % row[n]) for n in names))


def report(o, samples, binaries, bare):
    names = [s for s in STEPS if s in next(iter(samples.values()))]
    ms = {r: {s: statistics.median(v[0] for v in samples[r][s]) for s in names} for r in samples}
    print('n=%d, seccomp: %s, extra host mounts: %d, at once: %d, kernel %s' % (
        o.n, 'Docker default' if o.seccomp else 'none', o.mounts, o.jobs, os.uname().release))
    table('median ms', names, ms, '%.2f')
    first = next(iter(ms))
    table('ratio of times', names, {'%s/%s' % (first, r): {s: ms[first][s] / ms[r][s] for s in names} for r in list(ms)[1:]}, '%.2f')
    if o.jobs == 1:
        table('peak memory kB', names, {r: {s: max(v[1] for v in samples[r][s]) for s in names} for r in samples}, '%d')
    if bare:
        print('\nbare system calls: %.2f ms as a command, %.2f ms in-process; run is ' % bare
              + ', '.join('%s %.2f' % (r, ms[r]['run'] / bare[0]) for r in ms) + ' times the command')
    print('binary size kB: ' + ', '.join('%s %d' % (r, os.stat(os.path.realpath(p)).st_size // 1024) for r, p in binaries.items()))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('-n', type=int, default=30, help='rounds (two more warm up)')
    p.add_argument('-s', '--seccomp', help='a linux.seccomp object to put into the config')
    p.add_argument('-m', '--mounts', type=int, default=0, help='make that many bind mounts on the host side first')
    p.add_argument('-j', '--jobs', type=int, default=1, help='only `run`, that many at once')
    p.add_argument('--tools', required=True, help='directory of once and floor')
    p.add_argument('runtimes', nargs='+', metavar='NAME=BINARY')
    o = p.parse_args()
    binaries = {name: shutil.which(path) or sys.exit('no such runtime: ' + path) for name, path in (r.split('=', 1) for r in o.runtimes)}
    tmp = tempfile.mkdtemp(prefix='lifecycle-')
    tools = Tools(o.tools, os.path.join(tmp, 'errors'))
    once, sleep = (bundle(os.path.join(tmp, a[0][5:]), a, o.seccomp) for a in (['/bin/true'], ['/bin/sleep', '1000']))
    mounted, binary, cid = [], 'true', ''
    try:
        for i in range(o.mounts):
            mounted.append(os.path.join(tmp, 'mount-%d' % i))
            os.mkdir(mounted[-1])
            subprocess.run(['mount', '--bind', once, mounted[-1]], check=True)
        samples = {r: {} for r in binaries}
        for i in range(o.n + 2):
            for name, binary in binaries.items():
                cid = 'bench-%s-%d-%d' % (name, os.getpid(), i)
                took = life(tools, binary, cid, once, sleep, tmp) if o.jobs == 1 else many(tools, binary, cid, once, o.jobs)
                if i >= 2:
                    for step, value in took.items():
                        samples[name].setdefault(step, []).append(value)
        report(o, samples, binaries, floor(tools, once, o.n) if o.jobs == 1 else None)
    finally:
        if sys.exc_info()[0]:
            subprocess.run([binary, 'delete', '--force', cid], stderr=subprocess.DEVNULL)
        for m in mounted:
            subprocess.run(['umount', '-l', m])
        shutil.rmtree(tmp)


main()
