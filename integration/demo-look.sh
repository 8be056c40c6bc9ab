#!/bin/sh
# demo-look.sh: what a process can see and do, one `name|value` a line. It runs twice: on the host, in the container.
show() { printf '%s|%s\n' "$1" "$2"; }
status() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }
bits() { # how many bits are set in a hexadecimal number
  n=0 rest=$1
  while [ -n "$rest" ]; do
    digit=${rest%"${rest#?}"} rest=${rest#?}
    case $digit in 1 | 2 | 4 | 8) n=$((n + 1)) ;; 3 | 5 | 6 | 9 | a | c) n=$((n + 2)) ;; 7 | b | d | e) n=$((n + 3)) ;; f) n=$((n + 4)) ;; esac
  done
  echo "$n"
}
first() { for file; do [ -r "$file" ] && { cat "$file"; return; }; done; echo "no limit"; }
mib() { case $1 in max | *[!0-9]*) echo "no limit" ;; ??????????????????*) echo "no limit" ;; *) echo "$(($1 / 1048576)) MiB" ;; esac; }
attempt() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }

set -- /proc/[0-9]*
show "kernel (shared)" "$(uname -r)"
show "processes it sees" "$#"
show "its own pid" "$$"
show "hostname" "$(hostname)"
show "mounts it sees" "$(wc -l </proc/self/mountinfo | tr -d ' ')"
show "network interfaces" "$(ls /sys/class/net | tr '\n' ' ' | sed 's/ $//')"
show "it is user" "$(id -u), $(awk '{ print ($1 == $2) ? "the real one" : "really " $2; exit }' /proc/self/uid_map)"
show "capabilities" "$(bits "$(status CapEff)") of 41"
show "can gain privileges" "$([ "$(status NoNewPrivs)" = 1 ] && echo no || echo yes)"
show "system call filters" "$(status Seccomp_filters)"
show "can write to /bin" "$(attempt touch /bin/.demo && rm -f /bin/.demo)"
show "can set the kernel's knobs" "$(attempt sh -c 'old=$(cat $0) && echo "$old" >$0' /proc/sys/kernel/panic)"
show "can make a namespace" "$(attempt unshare -n true)"
show "devices in /dev" "$(ls /dev | wc -l | tr -d ' ')"
show "its cgroup" "$(sed -n 's/^0:://p; s/^.*:memory://p' /proc/self/cgroup | sort -u | tail -1 | cut -c1-32)"
show "memory limit" "$(mib "$(first /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes)")"
show "processes limit" "$(first /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max)"
show "open files limit" "$(ulimit -n)"
