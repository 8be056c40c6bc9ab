#!/bin/bash
# deps.sh: install what building, checking and testing need on a fresh Debian machine. Does nothing if all is there.
. "$(dirname "$0")/settings.sh"

if [ "$(id -u)" != 0 ]; then
  for tool in gcc pkg-config flock busybox python3; do
    command -v "$tool" >/dev/null || die "no $tool: run make deps as root once"
  done
  exit 0
fi
command -v apt-get >/dev/null || die "this machine has no apt-get: install gcc, make, libseccomp (static), pkg-config, \
busybox (static), newuidmap, setsid, stty by its own means"

install gcc gcc libc6-dev
install pkg-config pkg-config
install /usr/share/doc/libseccomp-dev libseccomp-dev
# The package "busybox" is dynamic and needs a C library inside the container; the static one takes its place.
if ! command -v busybox >/dev/null || ldd "$(command -v busybox)" >/dev/null 2>&1; then
  "$HERE/apt.sh" update
  "$HERE/apt.sh" install busybox-static
fi
install newuidmap uidmap
install setsid util-linux
install ip iproute2
install ps procps
install python3 python3
install curl curl ca-certificates
install gpgv gpgv
"$HERE/cargo.sh" --version >/dev/null
