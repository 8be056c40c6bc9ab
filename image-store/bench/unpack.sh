#!/bin/bash
# Import and unpack of a three-layer image of about 1 GB: knarr-image, containerd, podman, umoci, tar and gzip alone, in one run.
#   unpack.sh KNARR-IMAGE [ROUNDS]
# The other tools come from the Debian tree at $KNARR_LAB/root. Prints seconds of wall clock, processor seconds and peak memory;
# then the small goals: listing 200 images, removing, preparing a root of 20 layers.
set -u
HERE=$(cd "$(dirname "$0")" && pwd); BIN=$(realpath "$1"); ROUNDS=${2:-3}
LAB=${KNARR_LAB:-$HOME/.cache/knarr-lab}/root; B=${KNARR_IMAGE_BENCH:-$HOME/.cache/knarr-image-bench}
mkdir -p "$B"
[ -f "$B/big/index.json" ] || python3 "$HERE/layout.py" "$LAB" "$B/big" || exit 1
inside() {
  LAB=$LAB B=$B unshare -m -p -f --kill-child --propagation private bash -ec '
    mount --bind "$LAB" "$LAB"; cd "$LAB"; mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys
    mount -t tmpfs tmpfs run; mount --bind "$B" mnt; mkdir -p run/old; pivot_root . run/old; cd /mnt; umount -l /run/old
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root; "$@"; exit $?' _ "$@"
}
measure() { # NAME COMMAND...: the best of ROUNDS, from an empty store
  local name=$1 best=; shift
  for _ in $(seq "$ROUNDS"); do
    rm -rf "$B/store"; mkdir "$B/store"; sync
    /usr/bin/time -o "$B/time" -f '%e %U %S %M' "$@" >"$B/out" 2>&1 || { echo "$name: failed: $(tail -1 "$B/out")"; return; }
    best=$( { echo "$best"; cat "$B/time"; } | grep . | sort -n | head -1)
  done
  set -- $best
  printf '%-26s %6.2f s   processor %6.2f s   peak %5d MB\n' "$name" "$1" "$(echo "$2 + $3" | bc)" "$(($4 / 1024))"
}
export -f inside; export LAB B
blobs=$(cd "$B/big/blobs/sha256" && find . -size +1M -printf '%f ')
measure 'gzip -d alone' bash -c "cd $B/big/blobs/sha256 && gzip -dc $blobs >/dev/null"
measure 'tar -xz and sync' bash -c "for l in $blobs; do tar -C $B/store -xzf $B/big/blobs/sha256/\$l; done; sync -f $B/store"
measure 'knarr-image, durable' "$BIN" --root "$B/store" load -qi "$B/big"
[ -x "$LAB/usr/bin/umoci" ] && measure 'umoci' bash -c 'inside umoci unpack --image big:bench store/bundle'
[ -x "$LAB/usr/bin/podman" ] && measure 'podman' bash -c 'inside podman --root /mnt/store/p --runroot /run/p --storage-driver overlay pull -q oci:big:bench'
[ -x "$LAB/usr/bin/ctr" ] && tar -C "$B/big" -cf "$B/big.tar" . && measure 'containerd' bash -c 'inside bash -c "
  containerd --root /mnt/store/c --state /run/c >/dev/null 2>&1 & for i in \$(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
  ctr image import --base-name bench big.tar; code=\$?; kill %1; wait; exit \$code"'
rm -f "$B/big.tar"
k() { "$BIN" --root "$B/store" "$@"; }
milliseconds() { local start end; start=$(date +%s%N); "${@:2}" >/dev/null; end=$(date +%s%N); echo "$1: $(((end - start) / 10000))" | sed 's/\(..\)$/.\1 ms/'; }
rm -rf "$B/store"; k load -qi "$B/big" >/dev/null; id=$(k images -q)
for n in $(seq 199); do k tag "$id" "name$n:1"; done
milliseconds 'images, 200 of them' k images
milliseconds 'create on it' k create --name c "$id"
k rm c >/dev/null
for n in $(seq 199); do k rmi -q "name$n:1"; done 2>/dev/null
milliseconds 'rmi of the image' k rmi -f "$id"
rm -rf "$B/store"
