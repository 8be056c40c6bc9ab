#!/bin/bash
# suites.sh NAME...: run `make test-NAME` for each, whatever the one before said; keep each one's output in
# target/results; print a table and, as the very last line, "N passed, N failed, N skipped" over all. Exits 1 if
# anything failed. A suite says what it did by libtest's "test result:" lines or by a line "N passed, N failed,
# N skipped"; one that fails without saying so counts as one failure, one that counts nothing as one pass.
set -uo pipefail
cd "$(dirname "$0")/../.."
results=target/results
mkdir -p "$results"
rm -f "$results"/*.log

count() {
  sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
    /^test result: / { gsub(/;/, ""); for (i = 2; i <= NF; i++) { if ($i == "passed") p += $(i-1)
      if ($i == "failed") f += $(i-1); if ($i == "ignored") s += $(i-1) } }
    /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped/ { p += $1; f += $3; s += $5 }
    END { print p + 0, f + 0, s + 0 }'
}

passed=0 failed=0 skipped=0 table=
for name in "$@"; do
  echo "=== $name"
  begin=$(date +%s)
  make --no-print-directory "test-$name" 2>&1 | tee "$results/$name.log"
  status=${PIPESTATUS[0]}
  read -r p f s < <(count "$results/$name.log")
  if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
  if [ "$status" = 0 ] && [ "$p$f$s" = 000 ]; then p=1; fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  table+=$(printf '%-16s %5d passed %5d failed %5d skipped %6d s' "$name" "$p" "$f" "$s" $(($(date +%s) - begin)))$'\n'
done
printf '\n%s\n' "$table"
grep -hE '\.\.\. FAILED$|^not ok ' "$results"/*.log 2>/dev/null | sort -u
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
