#!/bin/bash
# vm-run.sh COMMAND: boot the lab's VM (no KVM needed; half a minute to a shell in software), run the shell command in
# it as root, print its output as it comes, exit with its status. 125: the VM itself went wrong.
# SHARE        the folder that is /share in the VM, writable, and the command's current folder (default: this folder)
# VM_TIMEOUT   seconds until the VM is switched off (default 1800)
# VM_ACCEL     kvm where that works; the default is software, since a /dev/kvm that is there need not work
# VM_MEM, VM_SMP, VM_APPEND   memory, processors, more kernel parameters
. "$(dirname "$0")/settings.sh"
need_root
[ $# = 1 ] || die "usage: vm-run.sh COMMAND"
[ -n "$QEMU" ] || die "no VM on $(uname -m): only on x86_64 and aarch64"
"$HERE/vm-image.sh"
install "$QEMU" "$QEMU_PACKAGE" qemu-system-common

SHARE=${SHARE:-$PWD} MEM=${VM_MEM:-4G} LIMIT=${VM_TIMEOUT:-1800}
id=$$-$RANDOM
dir=$SHARE/.lab-$id
socket=$(mktemp -d "$VM/socket.XXXXXX")
fs_pid='' vm_pid='' tail_pid=''

cleanup() {
  local pid
  for pid in $tail_pid $vm_pid $fs_pid; do kill "$pid" 2>/dev/null || true; done
  wait || true
  rm -rf "$socket" "$dir"
}

# Debian 12 has QEMU's own virtiofsd, later releases the one in Rust: other place, other options.
start_virtiofsd() {
  if [ -x /usr/lib/qemu/virtiofsd ]; then
    /usr/lib/qemu/virtiofsd --socket-path="$socket/fs" --rlimit-nofile=0 -o source="$SHARE" -o cache=auto
  else
    install /usr/libexec/virtiofsd virtiofsd
    /usr/libexec/virtiofsd --socket-path="$socket/fs" --shared-dir "$SHARE" --cache auto --rlimit-nofile=0
  fi
}

# no_timer_check: on a busy host, software emulation is too slow for the kernel's test of its timer, which ends in a panic.
start_qemu() {
  exec "$QEMU" -machine "$MACHINE" -accel "${VM_ACCEL:-tcg,thread=multi}" -cpu max -smp "${VM_SMP:-2}" -m "$MEM" \
    -nographic -no-reboot -monitor none -nic none -serial "file:$dir/console" \
    -object "memory-backend-memfd,id=mem,size=$MEM,share=on" -numa node,memdev=mem \
    -kernel "$VM/vmlinuz" -initrd "$VM/initrd.img" -append "console=$CONSOLE quiet lab.id=$id \
    systemd.show_status=0 mitigations=off random.trust_cpu=on psi=1 no_timer_check panic=-1 ${VM_APPEND:-}" \
    -drive "file=$VM/root.ext4,if=virtio,format=raw,snapshot=on,cache=unsafe" -device virtio-rng-pci \
    -chardev "socket,id=fs,path=$socket/fs" -device vhost-user-fs-pci,chardev=fs,tag=share
}

# Prints what the VM ran; 125 if it left no status.
finish() {
  wait "$vm_pid" || true
  # It reads once more after the VM's end, and then ends by itself.
  wait "$tail_pid" || true
  vm_pid='' tail_pid=''
  if [ -s "$dir/rc" ]; then
    exit "$(cat "$dir/rc")"
  fi
  echo "vm-run.sh: no exit status from the VM; its console ends with:" >&2
  tail -n 20 "$dir/console" "$dir/qemu.log" "$dir/virtiofsd.log" >&2 || true
  exit 125
}

# One VM at a time: each takes all processors.
exec 8>"${KNARR_VM_LOCK:-$LAB/vm.lock}"
flock 8
trap cleanup EXIT
mkdir "$dir"
printf '%s\n' "$1" >"$dir/cmd"
: >"$dir/out"
start_virtiofsd >"$dir/virtiofsd.log" 2>&1 8>&- &
fs_pid=$!
# A socket has its name before anybody listens (flag 0x10000, net/unix).
for _ in $(seq 600); do
  grep -q " 00010000 .* $socket/fs\$" /proc/net/unix && break
  sleep 0.1
done
start_qemu >"$dir/qemu.log" 2>&1 8>&- &
vm_pid=$!
tail -n +1 -f --pid="$vm_pid" "$dir/out" 2>/dev/null 8>&- &
tail_pid=$!
end=$(($(date +%s) + LIMIT))
while kill -0 "$vm_pid" 2>/dev/null; do
  if [ "$(date +%s)" -gt "$end" ]; then
    echo "vm-run.sh: not finished after $LIMIT seconds, switched off" >&2
    kill "$vm_pid"
    break
  fi
  sleep 0.5
done
finish
