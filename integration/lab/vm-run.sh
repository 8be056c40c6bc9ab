#!/bin/bash
# vm-run.sh COMMAND: boot the lab's VM (no KVM needed; half a minute to a shell in software), run the shell command in
# it as root, print its output as it comes, exit with its status. 125: the VM itself failed.
# A VM whose kernel panicked before the command ended is booted once more, and says so: an emulated kernel on a busy
# machine can die of its emulator. A panic that the command causes comes again, and the second one is final.
# SHARE         the directory that is /share in the VM, writable, and the command's working directory (default: this one)
# VM_TIMEOUT    seconds until the VM is switched off (default 1800)
# VM_ACCEL      kvm where that works; the default is software, since a /dev/kvm that exists need not work, with one thread
#               for all processors (tcg,thread=multi takes one for each: see below)
# VM_MEM, VM_SMP, VM_APPEND   memory, processors, more kernel parameters
# VM_VIRTIOFSD  another virtiofsd (it gets the options of the one written in Rust)
# VM_CONSOLES   where the consoles of VMs that failed are kept (default: target/results)
. "$(dirname "$0")/settings.sh"
need_root
[ $# = 1 ] || die "usage: vm-run.sh COMMAND"
[ -n "$QEMU" ] || die "no VM on $(uname -m): only on x86_64 and aarch64"
"$HERE/vm-image.sh"
install "$QEMU" "$QEMU_PACKAGE" qemu-system-common

SHARE=${SHARE:-$PWD} MEM=${VM_MEM:-4G} LIMIT=${VM_TIMEOUT:-1800} CONSOLES=${VM_CONSOLES:-$HERE/../../target/results}
mkdir -p "$VM"
id='' dir='' socket='' fs_pid='' vm_pid='' tail_pid=''

cleanup() {
  local pid
  for pid in $tail_pid $vm_pid $fs_pid; do kill "$pid" 2>/dev/null || true; done
  wait || true
  tail_pid='' vm_pid='' fs_pid=''
  [ -z "$dir" ] || rm -rf "$socket" "$dir"
}

# Debian 12 has QEMU's own virtiofsd, later releases the one in Rust: other place, other options.
start_virtiofsd() {
  local program=${VM_VIRTIOFSD:-/usr/libexec/virtiofsd}
  if [ -z "${VM_VIRTIOFSD:-}" ] && [ -x /usr/lib/qemu/virtiofsd ]; then
    exec /usr/lib/qemu/virtiofsd --socket-path="$socket/fs" --rlimit-nofile=0 -o source="$SHARE" -o cache=auto
  fi
  install "$program" virtiofsd
  exec "$program" --socket-path="$socket/fs" --shared-dir "$SHARE" --cache auto --rlimit-nofile=0
}

# thread=single: with a thread for each processor, QEMU (7.2 within seconds of patching, 11.1 within minutes) executes an
# int3 that another processor has already patched away again, and a kernel that meets a stray int3 panics ("Oops: int3").
# Kernels patch their code whenever a static key changes: with the first and the last device program, CPU quota or cpuset,
# thus in every test of cgroups. On two processors that other programs use too, one thread is about as fast.
# no_timer_check: on a busy host, software emulation is too slow for the kernel's test of its timer, which ends in a panic.
# oops=panic: after an oops nothing that a test finds can be believed.
start_qemu() {
  exec "$QEMU" -machine "$MACHINE" -accel "${VM_ACCEL:-tcg,thread=single}" -cpu max -smp "${VM_SMP:-2}" -m "$MEM" \
    -nographic -no-reboot -monitor none -nic none -serial "file:$dir/console" \
    -object "memory-backend-memfd,id=mem,size=$MEM,share=on" -numa node,memdev=mem \
    -kernel "$VM/vmlinuz" -initrd "$VM/initrd.img" -append "console=$CONSOLE quiet lab.id=$id \
    systemd.show_status=0 mitigations=off random.trust_cpu=on psi=1 no_timer_check oops=panic panic=-1 ${VM_APPEND:-}" \
    -drive "file=$VM/root.ext4,if=virtio,format=raw,snapshot=on,cache=unsafe" -device virtio-rng-pci \
    -chardev "socket,id=fs,path=$socket/fs" -device vhost-user-fs-pci,chardev=fs,tag=share
}

# wait_for_socket: a socket has its name before anyone listens (flag 0x10000, net/unix).
wait_for_socket() {
  for _ in $(seq 600); do
    grep -q " 00010000 .* $socket/fs\$" /proc/net/unix && return
    kill -0 "$fs_pid" 2>/dev/null || return 0
    sleep 0.1
  done
}

# boot COMMAND: boot the VM, print what the command prints, wait for the VM's end. All that it left is in $dir.
boot() {
  local end
  id=$$-$RANDOM
  dir=$SHARE/.lab-$id
  socket=$(mktemp -d "$VM/socket.XXXXXX")
  mkdir "$dir"
  printf '%s\n' "$1" >"$dir/cmd"
  : >"$dir/out"
  : >"$dir/console"
  start_virtiofsd >"$dir/virtiofsd.log" 2>&1 8>&- &
  fs_pid=$!
  wait_for_socket
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
  wait "$vm_pid" || true
  # It reads once more after the VM's end, and then ends by itself.
  wait "$tail_pid" || true
  vm_pid='' tail_pid=''
}

# The line of the console that says why the kernel panicked; fails if it did not.
panic() {
  tr -d '\r' <"$dir/console" | grep -m1 -o 'Kernel panic - not syncing.*'
}

# Prints what explains a VM that left no status, and keeps its console.
explain() {
  local kept first
  kept=$CONSOLES/vm-console-$id.txt
  mkdir -p "$CONSOLES"
  tr -d '\r' <"$dir/console" >"$kept"
  echo "vm-run.sh: no exit status from the VM; its console is kept in $kept" >&2
  first=$(grep -nm1 -E 'Kernel panic|BUG:|kernel BUG|Oops|rcu:|soft lockup|Call [Tt]race|cut here' "$kept" | cut -d: -f1) || true
  if [ -n "$first" ]; then
    tail -n "+$first" "$kept" | head -n 120 >&2
  else
    tail -n 20 "$kept" >&2
  fi
  tail -n 20 "$dir/qemu.log" "$dir/virtiofsd.log" >&2 || true
}

# One VM at a time: each takes all processors.
exec 8>"${KNARR_VM_LOCK:-$LAB/vm.lock}"
flock 8
trap cleanup EXIT
for attempt in 1 2; do
  boot "$1"
  if [ -s "$dir/rc" ]; then
    exit "$(cat "$dir/rc")"
  fi
  explain
  cause=$(panic) || exit 125
  cleanup
  if [ "$attempt" = 1 ]; then
    echo "vm-run.sh: THE VM'S KERNEL PANICKED ($cause); booting it once more" >&2
  else
    echo "vm-run.sh: the VM's kernel panicked again ($cause): this is final" >&2
  fi
done
exit 125
