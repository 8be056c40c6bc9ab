#!/usr/bin/env python3
"""report.py files MACHINE SUITE    the files of the suite to run: all that exceptions.txt does not put off
report.py results TAPDIR            from one TAP stream per file: a sorted list of `result TAB file TAB test [TAB reason]`
report.py compare MACHINE RUN FILE...  the results of RUN beside runc's own of the same machine (expected/MACHINE.txt): prints each test
                                    of FILE... that runc passes and RUN does not, with its output; exits 1 if one has no exception.

exceptions.txt: `machine TAB file TAB test TAB reason`; machine is host, vm or *, test may be * for a whole file (which is then not run).
"""
import os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
LINE = re.compile(r'^(not ok|ok) \d+ (.*?)(?: in \d+ms)?(?: # (skip|timeout)(.*))?$')


def streams(tapdir):
    """(file, test, result, reason or failure output) for each test of each TAP stream."""
    for name in sorted(os.listdir(tapdir)):
        if not name.endswith('.tap'):
            continue
        file, found, planned = name[:-4], [], 0
        for line in open(os.path.join(tapdir, name), errors='replace'):
            line = line.rstrip('\n')
            plan, m = re.match(r'^1\.\.(\d+)$', line), LINE.match(line)
            if plan:
                planned = int(plan.group(1))
            elif m:
                ok, test, mark, reason = m.groups()
                result = 'skip' if mark == 'skip' else 'pass' if ok == 'ok' else 'fail'
                found.append([file, test, result, (reason or '').strip() if result == 'skip' else ''])
            elif line.startswith('#') and found and found[-1][2] == 'fail':
                found[-1][3] += line[2:] + '\n'
        if len(found) != planned or not planned:
            found.append([file, 'the file ran to its end', 'fail', '%d of %d tests reported\n' % (len(found), planned)])
        yield from found


def table(path):
    rows = []
    for line in open(path):
        line = line.rstrip('\n')
        if line and not line.startswith('#'):
            rows.append(line.split('\t'))
    return rows


def exceptions(machine):
    path = os.path.join(HERE, 'exceptions.txt')
    return {(file, test): reason for where, file, test, reason in table(path) if where in (machine, '*')}


def files(machine, suite):
    off = exceptions(machine)
    for name in sorted(os.listdir(suite)):
        if name.endswith('.bats') and (name, '*') not in off:
            print(name)


def results(tapdir):
    for file, test, result, reason in sorted(streams(tapdir)):
        print('\t'.join([result, file, test] + ([reason] if result == 'skip' and reason else [])))


def compare(machine, run, chosen):
    off = exceptions(machine)
    expected = {(r[1], r[2]): r[0] for r in table(os.path.join(HERE, 'expected', machine + '.txt')) if r[1] in chosen}
    ours = {(f, t): (r, why) for f, t, r, why in streams(os.path.join(run, 'tap'))}
    missing = [k for k in sorted(expected) if expected[k] == 'pass' and ours.get(k, ('none', ''))[0] != 'pass']
    bad = [k for k in missing if k not in off] + [k for k in ours if k[1] == 'the file ran to its end']
    for key in bad:
        result, why = ours.get(key, ('did not run', ''))
        print('--- %s: %s: %s' % (key[0], key[1], result))
        print('\n'.join('    ' + l for l in why.rstrip('\n').split('\n')[-40:]))
    for key in missing:
        if key in off:
            print('exception: %s: %s: %s' % (key[0], key[1], off[key]))
    for key in sorted(off):
        if ours.get(key, ('',))[0] == 'pass' and expected.get(key) == 'pass':
            print('exception without need: %s: %s' % key)
    count = lambda rs, what: sum(1 for r in rs if r == what)
    for who, rs in (('runc', list(expected.values())), ('ours', [r for r, _ in ours.values()])):
        print('%s: %d passed, %d failed, %d skipped' % (who, count(rs, 'pass'), count(rs, 'fail'), count(rs, 'skip')))
    excepted = len(missing) - len([k for k in bad if k in missing])
    print('runc passes and ours do not: %d, of them excepted: %d; ours pass and runc does not: %d' % (
        len(missing), excepted,
        sum(1 for k, (r, _) in ours.items() if r == 'pass' and expected.get(k) != 'pass')))
    passing = [k for k in expected if expected[k] == 'pass']
    print('%d passed, %d failed, %d skipped' % (len(passing) - len(missing), len(bad), len(expected) - len(passing) + excepted))
    sys.exit(1 if bad else 0)


def main():
    args = sys.argv[1:]
    if len(args) == 3 and args[0] == 'files':
        files(args[1], args[2])
    elif len(args) == 2 and args[0] == 'results':
        results(args[1])
    elif len(args) > 3 and args[0] == 'compare':
        compare(args[1], args[2], set(args[3:]))
    else:
        sys.exit(__doc__)


main()
