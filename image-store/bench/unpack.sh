#!/bin/bash
# Import and unpack of a three-layer image of about 1 GB: knarr-image beside containerd, podman, umoci, skopeo, tar and gzip.
#   unpack.sh KNARR-IMAGE [PART...]     parts: floor gzip tar knarr umoci podman containerd skopeo small; none: all
# The other tools come from the Debian tree at $KNARR_LAB/root, what was built beside KNARR-IMAGE from its examples.
# Every run has an ext4 of its own, just made: ext4 does not reuse inodes for five minutes after they were deleted, and the
# search for others costs whoever comes after a deleted store ten seconds of processor time.
# Prints seconds of wall clock, processor seconds and peak memory; then the small goals: listing 200 images, a root of 20
# layers, removing. $ROUNDS (default 1) runs of each, the best counts.
set -u
[ -n "${KNARR_BENCH_INSIDE:-}" ] || KNARR_BENCH_INSIDE=1 exec unshare -m --propagation private bash "$0" "$@"
HERE=$(cd "$(dirname "$0")" && pwd); BIN=$(realpath "$1"); shift; PARTS=${*:-floor gzip tar knarr umoci podman containerd skopeo small}
LAB=${KNARR_LAB:-$HOME/.cache/knarr-lab}/root; B=${KNARR_IMAGE_BENCH:-$HOME/.cache/knarr-image-bench}
mkdir -p "$B/store"
[ -f "$B/big/index.json" ] || python3 "$HERE/layout.py" "$LAB" "$B/big" || exit 1
trap 'umount -q "$B/store"; rm -f "$B/disk" "$B/time" "$B/out" "$B/big.tar"' EXIT

fresh() { # an empty file system at $B/store
  local loop
  umount -q "$B/store"; rm -f "$B/disk"
  fallocate -l 6G "$B/disk" && mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$B/disk" || exit 1
  loop=$(losetup -f --show --direct-io=on "$B/disk") && mount "$loop" "$B/store" && losetup -d "$loop" || exit 1
}
inside() { # a command with the Debian tree as its root
  LAB=$LAB B=$B unshare -m -p -f --kill-child --propagation private bash -ec '
    mount --bind "$LAB" "$LAB"; cd "$LAB"; mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys
    mount -t tmpfs tmpfs run; mount --rbind "$B" mnt; mkdir -p run/old; pivot_root . run/old; cd /mnt; umount -l /run/old
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root; "$@"; exit $?' _ "$@"
}
measure() { # NAME COMMAND...: the best of $ROUNDS
  local name=$1 best=; shift
  for _ in $(seq "${ROUNDS:-1}"); do
    fresh
    /usr/bin/time -o "$B/time" -f '%e %U %S %M' "$@" >"$B/out" 2>&1 || { echo "$name: failed: $(tail -1 "$B/out")"; return; }
    best=$( { echo "$best"; cat "$B/time"; } | grep . | sort -n | head -1)
  done
  set -- $best
  printf '%-26s %6.2f s   processor %6.2f s   peak %5d MB\n' "$name" "$1" "$(echo "$2 + $3" | bc)" "$(($4 / 1024))"
}
export -f inside; export LAB B
blobs=$(cd "$B/big/blobs/sha256" && find . -size +1M -printf '%f ')
peer() { [ -x "$LAB/usr/bin/$1" ] || { echo "$1: skipped: not in $LAB"; return 1; }; }

part_floor() { (cd "$B/big/blobs/sha256" && "$(dirname "$BIN")/examples/floor" $blobs) || echo 'floor: skipped: cargo build --release --examples'; }
part_gzip() { measure 'gzip -d alone' bash -c "cd $B/big/blobs/sha256 && gzip -dc $blobs >/dev/null"; }
part_tar() { measure 'tar -xz and sync' bash -c "for l in $blobs; do tar -C $B/store -xzf $B/big/blobs/sha256/\$l; done; sync -f $B/store"; }
part_knarr() { measure 'knarr-image, durable' "$BIN" --root "$B/store/k" load -qi "$B/big"; }
part_umoci() { peer umoci && measure 'umoci unpack' bash -c 'inside umoci unpack --image big:bench store/bundle'; }
part_podman() { peer podman && measure 'podman pull' \
  bash -c 'inside podman --root /mnt/store/p --runroot /run/p --storage-driver overlay pull -q oci:big:bench'; }
# Only copies and verifies blobs: what others do before they unpack.
part_skopeo() { peer skopeo && measure 'skopeo copy, no unpacking' bash -c 'inside skopeo copy -q --insecure-policy oci:big:bench oci:store/copy:bench'; }
part_containerd() {
  peer ctr && tar -C "$B/big" -cf "$B/big.tar" . && measure 'containerd' bash -c 'inside bash -c "
    containerd --root /mnt/store/c --state /run/c >/dev/null 2>&1 & for i in \$(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
    ctr image import --base-name bench big.tar; code=\$?; kill %1; wait; exit \$code"'
}

k() { "$BIN" --root "$B/store/k" "$@"; }
median() { # NAME COMMAND...: of nine runs, in milliseconds
  local name=$1 start end; shift
  for _ in $(seq 9); do start=$(date +%s%N); "$@" >/dev/null || return; end=$(date +%s%N); echo "$((end - start))"; done |
    sort -n | awk -v name="$name" 'NR == 5 {printf "%-26s %6.2f ms\n", name, $1 / 1e6}'
}
part_small() {
  local w=$B/store/w start end n id
  fresh; k load -qi "$B/big" >/dev/null; id=$(k images -q); mkdir -p "$w/tree"
  for n in $(seq 200); do k tag "$id" "name$n:1"; done
  median 'an empty process' /bin/true
  median 'images, 200 of them' k images
  for n in $(seq 2 200); do k rmi -q "name$n:1"; done >/dev/null 2>&1
  start=$(date +%s%N); k rmi -q -f name1:1 >/dev/null; end=$(date +%s%N)
  printf '%-26s %6.2f ms\n' 'rmi of the image' "$(echo "scale=2; ($end - $start) / 1000000" | bc)"
  echo 0 >"$w/tree/0"; tar -C "$w/tree" -cf "$w/tree.tar" .; k import -c 'CMD ["/0"]' "$w/tree.tar" stack:0 >/dev/null
  for n in $(seq 19); do
    k create --name c "stack:$((n - 1))" >/dev/null; echo "$n" >"$w/$n"; k cp "$w/$n" "c:/$n"
    k commit c "stack:$n" >/dev/null; k rm c >/dev/null
  done
  printf '%-26s ' 'a writable root'; "$(dirname "$BIN")/examples/roots" "$B/store/k" stack:19
}
for part in $PARTS; do "part_$part"; done
