#!/bin/bash
# inside.sh RUNTIME SUITE OUT FILE...: run files of runc's bats suite with RUNTIME; one TAP stream per file in OUT.
# Runs as root in the tree that enter.sh makes or in the VM, in a pid namespace or machine of its own; knows of neither.
# TEST_LIMIT: seconds that one test may take, 60 by default.
set -u
RUNTIME=$1 SUITE=$2 OUT=$3; shift 3
export RUNC=$RUNTIME SUITE_IMAGES=$SUITE/images
mkdir -p "$OUT" /tmp/suite; cp -a "$SUITE"/src/{tests,go.mod} /tmp/suite/

# The suite starts its servers in the background and does not wait until they listen: a runtime that is quick comes too early.
# A socket has its name before anything listens (flag 0x10000, net/unix). pidfd-kill closes its own when it has the pidfd, and dies of the
# SIGTERM that it is told to wait for until it does wait. And what the suite does wait for takes longer on a busy machine.
cat >> /tmp/suite/tests/integration/helpers.bash << 'X'
eval "$(declare -f setup_recvtty setup_seccompagent setup_pidfd_kill pidfd_kill retry wait_pids_gone | sed -E 's/^([a-z_]+) \(\)/at_once_\1 ()/')"
function patiently() { local i; for ((i = 0; i < 1500; i++)); do "$@" && return 0; sleep 0.02; done; return 1; }
function until_socket() { patiently grep -q " 00010000 .* $1\$" /proc/net/unix; }
function has_pidfd_and_waits() { [ ! -e "$PIDFD_SOCKET" ] && ! grep -qE '^[0-9]+ \(.*\) [RD] ' "/proc/$1/task"/*/stat; }
function setup_recvtty() { at_once_setup_recvtty && until_socket "$CONSOLE_SOCKET"; }
function setup_seccompagent() { at_once_setup_seccompagent && until_socket "$SECCCOMP_AGENT_SOCKET"; }
function setup_pidfd_kill() { at_once_setup_pidfd_kill "$1" && until_socket "$PIDFD_SOCKET"; }
function pidfd_kill() { patiently has_pidfd_and_waits "$(cat "$ROOT/pidfd/pid")" && at_once_pidfd_kill; }
function retry() { at_once_retry $(($1 * 10)) "${@:2}"; }
function wait_pids_gone() { at_once_wait_pids_gone $(($1 * 10)) "${@:2}"; }
X

# A test that hangs is ended from its leaves, so that its own teardown still runs and the next test begins.
# (BATS_TEST_TIMEOUT is no help: its watchdogs race with short tests, which are then lost.)
watch() {
  while sleep 3; do
    ps -eo pid=,ppid=,etimes=,args= | awk -v limit="${TEST_LIMIT:-60}" '
      { parent[$1] = $2; children[$2]++; if ($0 ~ /bats-exec-test .*\.bats/ && $3 > limit) late[$1] = 1 }
      END { for (p in parent) if (!children[p]) for (q = parent[p]; q > 1; q = parent[q]) if (q in late) { print p; break } }' |
      xargs -r kill -KILL 2> /dev/null
  done
}
watch & watcher=$!

# The suite needs a controlling terminal: runc's default config says `terminal: true`.
on_a_terminal() {
  python3 -c 'import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
try:
    while os.read(fd, 4096): pass
except OSError: pass
os.waitpid(pid, 0)' "$@"
}

cd /tmp/suite/tests/integration || exit 1
for file in "$@"; do
  on_a_terminal bash -c 'exec bats --formatter tap --timing "$1" > "$2" 2>&1 < /dev/null' _ "$file" "$OUT/$file.tap"
  # what a failed test leaves behind must not meet the next file
  for state in /tmp/bats-run-*/runc.*/state; do
    for c in "$state"/*/; do [ -d "$c" ] && timeout 20 "$RUNC" --root "$state" delete --force "$(basename "$c")"; done
  done > "$OUT/.left" 2>&1
  rm -rf --one-file-system /tmp/bats-run-* /tmp/losetup.*
  printf '%-28s %3s passed %3s failed %3s skipped\n' "$file" "$(grep -c '^ok .*ms$' "$OUT/$file.tap")" \
    "$(grep -c '^not ok ' "$OUT/$file.tap")" "$(grep -c '^ok .*# skip' "$OUT/$file.tap")"
done
kill "$watcher"
