#!/bin/bash
# apt.sh ARGUMENTS...: apt-get, quiet and without questions, which waits while another apt is at work: a fresh machine may be at its own
# upgrades. apt's own option waits for dpkg's lock only, and fails at once if its lists or its cache are locked.
#
# KNARR_APT_WAIT  for how many seconds at most (default 600)
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
patience=${KNARR_APT_WAIT:-600}
output=$(mktemp)
trap 'rm -f "$output"' EXIT

told=
while :; do
  status=0
  apt-get -qq -o APT::Get::Assume-Yes=true -o APT::Install-Recommends=false -o Acquire::Retries=5 "$@" >"$output" 2>&1 || status=$?
  [ "$status" != 0 ] || exit 0
  # "LOCK. It is held by process PID (NAME)"; a lock that it may not open is another error.
  lock=$(sed -n 's/^E: Could not get lock //p' "$output" | head -1)
  if [ -z "$lock" ] || [ "$SECONDS" -ge "$patience" ]; then break; fi
  [ -n "$told" ] || echo "${0##*/}: waits up to $patience seconds for another apt: $lock" >&2
  told=1
  sleep 1
done
cat "$output" >&2
[ -z "$lock" ] || echo "${0##*/}: apt-get $*: still locked after $patience seconds; try again when that process has ended" >&2
exit "$status"
