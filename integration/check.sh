#!/bin/bash
# check.sh: formatting, lints, documentation, file lengths, shell syntax. Each is tried whatever the others say.
set -uo pipefail
cd "$(dirname "$0")/.."
cargo=integration/lab/cargo.sh
host=$("$cargo" -vV | sed -n 's/^host: //p')
passed=0 failed=0

run() {
  local what=$1
  shift
  if "$@"; then
    echo "ok: $what"
    passed=$((passed + 1))
  else
    echo "FAILED: $what"
    failed=$((failed + 1))
  fi
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

shells() {
  local file bad=0
  while read -r file; do
    bash -n "$file" || bad=1
  done < <(git ls-files '*.sh' .ci/run)
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

run "formatting" "$cargo" fmt --all --check
run "lints" "$cargo" clippy --target "$host" --workspace --features shim/client --all-targets --quiet -- -D warnings
run "documentation" env RUSTDOCFLAGS="-D warnings -C target-feature=+crt-static" \
  "$cargo" doc --target "$host" --workspace --no-deps --quiet
run "no file is longer than 600 lines" lengths
run "unsafe code is in sys modules only" unsafe_modules
run "shell scripts parse" shells
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
