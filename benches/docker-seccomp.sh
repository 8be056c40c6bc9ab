#!/bin/bash
# docker-seccomp.sh: write docker-seccomp.json anew: the linux.seccomp that the lab tree's dockerd puts into the config.json of a plain
# `docker run`, on this architecture. (The profile is Docker's, https://github.com/moby/profiles, Apache-2.0; this copy is from Docker 28.5.2.)
# Needs root, the lab tree and the image of the runc suite (spec-tests/runc/prepare.sh).
set -euo pipefail
HERE=$(dirname "$(readlink -f "$0")")
OUT=$(mktemp -d); trap 'rm -rf "$OUT"' EXIT
cat > "$OUT/save" <<'X'
#!/bin/bash
for a in "$@"; do [ "${before:-}" = --bundle ] && cp "$a/config.json" /share/config.json; before=$a; done
exec runc "$@"
X
chmod +x "$OUT/save"
SHARE=$OUT unshare -n "$HERE/../spec-tests/runc/enter.sh" bash -euc '
  ip link set lo up; mkdir /tmp/d; export DOCKER_HOST=unix:///tmp/d/sock
  dockerd --data-root /tmp/d/data --exec-root /tmp/d/exec -H "$DOCKER_HOST" --pidfile /tmp/d/pid --iptables=false --ip6tables=false \
    --bridge=none --add-runtime save=/share/save > /share/log 2>&1 &
  for i in $(seq 100); do docker info > /share/info 2>&1 && break; sleep 0.2; done
  docker import /suite/images/busybox.tar box; docker run --rm --network none --runtime save box true' > /dev/null ||
  { tail "$OUT/log" >&2; exit 1; }
jq -S .linux.seccomp "$OUT/config.json" > "$HERE/docker-seccomp.json"
