#!/usr/bin/env python3
"""shim.py [options] NAME=SHIM...: shims of containerd side by side, in one run: memory, wake-ups and threads of ten idle containers, of
a pod's further containers and after many execs; the time of `start`, of execs by the task API, and of `ctr run --rm … true` through
containerd. With --init NAME=BINARY, inits too. Prints medians and the ratio of the first to each other one.

Needs root, busybox, runc, containerd and ctr: meant for the lab's tree (make bench-shim). Times are interleaved, so that the machine's
drift meets all alike. Compare only numbers of one run."""
import argparse, os, shutil, statistics, subprocess, sys, tempfile, time

from shim_wire import Events, Shim, bundle

CONFIG = """version = 3
root = '%(at)s/root'
state = '%(at)s/state'
[grpc]
  address = '%(at)s/containerd.sock'
[ttrpc]
  address = '%(at)s/containerd.sock.ttrpc'
"""


def memory(pid):
    """RSS, PSS and private kB."""
    found = {}
    with open(f'/proc/{pid}/smaps_rollup') as file:
        for line in file:
            name, _, rest = line.partition(':')
            found[name] = rest.split()
    kilobytes = {name: int(words[0]) for name, words in found.items() if words[1:] == ['kB']}
    return kilobytes['Rss'], kilobytes['Pss'], kilobytes['Private_Clean'] + kilobytes['Private_Dirty']


def threads(pid):
    return os.listdir(f'/proc/{pid}/task')


def wakeups(pid):
    """How often the process was given the processor, over all its threads."""
    total = 0
    for task in threads(pid):
        with open(f'/proc/{pid}/task/{task}/status') as file:
            total += sum(int(line.split()[1]) for line in file if 'voluntary_ctxt_switches' in line)
    return total


def root(directory):
    for name in ('bin', 'proc', 'sys', 'dev', 'tmp'):
        os.makedirs(f'{directory}/{name}')
    shutil.copy(shutil.which('busybox'), f'{directory}/bin/busybox')
    for applet in ('true', 'sleep', 'sh'):
        os.symlink('busybox', f'{directory}/bin/{applet}')
    return directory


class Bench:
    def __init__(self, directory, shims, options):
        self.directory, self.shims, self.options = directory, shims, options
        self.root, self.numbers = root(directory + '/tree'), 0
        self.events = Events(directory + '/events.sock')
        self.rows = []

    def shim(self, name, group=None):
        self.numbers += 1
        path = bundle(self.directory, f'{name}{self.numbers}', ['sleep', '1000'], self.root, group)
        return Shim(self.shims[name], path, self.events.path)

    def row(self, what, values, digits=0):
        """One line of the table: a value for each shim, and the first one's ratio to each other one's."""
        first = values[0]
        ratios = [f'{first / value:8.3f}' if value else '       -' for value in values[1:]]
        self.rows.append(f'{what:44}' + ''.join(f'{value:14.{digits}f}' for value in values) + '   ' + ' '.join(ratios))
        print(self.rows[-1], flush=True)

    def idle(self):
        seen = {}
        for name in self.shims:
            shims = [self.shim(name).start() for _ in range(self.options.count)]
            for shim in shims:
                shim.create()
            pids = [shim.pid() for shim in shims]
            time.sleep(3)
            before = [wakeups(pid) for pid in pids]
            time.sleep(self.options.seconds)
            woken = sum(wakeups(pid) for pid in pids) - sum(before)
            sizes = [statistics.mean(column) for column in zip(*map(memory, pids))]
            most = max(len(threads(pid)) for pid in pids)
            descriptors = len(os.listdir(f'/proc/{pids[0]}/fd'))
            first = shims[0]
            times = []
            for number in range(self.options.execs):
                began = time.monotonic()
                assert first.execute(number, ['true']) == 0
                times.append((time.monotonic() - began) * 1000)
            time.sleep(3)
            grown = [after - statistics.mean(column) for after, column in zip(memory(pids[0]), zip(*map(memory, pids[1:])))]
            grown_descriptors = len(os.listdir(f'/proc/{pids[0]}/fd')) - descriptors
            seen[name] = (*sizes, most, woken / len(pids) / self.options.seconds, statistics.median(times), grown[1], grown[2],
                          grown_descriptors)
            for shim in shims:
                shim.end()
                shim.shutdown()
        count = self.options.count
        labels = [(f'RSS of {count} idle, kB each', 0), (f'PSS of {count} idle, kB each', 0), (f'private of {count} idle, kB each', 0),
                  ('threads', 0), ('wake-ups a second', 2), (f'exec of true, ms (median of {self.options.execs})', 2),
                  (f'PSS grown by {self.options.execs} execs, kB', 0), ('private grown, kB', 0), ('descriptors grown', 0)]
        for (label, digits), values in zip(labels, zip(*seen.values())):
            self.row(label, values, digits)

    def pod(self):
        values = []
        for name in self.shims:
            shim = self.shim(name, group=f'pod-{name}').start()
            shim.create()
            pid = shim.pid()
            time.sleep(2)
            before, more = memory(pid), []
            for _ in range(9):
                self.numbers += 1
                path = bundle(self.directory, f'{name}{self.numbers}', ['sleep', '1000'], self.root, f'pod-{name}')
                more.append(os.path.basename(path))
                shim.create(more[-1], path)
            time.sleep(3)
            values.append([(b - a) / 9 for a, b in zip(before, memory(pid))])
            for other in more:
                shim.end(other)
            shim.end()
            shim.shutdown()
        for label, column in zip(('RSS', 'PSS', 'private'), zip(*values)):
            self.row(f'{label} of a further container of a pod, kB', column)

    def start(self):
        times = {name: [] for name in self.shims}
        for _ in range(self.options.starts):
            for name in self.shims:
                shim = self.shim(name)
                began = time.monotonic()
                shim.start()
                times[name].append((time.monotonic() - began) * 1000)
                shim.shutdown()
        self.row(f'start to address, ms (median of {self.options.starts})', [statistics.median(t) for t in times.values()], 2)
        self.row('start to address, ms (best)', [min(t) for t in times.values()], 2)

    def run(self):
        at = self.directory + '/containerd'
        os.makedirs(at)
        with open(at + '/config.toml', 'w') as file:
            file.write(CONFIG % {'at': at})
        with open(at + '/log', 'w') as log:
            daemon = subprocess.Popen(['containerd', '-c', at + '/config.toml', '-l', 'error'], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        ctr = ['ctr', '--address', at + '/containerd.sock']
        try:
            end = time.monotonic() + 30
            while subprocess.run([*ctr, 'version'], capture_output=True, check=False).returncode:
                assert time.monotonic() < end and daemon.poll() is None, open(at + '/log').read()
                time.sleep(0.1)
            times = {name: [] for name in self.shims}
            # a specification of our own: ctr's asks for limits that a machine may not have
            config = bundle(self.directory, 'run', ['true'], self.root) + '/config.json'
            for number in range(self.options.runs + 1):
                for name, binary in self.shims.items():
                    began = time.monotonic()
                    done = subprocess.run([*ctr, 'run', '--rm', '--runtime', binary, '--config', config, f'{name}-run{number}'],
                                          stdin=subprocess.DEVNULL, capture_output=True, check=False)
                    assert done.returncode == 0, f'{name}: {done.stderr.decode()}'
                    if number:
                        times[name].append((time.monotonic() - began) * 1000)
            self.row(f'ctr run --rm … true, ms (median of {self.options.runs})', [statistics.median(t) for t in times.values()], 1)
        finally:
            daemon.terminate()
            daemon.wait()


def inits(binaries, seconds):
    """Ten instances of each init with a sleeping program."""
    print(f'\n{"init":16}{"RSS kB":>10}{"PSS kB":>10}{"private kB":>12}{"file kB":>10}{"wake-ups/s":>12}')
    for name, binary in binaries.items():
        processes = [subprocess.Popen([binary, '--', 'sleep', '1000'], stderr=subprocess.DEVNULL) for _ in range(10)]
        time.sleep(1)
        before = sum(wakeups(p.pid) for p in processes)
        time.sleep(seconds)
        woken = (sum(wakeups(p.pid) for p in processes) - before) / 10 / seconds
        sizes = [statistics.mean(column) for column in zip(*(memory(p.pid) for p in processes))]
        print(f'{name:16}{sizes[0]:10.0f}{sizes[1]:10.1f}{sizes[2]:12.1f}{os.path.getsize(binary) / 1024:10.1f}{woken:12.2f}')
        for process in processes:
            process.terminate()
            process.wait()


def named(words):
    pairs = dict(word.split('=', 1) for word in words)
    return {name: os.path.abspath(path) if os.path.exists(path) else shutil.which(path) for name, path in pairs.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('shims', nargs='*', metavar='NAME=SHIM')
    parser.add_argument('--init', action='append', default=[], metavar='NAME=BINARY')
    parser.add_argument('--count', type=int, default=10, help='idle containers')
    parser.add_argument('--execs', type=int, default=1000)
    parser.add_argument('--starts', type=int, default=50)
    parser.add_argument('--runs', type=int, default=20)
    parser.add_argument('--seconds', type=int, default=5, help='how long wake-ups are counted')
    parser.add_argument('--only', default='idle pod start run', help='parts of it')
    options = parser.parse_args()
    shims, others = named(options.shims), named(options.init)
    missing = [name for name, path in {**shims, **others}.items() if not path]
    if missing:
        sys.exit(f'shim.py: no such program: {" ".join(missing)}')
    with tempfile.TemporaryDirectory(prefix='bench-shim-', dir='/run') as directory:
        if shims:
            bench = Bench(directory, shims, options)
            names = list(shims)
            print(f'{"":44}' + ''.join(f'{name:>14}' for name in names) + f'   {names[0]} / ' + ' '.join(names[1:]), flush=True)
            for part in options.only.split():
                getattr(bench, part)()
        if others:
            inits(others, options.seconds)


if __name__ == '__main__':
    main()
