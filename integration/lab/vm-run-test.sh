#!/bin/bash
# vm-run-test.sh: what vm-run.sh makes of a VM that panics, hangs or ends well. QEMU is a script here; no VM is booted.
. "$(dirname "$0")/settings.sh"
[ -n "$QEMU" ] || die "no VM on $(uname -m)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/share"
cp "$HERE/settings.sh" "$HERE/vm-run.sh" "$work/"
printf '#!/bin/bash\n' >"$work/vm-image.sh"
# Each boot takes the next line of $work/boots: run (the command), panic, late (the command ends, then a panic), dead.
cat >"$work/bin/$QEMU" <<'FAKE'
#!/bin/bash
[[ " $* " =~ " -serial file:"([^ ]*)/console ]]
dir=${BASH_REMATCH[1]}
kind=$(head -1 "$WORK/boots")
sed -i 1d "$WORK/boots"
echo "boot: $kind" >>"$WORK/booted"
if [ "$kind" = run ] || [ "$kind" = late ]; then
  (cd "$dir/.." && bash "$dir/cmd" >"$dir/out" 2>&1; echo $? >"$dir/rc")
fi
if [ "$kind" = panic ] || [ "$kind" = late ]; then
  {
    printf '[    1.000000] all is well\r\n'
    printf '[  156.000000] Oops: int3: 0000 [#1] SMP NOPTI\r\n[  156.000001] Call Trace:\r\n'
    for n in $(seq 30); do printf '[  156.000002]  frame_%s+0x1/0x2\r\n' "$n"; done
    printf '[  156.000003] Kernel panic - not syncing: Fatal exception in interrupt\r\n'
    printf '[  156.000004] Kernel Offset: 0x1000000\r\n'
  } >"$dir/console"
fi
FAKE
chmod +x "$work/bin/$QEMU" "$work/vm-image.sh"

passed=0 failed=0
# try NAME BOOTS STATUS BOOTED COMMAND PATTERN...: the boots that the VM would make of itself, the status that vm-run.sh must
# end with, how often it must boot, and what its output must have (or, after a !, must not have).
try() {
  local name=$1 status=0 booted pattern wrong=
  tr ' ' '\n' <<<"$2" >"$work/boots"
  : >"$work/booted"
  env KNARR_LAB="$work/lab" SHARE="$work/share" VM_CONSOLES="$work/consoles" VM_VIRTIOFSD=/bin/true VM_TIMEOUT=20 \
    WORK="$work" PATH="$work/bin:$PATH" "$work/vm-run.sh" "$5" >"$work/output" 2>&1 || status=$?
  booted=$(wc -l <"$work/booted")
  [ "$status" = "$3" ] || wrong+=" status $status instead of $3;"
  [ "$booted" = "$4" ] || wrong+=" $booted boots instead of $4;"
  shift 5
  for pattern in "$@"; do
    case $pattern in
    !*) if grep -q -- "${pattern#!}" "$work/output"; then wrong+=" output has: ${pattern#!};"; fi ;;
    *) grep -q -- "$pattern" "$work/output" || wrong+=" output lacks: $pattern;" ;;
    esac
  done
  [ -z "$(ls -A "$work/share")" ] || wrong+=" left in the shared directory: $(ls -A "$work/share");"
  if [ -z "$wrong" ]; then
    echo "ok: $name"
    passed=$((passed + 1))
  else
    echo "FAILED: $name:$wrong"
    sed 's/^/  | /' "$work/output"
    failed=$((failed + 1))
  fi
}

again='PANICKED (Kernel panic - not syncing: Fatal exception in interrupt); booting it once more'
try "a command that succeeds runs once" "run run" 0 1 'echo it ran' 'it ran' '!vm-run.sh:'
try "a command that fails is never run twice" "run run" 1 1 'echo it ran; exit 1' 'it ran' '!vm-run.sh:'
try "a command's own 125 is no failure of the VM" "run run" 125 1 'exit 125' '!vm-run.sh:'
try "a panic is shown whole and the VM boots once more" "panic run" 0 2 'echo it ran' 'it ran' "$again" 'Oops: int3' 'frame_1+' \
  'Kernel Offset' '!all is well'
try "a status after a panic counts" "panic run" 3 2 'exit 3' "$again"
try "the second panic is final" "panic panic run" 125 2 'echo it ran' "$again" 'panicked again' '!it ran'
try "a panic after the command ended changes nothing" "late run" 1 1 'exit 1' '!vm-run.sh:'
try "a VM that dies of something else is not booted again" "dead run" 125 1 'echo it ran' 'no exit status' '!PANICKED' '!it ran'
kept=("$work"/consoles/*)
if [ ${#kept[@]} = 5 ] && grep -q 'all is well' "${kept[@]}"; then
  echo "ok: the whole consoles are kept"
  passed=$((passed + 1))
else
  echo "FAILED: the whole consoles are kept: ${kept[*]}"
  failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
