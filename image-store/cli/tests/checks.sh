# Sourced by the image store's tests in shell: checks that print one line each and are counted, a scratch folder $W that goes
# with the script, and what is started in the background, which goes too. Knows nothing of images.
W=$(mktemp -d /var/tmp/knarr-test.XXXXXX)
PASSED=0 FAILED=0 SKIPPED=0 PIDS=()

cleanup() {
  declare -F before_cleanup >/dev/null && before_cleanup
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
  umount -q "$W/view" 2>/dev/null
  # What the command deletes in the background may still be at it.
  rm -rf "$W" 2>/dev/null || { sleep 1; rm -rf "$W"; }
}
trap cleanup EXIT

pass() { PASSED=$((PASSED + 1)); echo "ok    $1"; }
fail() { FAILED=$((FAILED + 1)); echo "FAIL  $1"; [ -n "${2:-}" ] && sed 's/^/      /' <<<"$2" | head -20; }
skip() { SKIPPED=$((SKIPPED + 1)); echo "skipped: $1"; }
# check NAME COMMAND...: the command succeeds.
check() { local name=$1 out; shift; if out=$("$@" 2>&1); then pass "$name"; else fail "$name" "$out"; fi; }
# refuse NAME TEXT COMMAND...: the command fails and says TEXT.
refuse() {
  local name=$1 text=$2 out
  shift 2
  if out=$("$@" 2>&1); then fail "$name" "succeeded"
  elif grep -q -- "$text" <<<"$out"; then pass "$name"
  else fail "$name" "$out"; fi
}
same() { if [ -n "$2" ] && [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "$2 is not $3"; fi; }
# soon COMMAND...: it succeeds within half a minute; for what another process brings about.
soon() { local end=$((SECONDS + 30)); until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done; }
# free_ports COUNT: so many ports of the loopback, all different.
free_ports() {
  python3 -c 'import socket, sys
all = [socket.socket() for _ in range(int(sys.argv[1]))]
[s.bind(("127.0.0.1", 0)) for s in all]
print(*(s.getsockname()[1] for s in all))' "$1"
}
# answers URL [CURL-OPTION...]: waits for a server that was started; says so when it does not answer.
answers() { soon curl -sk "${@:2}" "$1" || echo "nothing answers at $1"; }
# none NAME VALUE: there is nothing.
none() { if [ -z "$2" ]; then pass "$1"; else fail "$1" "$2"; fi; }
# count: the last line.
count() { echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"; [ "$FAILED" = 0 ]; }
