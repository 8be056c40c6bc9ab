#!/bin/bash
# apt-test.sh: what apt.sh does while another process holds one of apt's locks. apt is the machine's own, with directories of its own, so
# nothing is changed on this machine. Exits with 77 where there is no apt.
. "$(dirname "$0")/settings.sh"
for tool in apt-get python3; do
  command -v "$tool" >/dev/null || { echo "no $tool on this machine"; exit 77; }
done
work=$(mktemp -d) holder=
trap 'release; rm -rf "$work"' EXIT
mkdir -p "$work"/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,lists/partial,cache/archives/partial,dpkg}
touch "$work/etc/sources.list" "$work/dpkg/status"
cat >"$work/apt.conf" <<CONF
Dir::Etc "$work/etc";
Dir::State "$work";
Dir::State::status "$work/dpkg/status";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "";
CONF
export APT_CONFIG=$work/apt.conf

# hold LOCK: lock it as apt does, by fcntl(2), until `release`.
hold() {
  mkfifo "$work/held"
  python3 -c '
import fcntl, signal, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
signal.pause()' "$1" "$work/held" &
  holder=$!
  : <"$work/held"
  rm "$work/held"
}

release() {
  [ -n "$holder" ] || return 0
  kill "$holder"
  wait "$holder" 2>/dev/null || true
  holder=
}

failed=0
# check WHAT COMMAND...
check() {
  local what=$1
  shift
  if "$@"; then return 0; fi
  echo "apt.sh: $what"
  sed 's/^/  | /' "$work/output"
  failed=1
}

has() { grep -q -- "$1" "$work/output"; }
# eventually COMMAND...: before the process $! ends.
eventually() {
  while kill -0 $! 2>/dev/null; do
    if "$@"; then return 0; fi
    sleep 0.1
  done
  "$@"
}

# waits LOCK ARGUMENTS...: it must say which lock, still run a second later, and end well once the lock is free.
waits() {
  local lock=$1 status=0
  shift
  hold "$lock"
  "$HERE/apt.sh" "$@" >"$work/output" 2>&1 &
  check "$*: must say what it waits for" eventually has "waits up to 600 seconds for another apt: $lock"
  sleep 1.5
  check "$*: must wait for $lock" kill -0 $!
  release
  wait $! || status=$?
  check "$*: must succeed when $lock is free" [ "$status" = 0 ]
  check "$*: must speak once" [ "$(grep -c "waits up to" "$work/output")" = 1 ]
}

# fails ARGUMENTS...: it must not wait, and hand on apt's status.
fails() {
  local status=0
  "$HERE/apt.sh" "$@" >"$work/output" 2>&1 || status=$?
  check "$*: status $status instead of 100" [ "$status" = 100 ]
}

waits "$work/lists/lock" update
waits "$work/cache/archives/lock" clean
waits "$work/dpkg/lock-frontend" install

hold "$work/lists/lock"
KNARR_APT_WAIT=1 fails update
release
check "must say what apt said" has "^E: Could not get lock $work/lists/lock"
check "must say that it gave up" has "still locked after 1 seconds"

fails install no-such-package
check "must not wait for a package that is missing" eval '! has "waits up to"'
check "must say which package is missing" has "Unable to locate package no-such-package"
exit $failed
