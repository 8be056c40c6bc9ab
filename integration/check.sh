#!/bin/bash
# check.sh: formatting, lints, documentation, who uses whom, dependencies, lengths, shell syntax. Each is tried whatever
# the others say.
set -uo pipefail
cd "$(dirname "$0")/.."
cargo=integration/lab/cargo.sh
host=$("$cargo" -vV | sed -n 's/^host: //p')
passed=0 failed=0 skipped=0

# run WHAT COMMAND...: a command that exits with 77 could not look, and has said why.
run() {
  local what=$1 code=0
  shift
  "$@" || code=$?
  case $code in
    0) echo "ok: $what" && passed=$((passed + 1)) ;;
    77) echo "skipped: $what" && skipped=$((skipped + 1)) ;;
    *) echo "FAILED: $what" && failed=$((failed + 1)) ;;
  esac
}

lengths() {
  local long
  long=$(git ls-files '*.rs' '*.py' '*.sh' '*.c' | while read -r f; do
    [ -f "$f" ] && awk -v f="$f" 'END { if (NR > 600) print f ": " NR " lines" }' "$f"
  done)
  [ -z "$long" ] || {
    echo "$long"
    return 1
  }
}

# The tracked files with this ending, or without one and with this program in the first line.
scripts() {
  git ls-files | while read -r f; do
    case ${f##*/} in
      *."$1") echo "$f" ;;
      *.*) ;;
      *) [ -f "$f" ] && head -c 80 "$f" | head -1 | grep -qaE "^#!.*$2" && echo "$f" ;;
    esac
  done
}

columns() {
  local long
  long=$({ scripts sh bash; scripts py python; } | while read -r f; do
    [ -f "$f" ] && awk -v f="$f" 'length($0) > 160 { print f ":" FNR ": " length($0) " columns" }' "$f"
  done)
  [ -z "$long" ] || {
    echo "$long"
    return 1
  }
}

shells() {
  local file bad=0
  while read -r file; do
    bash -n "$file" || bad=1
  done < <(scripts sh bash)
  return $bad
}

unsafe_modules() {
  local found
  found=$(git grep -lE '^\s*#!?\[allow\(unsafe_code\)\]|^#!\[allow\(unsafe_code\)\]' -- '*.rs' |
    grep -v '/sys/' || true)
  [ -z "$found" ] || {
    echo "unsafe code outside a sys module: $found"
    return 1
  }
}

checks_of_checks() {
  (cd integration/checks && python3 -B -m unittest --quiet 2>&1)
}

run "formatting" "$cargo" fmt --all --check
run "lints" "$cargo" clippy --target "$host" --workspace --features shim/client --all-targets --quiet -- -D warnings
run "documentation" env RUSTDOCFLAGS="-D warnings -C target-feature=+crt-static" \
  "$cargo" doc --target "$host" --workspace --no-deps --quiet
run "no file is longer than 600 lines" lengths
run "no line of a shell or Python file is longer than 160 columns" columns
run "unsafe code is in sys modules only" unsafe_modules
run "modules and crates use each other as docs/architecture.md says" python3 -B integration/checks/layers.py
run "dependencies are as deny.toml says" python3 -B integration/checks/deny.py
run "tests of these checks" checks_of_checks
run "shell scripts parse" shells
run "another apt is waited for" integration/lab/apt-test.sh
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
