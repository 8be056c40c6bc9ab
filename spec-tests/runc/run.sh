#!/bin/bash
# run.sh host|vm [FILE.bats...]: run runc's bats suite (all files that exceptions.txt does not put off, or those named) with the runtime
# RUNTIME: a binary on this machine, or tree:PATH for one of the lab tree (tree:/usr/sbin/runc). "host" is the lab tree on this kernel and
# its cgroups, "vm" the same tree under systemd and pure cgroup v2. Leaves in $KNARR_LAB/runc-suite/runs/NAME-MACHINE: tap/, results.txt.
# Prints what runc passes on that machine (expected/MACHINE.txt) and RUNTIME does not; fails if there is such a test without an exception.
# UPDATE=1: write the results to expected/MACHINE.txt instead, where they are runc's own.
SCRIPTS=$(dirname "$(readlink -f "$0")")
. "$SCRIPTS/../../integration/lab/settings.sh"
MACHINE=${1:?host or vm}; shift
RUNTIME=${RUNTIME:?path of a runtime, or tree:PATH}

"$SCRIPTS/prepare.sh"
OUT=$LAB/runc-suite/runs/$(basename "$RUNTIME")-$MACHINE
rm -rf "$OUT"; mkdir -p "$OUT"/{bin,suite/src}
cp -al "$LAB"/runc-suite/src/{tests,go.mod} "$OUT/suite/src/"; cp -al "$LAB/runc-suite/images" "$OUT/suite/"; cp "$SCRIPTS/inside.sh" "$OUT/"
case $RUNTIME in
  tree:*) binary=${RUNTIME#tree:} ;;
  # under the name that it takes the place of: help texts and log lines carry it
  *) cp "$RUNTIME" "$OUT/bin/runc"; binary=/share/bin/runc ;;
esac
if [ $# = 0 ]; then mapfile -t files < <("$SCRIPTS/report.py" files "$MACHINE" "$LAB/runc-suite/src/tests/integration"); set -- "${files[@]}"; fi

case $MACHINE in
  host) SHARE=$OUT "$SCRIPTS/enter.sh" env TEST_LIMIT="${TEST_LIMIT:-240}" ./inside.sh "$binary" /share/suite /share/tap "$@"
    # containers that died with their namespaces leave empty cgroups on the host
    find /sys/fs/cgroup -depth -type d \( -path '*/runc-cgroups-integration-test*' -o -name 'test_*' -o -name 'test-*' \) -exec rmdir {} + \
      2> /dev/null || true ;;
  vm) SHARE=$OUT VM_TIMEOUT=${VM_TIMEOUT:-5400} "$HERE/vm-run.sh" "TEST_LIMIT=${TEST_LIMIT:-300} ./inside.sh $binary /share/suite /share/tap $*" ;;
  *) echo "run.sh: $MACHINE: not host or vm" >&2; exit 2 ;;
esac
rm -rf "$OUT/suite"
"$SCRIPTS/report.py" results "$OUT/tap" > "$OUT/results.txt"
if [ "${UPDATE:-}" = 1 ]; then mkdir -p "$SCRIPTS/expected"; cp "$OUT/results.txt" "$SCRIPTS/expected/$MACHINE.txt"; exit 0; fi
"$SCRIPTS/report.py" compare "$MACHINE" "$OUT" "$@"
