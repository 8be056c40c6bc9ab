#!/bin/bash
# suites.sh NAME...: run `make test-NAME` for each, whatever the one before said; keep each one's output in
# target/results; print a table and, as the very last line, "N passed, N failed, N skipped" over all. Exits 1 if
# anything failed. A suite says what it did by libtest's "test result:" lines or by a line "N passed, N failed,
# N skipped"; one that fails without saying so counts as one failure, one that counts nothing as one pass.
# The suites in the VM run one after another beside those that do not mind: the VM takes one processor, and shares nothing with
# them but the build, which the unit tests have done. The engines and the shim have deadlines of their own, so they come
# after the VM. LANES=1: everything one after another.
set -uo pipefail
cd "$(dirname "$0")/../.."
results=target/results
mkdir -p "$results"
rm -f "$results"/*.log "$results"/*.row

count() {
  sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
    /^test result: / { gsub(/;/, ""); for (i = 2; i <= NF; i++) { if ($i == "passed") p += $(i-1)
      if ($i == "failed") f += $(i-1); if ($i == "ignored") s += $(i-1) } }
    /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped/ { p += $1; f += $3; s += $5 }
    END { print p + 0, f + 0, s + 0 }'
}

# run NAME: the suite's output goes to its log and to standard output, its counts to its row.
run() {
  local name=$1 begin status p f s
  echo "=== $name"
  begin=$(date +%s)
  make --no-print-directory "test-$name" 2>&1 | tee "$results/$name.log"
  status=${PIPESTATUS[0]}
  read -r p f s < <(count "$results/$name.log")
  if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
  if [ "$status" = 0 ] && [ "$p$f$s" = 000 ]; then p=1; fi
  echo "$name $p $f $s $(($(date +%s) - begin))" >"$results/$name.row"
}

first=() beside=() vm=() last=()
for name in "$@"; do
  case ${LANES:-2}/$name in
  */check | */unit | 1/*) first+=("$name") ;;
  */vm | */vm-* | */*-vm | */*-vm-*) vm+=("$name") ;;
  */engines | */shim | */shim-* | */init) last+=("$name") ;;
  *) beside+=("$name") ;;
  esac
done
run_all() {
  local name
  for name in "$@"; do run "$name"; done
}

run_all "${first[@]}"
run_all "${vm[@]}" >"$results/vm.out" 2>&1 &
run_all "${beside[@]}"
wait
cat "$results/vm.out"
run_all "${last[@]}"

passed=0 failed=0 skipped=0 table=
for name in "$@"; do
  # A suite that left no row was cut off.
  read -r _ p f s seconds < <(cat "$results/$name.row" 2>/dev/null || echo "$name 0 1 0 0")
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  table+=$(printf '%-21s %5d passed %5d failed %5d skipped %6d s' "$name" "$p" "$f" "$s" "$seconds")$'\n'
done
printf '\n%s\n' "$table"
rm -f "$results/vm.out"
grep -hE '\.\.\. FAILED$|^not ok ' "$results"/*.log 2>/dev/null | sort -u
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
