#!/bin/bash
# peers.sh: put the tree's runc and crun into $KNARR_LAB/peers so that they run on this machine as they are, with the
# tree's C library, whatever this machine's own is. They are what the tests themselves are tested with.
. "$(dirname "$0")/settings.sh"

build() {
  local dir=$LAB/peers loader lib file
  if [ -x "$dir/runc" ] && [ -x "$dir/crun" ] && "$dir/runc" --version >/dev/null && "$dir/crun" --version >/dev/null
  then return 0; fi
  "$HERE/tree.sh"
  install patchelf patchelf
  mkdir -p "$dir"
  for file in usr/sbin/runc usr/bin/crun; do
    loader=$(patchelf --print-interpreter "$TREE/$file")
    lib=$(dirname "$(find "$TREE/usr/lib" -name libc.so.6 | head -1)")
    cp "$TREE/$file" "$dir/${file##*/}.new"
    patchelf --set-interpreter "$TREE/usr${loader#/usr}" --force-rpath --set-rpath "$lib" "$dir/${file##*/}.new"
    mv "$dir/${file##*/}.new" "$dir/${file##*/}"
  done
}

with_lock peers build
