#!/bin/bash
# test-vm.sh TRIPLE [PART...]: run the integration tests, already built, in the lab's VM: systemd, pure cgroup v2, a new
# kernel. The static test program, its inspector and the runtime are copied; nothing is built in there.
. "$(dirname "$0")/settings.sh"
triple=$1
shift
share=$(mktemp -d "$LAB/share.XXXXXX")
trap 'rm -rf "$share"' EXIT
newest=$(ls -t "target/$triple/debug/deps/integration-"* | grep -v '\.d$' | head -1)
mkdir "$share/deps"
cp "$newest" "$share/deps/integration"
cp "target/$triple/debug/"{inspector,without} "$share/"
cp "$RUNTIME" "$share/${RUNTIME##*/}"
runtime=/tmp/runtime/${RUNTIME##*/}
# A dynamic peer copied from this machine would miss its libraries there: the VM has the same one of its own.
case $RUNTIME in */peers/*) runtime=/usr/bin/${RUNTIME##*/} ;; esac
SHARE=$share "$HERE/vm-run.sh" "mkdir -p /tmp/runtime/deps; cp /share/${RUNTIME##*/} /share/inspector /share/without /tmp/runtime/
  cp /share/deps/integration /tmp/runtime/deps/; uname -sr
  RUNTIME=$runtime KNARR_SLOW=6 KNARR_ALONE=1 /tmp/runtime/deps/integration $*"
