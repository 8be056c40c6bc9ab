#!/bin/bash
# parts.sh: build $KNARR_LAB/parts, what the shim's steps need beyond the tree, laid out to lie over it: containerd 1.6 of
# Debian bookworm in opt/containerd-1.6, gRPC, protobuf and websockets for the tree's Python, and the CRI's messages as a
# Python module in opt/cri. Does nothing if they are there. Ten seconds, 130 MB; from the Debian archive only, checked
# by this machine's archive keys; nothing is installed on this machine.
. "$(dirname "$0")/settings.sh"
need_root
PARTS=$LAB/parts
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
PROTO=usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto

complete() {
  local path
  for path in opt/containerd-1.6/containerd opt/containerd-1.6/ctr opt/cri/api_pb2.py usr/lib/python3/dist-packages/grpc/__init__.py \
    usr/lib/python3/dist-packages/websocket/__init__.py; do
    [ -e "$PARTS/$path" ] || return 1
  done
}

# archive NAME SUITE STATUS: an apt of its own for one suite, which believes that the packages of a dpkg status file are installed.
archive() {
  local dir=$PARTS.new/apt/$1
  mkdir -p "$dir"/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,lists/partial,cache/archives/partial,state}
  cp "$3" "$dir/state/status"
  echo "deb [signed-by=$KEYRING] $(mirror) $2 main" >"$dir/etc/sources.list"
  cat >"$dir/apt.conf" <<CONF
Dir::Etc "$dir/etc";
Dir::State "$dir/state";
Dir::State::status "$dir/state/status";
Dir::State::Lists "$dir/lists";
Dir::Cache "$dir/cache";
APT::Architecture "$DEB_ARCH";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
CONF
  APT_CONFIG=$dir/apt.conf apt-get update -qq
}

# fetch NAME COMMAND...: an apt-get command that downloads, in the directory which then holds the packages.
fetch() {
  local dir=$PARTS.new/apt/$1
  shift
  (cd "$dir/cache/archives" && APT_CONFIG=$dir/apt.conf apt-get -qq "$@" >/dev/null)
}

containerd_16() {
  local dir=$PARTS.new/apt/bookworm
  archive bookworm bookworm /dev/null
  fetch bookworm download containerd
  dpkg-deb -x "$dir/cache/archives"/containerd_1.6.*.deb "$dir/unpacked"
  mkdir -p "$PARTS.new/opt/containerd-1.6"
  mv "$dir/unpacked/usr/bin"/{containerd,ctr,containerd-shim-runc-v2} "$PARTS.new/opt/containerd-1.6/"
}

# The tree is made of one day's suite and the mirror may be at another: the same library versions, or nothing would load.
cri_client() {
  local dir=$PARTS.new/apt/tree file
  archive tree "$SUITE" "$TREE/var/lib/dpkg/status"
  fetch tree install --download-only --no-install-recommends python3-grpcio python3-protobuf python3-websocket protobuf-compiler
  fetch tree download golang-k8s-cri-api-dev
  for file in "$dir/cache/archives"/*.deb; do
    case ${file##*/} in
    golang-*) dpkg-deb -x "$file" "$dir/cri" ;;
    *) dpkg-deb -x "$file" "$PARTS.new" ;;
    esac
  done
  mkdir -p "$PARTS.new/opt/cri"
  # an option for loggers that is younger than this protoc
  sed 's/ *\[debug_redact = true\]//' "$dir/cri/$PROTO" >"$PARTS.new/opt/cri/api.proto"
  # protoc is the suite's: it runs with the tree's libraries, on a tmpfs over both
  # shellcheck disable=SC2016
  unshare --mount --propagation private bash -euc '
    mount -t tmpfs tmpfs "$1/apt"
    mkdir "$1/apt/"{upper,work,root}
    mount -t overlay overlay -o "lowerdir=$1:$2,upperdir=$1/apt/upper,workdir=$1/apt/work" "$1/apt/root"
    chroot "$1/apt/root" protoc --python_out=/opt/cri -I/opt/cri /opt/cri/api.proto
    cp "$1/apt/root/opt/cri/api_pb2.py" "$1/opt/cri/"
  ' protoc "$PARTS.new" "$TREE"
}

build() {
  if complete; then return 0; fi
  "$HERE/tree.sh"
  install "$KEYRING" debian-archive-keyring
  rm -rf --one-file-system "$PARTS" "$PARTS.new"
  mkdir -p "$PARTS.new"
  containerd_16
  cri_client
  rm -rf --one-file-system "$PARTS.new/apt" "$PARTS.new/usr/share"
  mv "$PARTS.new" "$PARTS"
  complete || die "$PARTS lacks something that this script checks for"
}

with_lock parts build
