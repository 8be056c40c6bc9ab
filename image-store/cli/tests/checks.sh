# Sourced by the shell tests of knarr-image: checks, which print a line each and are counted; a temporary directory $W and the
# background processes $PIDS, which are removed at the end.
W=$(mktemp -d /var/tmp/knarr-test.XXXXXX)
PASSED=0 FAILED=0 SKIPPED=0 PIDS=()

cleanup() {
  declare -F before_cleanup >/dev/null && before_cleanup
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
  umount -q "$W/view" 2>/dev/null
  # The command may still be deleting in the background.
  rm -rf "$W" 2>/dev/null || { sleep 1; rm -rf "$W"; }
}
trap cleanup EXIT

pass() { PASSED=$((PASSED + 1)); echo "ok    $1"; }
fail() { FAILED=$((FAILED + 1)); echo "FAIL  $1"; [ -n "${2:-}" ] && sed 's/^/      /' <<<"$2" | head -20; }
skip() { SKIPPED=$((SKIPPED + 1)); echo "skipped: $1"; }
# check NAME COMMAND...: the command succeeds.
check() { local name=$1 out; shift; if out=$("$@" 2>&1); then pass "$name"; else fail "$name" "$out"; fi; }
# refuse NAME TEXT COMMAND...: the command fails with a message that contains TEXT.
refuse() {
  local name=$1 text=$2 out
  shift 2
  if out=$("$@" 2>&1); then fail "$name" "succeeded"
  elif grep -q -- "$text" <<<"$out"; then pass "$name"
  else fail "$name" "$out"; fi
}
same() { if [ -n "$2" ] && [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "$2 is not $3"; fi; }
# soon COMMAND...: the command succeeds within half a minute; for effects of other processes.
soon() { local end=$((SECONDS + 30)); until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done; }
# free_ports COUNT: prints different free ports of the loopback interface.
free_ports() {
  python3 -c 'import socket, sys
all = [socket.socket() for _ in range(int(sys.argv[1]))]
[s.bind(("127.0.0.1", 0)) for s in all]
print(*(s.getsockname()[1] for s in all))' "$1"
}
# answers URL [CURL-OPTION...]: waits for a server; prints a message if it does not respond.
answers() { soon curl -sk "${@:2}" "$1" || echo "no response from $1"; }
# none NAME VALUE: the value is empty.
none() { if [ -z "$2" ]; then pass "$1"; else fail "$1" "$2"; fi; }
# count: prints the last line.
count() { echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"; [ "$FAILED" = 0 ]; }
