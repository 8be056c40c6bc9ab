#!/bin/bash
# cargo.sh ARGUMENTS...: cargo, new enough for this workspace, on any Debian machine.
# Uses the machine's own if that will do; else builds $KNARR_LAB/rust once, a small Debian tree with Debian's own Rust
# (about a minute, 1 GB, from the Debian archive only), and works in there with this repository at its usual path.
. "$(dirname "$0")/settings.sh"

REPOSITORY=$(cd "$HERE/../.." && pwd)
RUST=$LAB/rust
want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$REPOSITORY/Cargo.toml")

new_enough() {
  local have
  have=$("$@" --version 2>/dev/null | cut -d' ' -f2) || return 1
  [ -n "$have" ] && [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" = "$want" ]
}

build() {
  [ -x "$RUST/usr/bin/cargo" ] && return 0
  install mmdebstrap mmdebstrap
  install /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
  echo "no cargo $want on this machine: building $RUST from Debian $SUITE" >&2
  rm -rf --one-file-system "$RUST.new"
  mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --include=cargo,rustc,rust-clippy,rustfmt,gcc,libc6-dev,libseccomp-dev,pkgconf,ca-certificates \
    "$SUITE" "$RUST.new" "$(mirror)" >&2
  mv "$RUST.new" "$RUST"
}

# The linker and the static libraries are then the tree's too, so what comes out is one toolchain's work.
in_tree() {
  export RUST REPOSITORY CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}
  mkdir -p "$CARGO_HOME"
  LIBSECCOMP_LIB_PATH=$(dirname "$(find "$RUST/usr/lib" -name libseccomp.a)")
  export LIBSECCOMP_LIB_PATH=${LIBSECCOMP_LIB_PATH#"$RUST"}
  # shellcheck disable=SC2016
  exec unshare --mount --propagation private bash -euc '
    mount -t proc proc "$RUST/proc"
    mount --rbind /dev "$RUST/dev"
    mount --bind /etc/resolv.conf "$RUST/etc/resolv.conf" 2>/dev/null || cat /etc/resolv.conf >"$RUST/etc/resolv.conf"
    for dir in "$REPOSITORY" "$CARGO_HOME" /tmp; do
      mkdir -p "$RUST$dir"
      mount --rbind "$dir" "$RUST$dir"
    done
    exec chroot "$RUST" /bin/bash -c '\''cd "$REPOSITORY"; PATH=/usr/bin:/bin exec cargo "$@"'\'' cargo "$@"' cargo "$@"
}

if [ -z "${KNARR_RUST_TREE:-}" ] && new_enough cargo; then exec cargo "$@"; fi
need_root
with_lock rust build
in_tree "$@"
