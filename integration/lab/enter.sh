#!/bin/bash
# enter.sh [-2] COMMAND...: run a command on this kernel with the lab's tree as its root file system.
# Mounts and pids are private to it. The working directory is at /share, or the one that SHARE names.
# -2: show it a pure cgroup v2 tree, even on a host whose controllers sit in cgroup v1: few controllers are left in it
#     then, but directories, freeze, kill, device programs and CLONE_INTO_CGROUP work as anywhere.
. "$(dirname "$0")/settings.sh"
need_root
export PURE_V2=
if [ "${1:-}" = -2 ]; then
  PURE_V2=1
  shift
fi
[ $# -gt 0 ] || die "usage: enter.sh [-2] COMMAND..."
"$HERE/tree.sh"
export TREE SHARE=${SHARE:-$PWD}

# Mounts are made on a bind of the tree, so nothing is ever mounted in the tree itself.
# shellcheck disable=SC2016
exec unshare --mount --pid --fork --kill-child --propagation private bash -euc '
  mount --bind "$TREE" "$TREE"
  cd "$TREE"
  mkdir -p share old
  mount -t proc proc proc
  mount --rbind /dev dev
  mount -t tmpfs -o mode=755 tmpfs run
  if [ -n "$PURE_V2" ]; then
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
  else
    mount --rbind /sys sys
  fi
  mount --rbind "$SHARE" share
  pivot_root . old
  cd /share
  umount --lazy /old
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
  set +e
  "$@"
  exit $?' enter "$@"
