#!/bin/bash
# peers.sh: put the tree's runc, crun and criu into $KNARR_LAB/peers so that they run on this machine as they are, with the
# tree's C library, whatever this machine's own is. The runtimes are what the tests themselves are tested with; criu is as
# new as the kernel should be: that of Debian 12 cannot work on one of today.
. "$(dirname "$0")/settings.sh"

build() {
  local dir=$LAB/peers loader lib file
  local missing=
  for file in runc crun criu; do "$dir/$file" --version >/dev/null 2>&1 || missing=1; done
  [ "$missing" ] || return 0
  "$HERE/tree.sh"
  install patchelf patchelf
  mkdir -p "$dir"
  for file in usr/sbin/runc usr/bin/crun usr/sbin/criu; do
    loader=$(patchelf --print-interpreter "$TREE/$file")
    lib=$(dirname "$(find "$TREE/usr/lib" -name libc.so.6 | head -1)")
    cp "$TREE/$file" "$dir/${file##*/}.new"
    patchelf --set-interpreter "$TREE/usr${loader#/usr}" --force-rpath --set-rpath "$lib" "$dir/${file##*/}.new"
    mv "$dir/${file##*/}.new" "$dir/${file##*/}"
  done
}

with_lock peers build
