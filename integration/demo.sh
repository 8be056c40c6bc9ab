#!/bin/bash
# demo.sh: run a real container with the runtime that RUNTIME names (default: the built knarr) and show it beside the
# host: pids, hostname, mounts, network, users, capabilities, cgroup, limits, and how long it takes.
# The root file system is this machine's static busybox and nothing else. Everything made here is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "demo.sh: run me as root" >&2; exit 1; }
RUNTIME=${RUNTIME:-$(ls -t target/*/release/knarr | head -1)}
name=$(basename "$RUNTIME")
work=$(mktemp -d /tmp/knarr-demo.XXXXXX)
id=demo-$$
bold=$'\033[1m' dim=$'\033[2m' green=$'\033[32m' plain=$'\033[0m'
[ -t 1 ] || bold='' dim='' green='' plain=''

cleanup() {
  "$RUNTIME" --root "$work/state" delete --force "$id" 2>/dev/null || true
  rmdir /sys/fs/cgroup/knarr-demo /sys/fs/cgroup/*/knarr-demo 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

root_file_system() {
  local applet
  mkdir -p "$work/rootfs"/{bin,dev,etc,proc,sys,tmp}
  cp "$(command -v busybox)" "$work/rootfs/bin/busybox"
  for applet in $("$work/rootfs/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$work/rootfs/bin/$applet"
  done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$work/rootfs/etc/passwd"
  cp integration/demo-look.sh "$work/rootfs/bin/look"
  chmod +x "$work/rootfs/bin/look"
}

# config ARGUMENT-LIST: the container's configuration, running this JSON list of words.
config() {
  cat >"$work/config.json" <<JSON
{ "ociVersion": "1.2.0", "hostname": "harbour", "root": {"path": "rootfs", "readonly": true},
  "process": {"user": {"uid": 0, "gid": 0}, "args": $1, "cwd": "/", "env": ["PATH=/bin"], "noNewPrivileges": true,
    "capabilities": {"bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE"], "effective": ["CAP_KILL",
      "CAP_NET_BIND_SERVICE"], "permitted": ["CAP_KILL", "CAP_NET_BIND_SERVICE"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]},
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "ro"]}],
  "linux": {"cgroupsPath": "/knarr-demo/$id",
    "resources": {"memory": {"limit": 33554432}, "pids": {"limit": 16}, "devices": [{"allow": false, "access": "rwm"}]},
    "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
      {"type": "cgroup"}, {"type": "user"}],
    "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount", "unshare"],
      "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]},
    "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
    "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"]}}
JSON
}

run() { "$RUNTIME" --root "$work/state" run --bundle "$work" "$id"; }

# The two lists have the same names in the same order; what differs is what is isolated.
table() {
  local what here there
  printf '%s%-28s %-34s %s%s\n' "$bold" '' 'on this host' 'in the container' "$plain"
  paste -d '|' "$work/host" "$work/inside" | while IFS='|' read -r what here _ there; do
    if [ "$here" = "$there" ]; then
      printf '%-28s %-34s %s%s%s\n' "$what" "${here:0:33}" "$dim" "$there" "$plain"
    else
      printf '%-28s %-34s %s%s%s\n' "$what" "${here:0:33}" "$green" "$there" "$plain"
    fi
  done
}

milliseconds() { echo $((($(date +%s%N) - $1) / 1000)) | sed 's/\(.*\)\(...\)$/\1.\2/; s/^\./0./'; }

root_file_system
chown -R 100000:100000 "$work/rootfs"
chmod 755 "$work"
echo
echo "${bold}A container with ${name}${plain} ${dim}($("$RUNTIME" --version | head -1), $(stat -c %s "$RUNTIME") bytes)${plain}"
echo "${dim}Its root file system has one file: $(command -v busybox).${plain}"
echo
config '["look"]'
begin=$(date +%s%N)
run >"$work/inside"
took=$(milliseconds "$begin")
sh integration/demo-look.sh >"$work/host"
table
echo
echo "The container above ran for ${bold}$took ms${plain}, including the listing above."
config '["true"]'
begin=$(date +%s%N)
for _ in $(seq 20); do run; done
echo "20 containers running true, one after another: ${bold}$(milliseconds "$begin") ms${plain}."
left=$(grep -c "$work" /proc/self/mountinfo || true)
echo "Left behind: $left mounts, $("$RUNTIME" --root "$work/state" list -q 2>/dev/null | wc -l) containers."
