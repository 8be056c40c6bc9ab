#!/bin/bash
# enter.sh COMMAND...: run a command on this kernel, with the host's own cgroup tree, in the lab tree with the suite's extra packages laid over it.
# Private mount and pid namespaces: what the command mounts or starts ends with it. The tree itself is never written to.
# $KNARR_LAB/runc-suite is at /suite, $SHARE (default: the working directory) at /share; /tmp is a new directory on the host's disk.
. "$(dirname "$(readlink -f "$0")")/../../integration/lab/settings.sh"
SHARE=${SHARE:-$PWD}
WORK=$(mktemp -d "$LAB/runc-suite/work.XXXXXX"); trap 'rm -rf "$WORK"' EXIT
mkdir "$WORK"/{root,upper,ovl,tmp}; chmod 1777 "$WORK/tmp"
export LAB TREE SHARE WORK
unshare -m -p -f --kill-child --propagation private bash -euc '
mount -t overlay overlay -o "lowerdir=$LAB/runc-suite/extra:$TREE,upperdir=$WORK/upper,workdir=$WORK/ovl" "$WORK/root"
cd "$WORK/root"; mkdir -p oldroot share suite
mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys; mount -t tmpfs -o mode=755 tmpfs run
mount --bind "$WORK/tmp" tmp; mount --bind "$SHARE" share; mount --bind "$LAB/runc-suite" suite
pivot_root . oldroot; cd /; umount -l /oldroot
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TMPDIR=/tmp
unset LAB TREE SHARE WORK; cd /share; set +e; "$@"; exit $?' _ "$@"
