# shellcheck shell=bash disable=SC2034,SC1007
# settings.sh, sourced by the lab's scripts: where things are, what this machine is, how to install what is missing.
# It must not do anything by itself but set variables and define functions.
#
# KNARR_LAB     where everything is built and kept (default ~/.cache/knarr-lab)
# KNARR_SUITE   the Debian suite of the tree (default forky: today's engines on a new kernel)
# KNARR_MIRROR  the Debian mirror (default: the one this machine uses)
set -euo pipefail

LAB=${KNARR_LAB:-$HOME/.cache/knarr-lab}
SUITE=${KNARR_SUITE:-forky}
TREE=$LAB/root
VM=$LAB/vm
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case $(uname -m) in
x86_64) DEB_ARCH=amd64 QEMU=qemu-system-x86_64 QEMU_PACKAGE=qemu-system-x86 MACHINE=q35 CONSOLE=ttyS0 ;;
aarch64) DEB_ARCH=arm64 QEMU=qemu-system-aarch64 QEMU_PACKAGE=qemu-system-arm MACHINE=virt CONSOLE=ttyAMA0 ;;
*) DEB_ARCH=$(dpkg --print-architecture) QEMU= QEMU_PACKAGE= MACHINE= CONSOLE= ;;
esac

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || die "needs root"; }

# install COMMAND-OR-FILE PACKAGE...: install the packages with apt unless the command or file is there.
install() {
  local what=$1
  shift
  if [ -e "$what" ] || command -v "$what" >/dev/null 2>&1; then return 0; fi
  if [ -z "${APT_UPDATED:-}" ]; then
    "$HERE/apt.sh" update
    APT_UPDATED=1
  fi
  "$HERE/apt.sh" install "$@"
  [ -e "$what" ] || command -v "$what" >/dev/null || die "no $what after installing $*"
}

# The mirror this machine installs from: deb822 style first, then one-line style.
mirror() {
  local uri
  uri=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | grep -v security | head -1)
  [ -n "$uri" ] || uri=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' /etc/apt/sources.list 2>/dev/null | head -1)
  uri=${KNARR_MIRROR:-$uri}
  [ -n "$uri" ] || die "no Debian mirror in /etc/apt/sources.list or sources.list.d: set KNARR_MIRROR"
  echo "$uri"
}

# with_lock NAME COMMAND...: one at a time, across processes.
with_lock() {
  local name=$1
  shift
  mkdir -p "$LAB"
  exec 9>"$LAB/$name.lock"
  flock 9
  "$@"
}
