#!/bin/bash
# Containers of knarr-image as a Docker user knows them: flags of run, the life cycle, terminals, volumes, without root.
#   run.sh [KNARR-IMAGE]
# The image has this machine's busybox. Every check prints one line; the last line counts them.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BIN=$(realpath "${1:-$HERE/../../../target/debug/knarr-image}")
. "$HERE/checks.sh"
. "$HERE/files.sh"

k() { timeout -k 1 120 "$BIN" --root "$W/store" "$@"; }
before_cleanup() { k rm -f $(k ps -aq) >/dev/null 2>&1; }
# typed NAME STEP...: the steps of typed.py succeed.
typed() { local name=$1; shift; check "$name" timeout -k 1 300 python3 "$HERE/typed.py" "$@"; }
# logged CONTAINER TEXT: the container's log has this text; its supervisor writes it.
logged() { k logs "$1" | grep -q "$2"; }
# runs CONTAINER COMMAND-LINE: the container has such a process, after its execve(2).
runs() { k top "$1" | grep -qE "[RSD] +$2\$"; }
# over CONTAINER-ID: its supervisor has exited, so there is no more output.
over() { ! pgrep -f "supervise $1"; }

make_image() {
  mkdir -p "$W/box"/{bin,etc,tmp,data,root}; cp "$(command -v busybox)" "$W/box/bin/busybox"
  local applet; for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$W/box/bin/$applet"; done
  printf 'root:x:0:0::/root:/bin/sh\nweb:x:33:33::/data:/bin/sh\n' >"$W/box/etc/passwd"
  printf 'root:x:0:\nwww:x:33:\nextra:x:44:web\nmore:x:55:\n' >"$W/box/etc/group"
  echo from-image >"$W/box/data/file"
  tar -C "$W/box" -cf "$W/box.tar" .
  k import -c 'CMD ["/bin/cat","/etc/passwd"]' -c 'ENV FROM=image' -c 'VOLUME /data' -c 'LABEL of=image' "$W/box.tar" box >/dev/null
}

# configured CONFIG: the image "configured", with the files of box and this run config.
configured() {
  k save --format oci-dir -o "$W/configured" box && python3 - "$W/configured" "$1" <<'PY' && k load -qi "$W/configured"; rm -rf "$W/configured"
import hashlib, json, sys
directory, config = sys.argv[1], json.loads(sys.argv[2])
read = lambda digest: json.load(open(f"{directory}/blobs/{digest.replace(':', '/')}"))
def write(value):
    data = json.dumps(value).encode(); digest = hashlib.sha256(data).hexdigest()
    open(f"{directory}/blobs/sha256/{digest}", "wb").write(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}
index = json.load(open(f"{directory}/index.json")); entry = index["manifests"][0]; manifest = read(entry["digest"])
image = read(manifest["config"]["digest"]); image["config"] = config
manifest["config"].update(write(image)); entry.update(write(manifest))
entry["annotations"] = {name: value.replace("box:", "configured:") for name, value in entry.get("annotations", {}).items()}
json.dump(index, open(f"{directory}/index.json", "w"))
PY
}

test_process() {
  same "the image's command" "$(k run --rm box | head -1)" 'root:x:0:0::/root:/bin/sh'
  same 'arguments, environment, directory, user' "$(k run --rm -e A=b -w /tmp -u web box sh -c 'echo $FROM $A $HOME; pwd; id -u; id -G')" \
    $'image b /data\n/tmp\n33\n33 44'
  same '--user by number and group, --group-add by name' "$(k run --rm -u 5:6 --group-add more --group-add 77 box sh -c 'id -u; id -G')" $'5\n6 55 77'
  refuse 'a user the image does not have' 'no user "nobody"' k run --rm -u nobody box true
  printf 'B=from-file\n# remark\nC=x y\n' >"$W/env"
  same '--env-file' "$(k run --rm --env-file "$W/env" -e C=z box sh -c 'echo $B $C')" 'from-file z'
  same '-e without a value takes ours' "$(OURS=1 k run --rm -e OURS -e THEIRS box sh -c 'echo $OURS ${THEIRS-unset}')" '1 unset'
  same '--workdir is made when it is missing' "$(k run --rm -w /not/there box pwd)" /not/there
  same '--entrypoint' "$(k run --rm --entrypoint echo box hello)" hello
  same 'standard input' "$(echo in | k run --rm -i box cat)" in
  none 'standard input needs -i' "$(echo in | k run --rm box cat)"
  same 'both outputs are apart' "$(k run --rm box sh -c 'echo out; echo err >&2' 2>/dev/null)" out
  head -c 3000000 /dev/urandom >"$W/big"
  same 'three megabytes in and out' "$(k run --rm -i box cat <"$W/big" | md5sum)" "$(md5sum <"$W/big")"
  same 'a reader that has enough ends it' "$(k run --rm box yes 2>/dev/null | head -1)" y
  k run --rm box sh -c 'exit 7'; same 'the exit code' $? 7
  k run --rm box /no/such 2>/dev/null; same '127 without such a program' $? 127
  k run --rm box /etc/passwd 2>/dev/null; same '126 for what can not be executed' $? 126
  printf '#!/no/such/interpreter\n' >"$W/script"; printf 'no program' >"$W/text"; chmod +x "$W/script" "$W/text"
  local file
  for file in script text; do
    k run --rm -v "$W/$file:/$file" box "/$file" 2>/dev/null; same "126 when the kernel refuses the $file" $? 126
  done
  k run --rm -w /etc/passwd box true 2>/dev/null; same '125 without the working directory' $? 125
  k run --rm --bad box 2>/dev/null; same '125 for a wrong flag' $? 125
  k run --rm box sh -c 'kill -9 $$; sleep 5' 2>/dev/null; same 'pid 1 does not kill itself' $? 0
  # Configs as Docker and others write them.
  local config; config() { configured "$1" >/dev/null; k run --rm configured "${@:2}"; }
  same 'WorkingDir "" is /' "$(config '{"WorkingDir":"","Cmd":["pwd"]}')" /
  same 'null is absent' "$(config '{"WorkingDir":null,"Entrypoint":null,"Env":null,"Volumes":null,"Labels":null,"User":null,"Cmd":["pwd"]}')" /
  same 'Entrypoint [""] is none' "$(config '{"Entrypoint":[""],"Cmd":["echo","cmd"]}')" cmd
  same 'an entry point may be a string' "$(config '{"Entrypoint":"echo","Cmd":"cmd"}')" cmd
  same '-w /' "$(k run --rm -w / box pwd)" /
  same 'empty flags are the defaults' "$(k run --rm -w "" -u "" -h "" --name "" --stop-signal "" box sh -c 'pwd; id -u')" $'/\n0'
  same 'an image whose HEALTHCHECK is not run is warned of' \
    "$(config '{"Cmd":["echo","x"],"Healthcheck":{"Test":["CMD","true"]}}' 2>&1; k create configured 2>&1 >/dev/null | grep -c HEALTHCHECK
      config '{"Cmd":["echo","x"],"Healthcheck":{"Test":["NONE"]}}' 2>&1)" \
    $'knarr-image: warning: configured:latest: the image\'s HEALTHCHECK is not supported, and is not run\nx\n1\nx'
  k rm -f $(k ps -aq) >/dev/null; k rmi configured >/dev/null
  refuse 'an image without a command' 'no command given' k run --rm "$(tar -C "$W/box" -c etc | k import -)"
  none 'nothing is left of containers with --rm' "$(k ps -aq)"
  k run --rm -v /big box sh -c 'head -c 1000000 /dev/zero >/big/file'
  check 'nor of their layers and volumes' soon eval '[ -z "$(ls "$W/store/trash" "$W/store/volumes/.trash" | grep -v :)" ]'
  k run --rm --cidfile "$W/cid" box true; same '--cidfile' "$(wc -c <"$W/cid")" 64
  refuse 'a --cidfile that is there' 'File exists' k run --rm --cidfile "$W/cid" box true
  same '--pull never takes what is there' "$(k run --rm --pull never box echo yes)" yes
  refuse '--pull never of what is not' 'not in the store' k run --rm --pull never nothing true
}

test_isolation() {
  same 'it sees its own processes alone' "$(k run --rm box sh -c 'set -- /proc/[0-9]*; echo $#')" 1
  same 'the kernel is ours' "$(k run --rm box uname -r)" "$(uname -r)"
  same '--hostname' "$(k run --rm -h demo box sh -c 'hostname; cat /etc/hostname; grep -c demo /etc/hosts')" $'demo\ndemo\n1'
  same '--domainname' "$(k run --rm --domainname inner box cat /proc/sys/kernel/domainname)" inner
  same 'the host name is the ID by default' "$(k run --cidfile "$W/cid2" --rm box hostname)" "$(head -c 12 "$W/cid2")"
  refuse 'the host name is not changed' 'not permitted' k run --rm box hostname other
  same 'but with SYS_ADMIN it is' "$(k run --rm --cap-add SYS_ADMIN box sh -c 'hostname other; hostname')" other
  same "Docker's capabilities" "$(k run --rm box grep CapBnd /proc/self/status)" $'CapBnd:\t00000000a80425fb'
  same '--cap-drop ALL, --cap-add one' "$(k run --rm --cap-drop ALL --cap-add CHOWN box grep CapEff /proc/self/status)" $'CapEff:\t0000000000000001'
  same 'another user has none' "$(k run --rm -u web box grep CapEff /proc/self/status)" $'CapEff:\t0000000000000000'
  same 'system calls are filtered' "$(k run --rm box grep Seccomp: /proc/self/status)" $'Seccomp:\t2'
  same '--security-opt seccomp=unconfined' "$(k run --rm --security-opt seccomp=unconfined box grep Seccomp: /proc/self/status)" $'Seccomp:\t0'
  cat >"$W/profile.json" <<'PROFILE'
{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
 "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
PROFILE
  refuse "--security-opt seccomp=FILE in Docker's format" 'not permitted' k run --rm --security-opt "seccomp=$W/profile.json" box mkdir /x
  test_calls
  same '--security-opt no-new-privileges' "$(k run --rm --security-opt no-new-privileges box grep NoNewPrivs /proc/self/status)" $'NoNewPrivs:\t1'
  refuse '--read-only' 'Read-only' k run --rm --read-only box sh -c 'echo >/x'
  same '--privileged has the devices of the host' \
    "$(k run --rm --privileged box sh -c 'for d in /dev/*; do if [ ! -L $d ] && { [ -c $d ] || [ -b $d ]; }; then echo $d; fi; done' |
      LC_ALL=C sort | md5sum)" "$(find /dev -maxdepth 1 \( -type c -o -type b \) ! -name console ! -name ptmx | LC_ALL=C sort | md5sum)"
  same '--device of a directory' "$(mkdir -p "$W/nodes/sub"; mknod "$W/nodes/a" c 1 3; mknod "$W/nodes/sub/b" c 1 5
    k run --rm --device "$W/nodes:/dev/x" box sh -c 'ls /dev/x/a /dev/x/sub/b; echo >/dev/x/a && echo written' | tr '\n' ' ')" \
    '/dev/x/a /dev/x/sub/b written '
  same '--privileged may make devices' \
    "$(k run --rm --privileged box sh -c 'mknod /tmp/k c 1 11 && echo made; grep CapBnd /proc/self/status | wc -c')" "$(printf 'made\n25')"
  k run -d --name null box sleep 100 >/dev/null
  k run --rm box sh -c 'chmod 640 /proc/self/fd/0; chown 5 /proc/self/fd/0'; k exec null sh -c 'chmod 640 /proc/self/fd/0; read x </dev/stdin || echo end'
  same "the null device of the host is not changed by way of standard input" "$(stat -Lc '%a %u' /dev/null)" '666 0'; chmod 666 /dev/null; chown 0 /dev/null
  k rm -fv null >/dev/null
  refuse 'without it /proc is masked' 'Read-only\|not permitted' k run --rm box sh -c 'echo 1 >/proc/sys/vm/drop_caches'
  same '--network none has loopback alone' "$(k run --rm box sh -c 'ls /sys/class/net')" lo
  same '--network host' "$(k run --rm --network host box sh -c 'readlink /proc/self/ns/net')" "$(readlink /proc/self/ns/net)"
  same '--network host: names are ours' "$(k run --rm --net host box cat /etc/resolv.conf | md5sum)" "$(md5sum </etc/resolv.conf)"
  local mode
  for mode in bridge default own-net; do
    refuse "--network $mode is refused with a way out" 'use host, none' k run --rm --network $mode box true
  done
  refuse '-p is refused with a way out' 'network host' k run --rm -p 80:80 box true
  same '--pid host' "$(k run --rm --pid host box readlink /proc/self/ns/pid)" "$(readlink /proc/self/ns/pid)"
  same '--uts host' "$(k run --rm --uts host box hostname)" "$(hostname)"
  same '--ipc host' "$(k run --rm --ipc host box readlink /proc/self/ns/ipc)" "$(readlink /proc/self/ns/ipc)"
  k run -d --name first box sleep 100 >/dev/null; soon runs first 'sleep 100'
  same '--network, --pid, --ipc of another container' \
    "$(k run --rm --network container:first --pid container:first --ipc container:first box \
      sh -c 'ps | grep -c [s]leep; readlink /proc/self/ns/net')" \
    "$(printf '1\n%s' "$(k exec first readlink /proc/self/ns/net)")"
  k rm -fv first >/dev/null
  same '--add-host, --dns' "$(k run --rm --add-host db:10.1.2.3 --dns 9.9.9.9 --dns-search in.side box \
    sh -c 'grep db /etc/hosts; cat /etc/resolv.conf')" $'10.1.2.3\tdb\nnameserver 9.9.9.9\nsearch in.side'
}

# How the default profile treats system calls, in all ways to make them; calls.c makes them.
test_calls() {
  echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["no_such_call","mseal"],"action":"SCMP_ACT_ERRNO"}]}' >"$W/unknown.json"
  same 'an unknown name causes a warning' "$(k run --rm --security-opt "seccomp=$W/unknown.json" box true 2>&1)" \
    'knarr-image: warning: unknown seccomp syscalls ignored: no_such_call'
  none 'the default profile has no such names' "$(k run --rm box true 2>&1)"
  refuse 'socketcall=allow is for the default profile' 'only applies to the default seccomp profile' \
    k run --rm --security-opt socketcall=allow --security-opt "seccomp=$W/profile.json" box true
  if ! gcc -static -O1 -o "$W/calls" "$HERE/calls.c" 2>/dev/null || ! "$W/calls" 1 >/dev/null 2>&1; then
    skip 'calls by their numbers: gcc or 32-bit calls of x86 are not here'; return
  fi
  c() { k run --rm -v "$W/calls:/calls:ro" "$@"; }
  # The result of an x32 call without a filter; most kernels do not support them.
  local x32; x32=$("$W/calls" 1 | cut -d' ' -f5)
  same 'AF_ALG and AF_VSOCK are denied by every way' "$(c box /calls 38 40)" \
    "$(for f in 38 40; do echo "$f: 64 EPERM x32 EPERM i386 EPERM socketcall ENOSYS"; done)"
  same 'even with SYS_ADMIN' "$(c --cap-add SYS_ADMIN box /calls 38)" '38: 64 EPERM x32 EPERM i386 EPERM socketcall ENOSYS'
  same 'AF_UNIX and AF_INET work, but for socketcall' "$(c box /calls 1 2)" \
    "$(for f in 1 2; do echo "$f: 64 ok x32 $x32 i386 ok socketcall ENOSYS"; done)"
  same '--security-opt socketcall=allow' "$(c --security-opt socketcall=allow box /calls 2 38 | cut -d' ' -f1-3,6-9)" \
    "$(printf '2: 64 ok i386 ok socketcall ok\n38: 64 EPERM i386 EPERM socketcall %s' "$("$W/calls" 38 | cut -d' ' -f9)")"
  same 'no user namespaces, no io_uring; clone3 is not there' "$(c box /calls user)" 'clone EPERM clone3 ENOSYS io_uring_setup EPERM unshare EPERM'
  same 'with SYS_ADMIN there are user namespaces' "$(c --cap-add SYS_ADMIN box /calls user)" 'clone ok clone3 EINVAL io_uring_setup EPERM unshare ok'
  same 'a call newer than libseccomp gets through' "$(c box /calls mseal)" "$("$W/calls" mseal)"
  same 'a privileged container has no filter' "$(c --privileged box /calls 38)" "$("$W/calls" 38)"
}

test_limits() {
  local v2=; [ -f /sys/fs/cgroup/cgroup.controllers ] && v2=1
  file() { if [ -n "$v2" ]; then echo "/sys/fs/cgroup/$2"; else echo "/sys/fs/cgroup/$1"; fi; }
  same '--memory' "$(k run --rm -m 64m box cat "$(file memory/memory.limit_in_bytes memory.max)")" 67108864
  k run --rm -m 16m box sh -c 'head -c 100m /dev/zero | tail >/dev/null' 2>/dev/null; same 'more memory ends in 137' $? 137
  local killed='{{.State.OOMKilled}} {{.State.ExitCode}}'
  k run --name fat -m 16m box sh -c '[ -e /again ] || { echo >/again; head -c 100m /dev/zero | tail >/dev/null; }' 2>/dev/null
  same 'State.OOMKilled' "$(k inspect --format "$killed" fat)" 'true 137'
  same 'it is about the last run' "$(k start -a fat; k inspect --format "$killed" fat)" 'false 0'
  k run -d --name part -m 16m box sh -c 'sh -c "head -c 100m /dev/zero | tail" >/dev/null 2>&1; echo went on; exec sleep 100' >/dev/null
  soon logged part 'went on'; same 'State.OOMKilled while it runs' "$(k inspect --format '{{.State.OOMKilled}} {{.State.Running}}' part)" 'true true'
  k rm -fv fat part >/dev/null
  same '--cpus' "$(k run --rm --cpus 1.5 box cat "$(file cpu/cpu.cfs_quota_us cpu.max)" | cut -d' ' -f1)" 150000
  same '--pids-limit' "$(k run --rm --pids-limit 20 box cat "$(file pids/pids.max pids.max)")" 20
  same '--cpuset-cpus' "$(k run --rm --cpuset-cpus 0 box nproc)" 1
  same '--ulimit' "$(k run --rm --ulimit nofile=100:200 box sh -c 'ulimit -n; ulimit -Hn')" $'100\n200'
  same '--shm-size' "$(k run --rm --shm-size 1m box sh -c 'df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2')" 1024
  same '--sysctl' "$(k run --rm --sysctl net.ipv4.ip_forward=1 box cat /proc/sys/net/ipv4/ip_forward)" 1
  same '--device' "$(k run --rm --device /dev/null:/dev/mine:rw box sh -c 'test -c /dev/mine && echo x >/dev/mine && echo yes')" yes
  same '--oom-score-adj' "$(k run --rm --oom-score-adj 500 box cat /proc/self/oom_score_adj)" 500
  same '--annotation, --label' "$(k create --name marked -l a=b --label c box true >/dev/null; k inspect --format '{{.Config.Labels}}' marked
    k rm -v marked)" $'map[a:b c: of:image]\nmarked'
  local bad; for bad in '-m 1x' '-m -1' '--cpus 0' '--pids-limit many' '--ulimit nofile' '--ulimit x=1' '--cap-add NOSUCH' '--shm-size 0' \
    '--sysctl x' '--stop-signal NOSIG' '--restart sometimes' '--device /no/such' '--name a/b' '-h a_b!' '--env-file /no/such' \
    '-v /no/such/directory:/x' '-v a:b' '--mount type=x,dst=/a' '--tmpfs x' '--ipc x' '--userns x' \
    '--security-opt x=y' '--security-opt socketcall=yes' '--security-opt seccomp=/no/such' '--cpuset-cpus x' '--log-driver x' \
    '--detach-keys xx' '--workdir relative' '-e =x' '--rm=perhaps' '--platform x' '--dns x'; do
    k run --rm $bad box true >/dev/null 2>"$W/said"; same "run $bad is refused" "$?:$(grep -c knarr-image: "$W/said")" 125:1
  done
  none 'and nothing is left of them' "$(k ps -aq; ls "$W/store/volumes" 2>/dev/null)"
}

test_volumes() {
  same 'a volume of the image begins as the image' "$(k run --rm box cat /data/file)" from-image
  k run --rm -v keep:/keep box sh -c 'echo kept >/keep/f'
  same 'a named volume stays' "$(k run --rm -v keep:/keep:ro box cat /keep/f)" kept
  refuse 'and may be read-only' 'Read-only' k run --rm -v keep:/keep:ro box sh -c 'echo >/keep/f'
  same 'a named volume begins as the image' "$(k run --rm -v filled:/data box cat /data/file)" from-image
  echo host >"$W/new"; same '-v of a host file' "$(k run --rm -v "$W/new:/f:ro" box cat /f)" host
  same '-v of a relative directory' "$(cd "$W" && k run --rm -v ./box:/b box cat /b/data/file)" from-image
  same '--mount' "$(k run --rm --mount "type=bind,src=$W/new,dst=/f,ro" --mount type=tmpfs,dst=/t,tmpfs-size=1m box \
    sh -c 'cat /f; df -k /t | tail -1 | tr -s " " | cut -d" " -f2')" $'host\n1024'
  same '--tmpfs' "$(k run --rm --tmpfs /scratch:size=2m,mode=700 box sh -c 'grep -c "/scratch tmpfs.*noexec.*2048k" /proc/mounts')" 1
  k run --name holder -v /own box sh -c 'echo mine >/own/f'
  same '--volumes-from' "$(k run --rm --volumes-from holder:ro box cat /own/f)" mine
  same 'volume ls' "$(k volume ls -q | grep -c .)" 4
  refuse 'a volume in use is not removed' 'in use by container' k volume rm "$(k inspect --format '{{(index .Mounts 0).Name}}' holder)"
  check 'rm -v takes what was made for it alone' k rm -v holder
  same 'and nothing else' "$(k volume ls -q)" $'filled\nkeep'
  same 'volume create, inspect, rm' "$(k volume create extra; k volume inspect --format '{{.Name}}' extra; k volume rm extra)" $'extra\nextra\nextra'
}

# What volume prune and container prune remove, and that they ask first.
test_prune() {
  k run --rm -v keep:/keep box sh -c 'echo kept >/keep/f'; k volume create filled >/dev/null
  local made; made=$(k volume create); same 'volume create makes a name' "${#made}" 64
  same 'volume create of what is there' "$(k volume create keep; k run --rm -v keep:/keep box cat /keep/f)" $'keep\nkept'
  refuse 'volume create takes one name' 'too many arguments' k volume create a1 a2
  none 'and has made none then' "$(k volume ls -q -f 'name=^a[12]$')"
  same 'volume ls -f name=' "$(k volume ls -q -f name=kee; k volume ls -q -f name=^fill; k volume ls -q -f 'name=^(keep|none)$')" $'keep\nfilled\nkeep'
  none 'and what does not match' "$(k volume ls -q -f name=tmp; k volume ls -q -f driver=nfs; k volume ls -q -f label=x)"
  k run --name user -v keep:/keep -v /own box true
  same 'volume ls -f dangling=' "$(k volume ls -q -f dangling=false | sort | tail -1) $(k volume ls -q -f dangling=true | grep -c "keep\|$made")" 'keep 1'
  printf '' | k volume prune >"$W/said"
  same 'volume prune asks, and the end of input is a no' "$? $(cat "$W/said")" \
    $'0 WARNING! This will remove anonymous local volumes not used by at least one container.\nAre you sure you want to continue? [y/N] '
  k volume prune <<<no >/dev/null; same 'nothing went' "$(k volume ls -q | grep -c "keep\|filled\|$made")" 3
  same 'volume prune takes anonymous ones that no container uses' "$(k volume prune -f)" $'Deleted Volumes:\n'"$made"$'\n\nTotal reclaimed space: 0B'
  same 'volume rm tries all' "$(k volume rm none filled keep 2>"$W/said"; echo $?; wc -l <"$W/said")" $'filled\n1\n2'
  k volume create other >/dev/null; same 'volume rm -f of none' "$(k volume rm -f none other)" $'none\nother'
  k volume inspect none keep >"$W/said" 2>/dev/null; same 'volume inspect of one that is not there' "$? $(grep -c '"Name": "keep"' "$W/said")" '1 1'
  k container prune <<<n >"$W/said"
  same 'container prune asks' "$(k ps -aq | wc -l) $(cat "$W/said")" \
    $'1 WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] '
  k run -d --name runs -l keep=1 box sleep 100 >/dev/null; k create -l keep=1 box true >/dev/null
  same 'container prune --filter label!=' \
    "$(k container prune -f --filter 'label!=keep' | sed -n 2p | wc -c; k ps -a --format '{{.State}}' | sort | tr '\n' ' ')" $'65\ncreated running '
  yes | k container prune >/dev/null; same 'yes | container prune leaves what runs' "$(k ps -a --format '{{.Names}}')" runs
  k rm -f runs >/dev/null
  same 'rm and container prune leave volumes, anonymous ones too' "$(k volume ls -q | wc -l)" 5
  k create --name other -v kept:/kept -l keep=1 box true >/dev/null
  local record; record=$(k inspect --format '{{.Id}}' other)
  record=$W/store/containers/$record/record.json
  cp "$record" "$W/record"; sed -i 's/"restart":"[^"]*"/"restart":"of another version"/' "$record"
  none 'what container and volume prune cannot read they leave' \
    "$(k container prune -f --filter label!=keep 2>/dev/null | grep "^${record:0:4}"; k volume prune -af | grep kept
      k volume ls -q -f dangling=true -f name=kept; cmp -s "$record" "$W/record" && echo unchanged; [ -e "$record" ] || echo gone)"
  refuse 'nor does volume rm take what such a container may have' 'may be in use by container' k volume rm kept
  cp "$W/record" "$record"; k rm other >/dev/null; k volume rm kept >/dev/null
  same 'volume prune with a label' "$(k volume prune -f --filter label=x)" 'Total reclaimed space: 0B'
  refuse 'volume prune --all and --filter all= at once' 'mutually exclusive' k volume prune -a --filter all=true
  same 'volume prune --all takes named ones too' "$(yes | k volume prune --all | grep -c 'all local volumes\|^keep$')" 2
  none 'all are gone' "$(k volume ls -q)"
}

# An image's mount points are data: whatever is there or leads there, directories of the host are not changed.
test_hostile_volumes() {
  mkdir -p "$W/host" "$W/evil/bin" "$W/evil/real"; echo untouched >"$W/host/canary"; echo kept >"$W/evil/real/file"
  cp "$(command -v busybox)" "$W/evil/bin/busybox"; ln -sf busybox "$W/evil/bin/sh"
  local target
  for target in "$W/host" "../../../../../../../..$W/host" /no/such/place /dev/null "/proc/self/root$W/host" data; do
    ln -sfn "$target" "$W/evil/data"
    tar -C "$W/evil" -c . | k import -c 'VOLUME /data' -c 'CMD ["busybox","sh","-c","echo bad >/data/canary; echo bad >/data/new; ls /data/"]' \
      - "evil" >/dev/null
    k run --rm evil >"$W/said" 2>&1; k run --rm -v "named:/data" evil >>"$W/said" 2>&1
    same "VOLUME and -v where the image has a link to ${target#"$W"}: the host is untouched" \
      "$(ls "$W/host"; cat "$W/host/canary"; find "$W/store/volumes" -type l)" $'canary\nuntouched'
    k volume rm named >/dev/null; k rmi evil >/dev/null
  done
  ln -sfn real "$W/evil/data"; tar -C "$W/evil" -c . | k import -c 'VOLUME /data' - evil >/dev/null
  same 'a link to a directory of the image: the volume starts with that' "$(k run --rm evil /bin/busybox cat /data/file /real/file)" $'kept\nkept'
  k rmi evil >/dev/null
  local path; for path in /real/ //real /./real /bin/../real; do
    tar -C "$W/evil" -c . | k import -c "VOLUME $path" - evil >/dev/null
    same "-v takes the place of VOLUME $path" \
      "$(k run --rm -v mine:/real evil /bin/busybox sh -c 'echo mine >/real/f; grep -c " /real " /proc/mounts'; cat "$W/store/volumes/mine/f"
        k volume rm mine >/dev/null; k rmi evil >/dev/null)" $'1\nmine'
  done
  # As left by an earlier version.
  k create --name before -v poisoned:/x box ls /x >/dev/null; rmdir "$W/store/volumes/poisoned"; ln -s "$W/host" "$W/store/volumes/poisoned"
  refuse 'a link in the place of a volume is not mounted, by containers made before' 'symbolic link to' k start -a before
  refuse 'nor by new ones' 'symbolic link to' k run --rm -v poisoned:/x box ls /x
  refuse 'nor by way of another container' 'symbolic link to' k run --rm --volumes-from before box ls /x
  k rm before >/dev/null
  none 'a prune does not take it' "$(k volume prune -a -f | grep poisoned)"
  same 'it is removed, and not what it leads to' "$(k volume rm poisoned; cat "$W/host/canary")" $'poisoned\nuntouched'
  k volume create shared >/dev/null
  k run --rm -v shared:/v box sh -c 'chown 5:6 /v; chmod 777 /v'
  k run -d --name one -v shared:/v box sh -c 'until [ -e /v/two ]; do sleep 0.1; done; echo seen >/v/one' >/dev/null
  same 'an empty volume is shared by the containers that have it' \
    "$(k run --rm -v shared:/v box sh -c 'stat -c "%u:%g %a" /v; touch /v/two; until [ -e /v/one ]; do sleep 0.1; done; cat /v/one')" $'5:6 777\nseen'
  k rm -f one >/dev/null; k volume rm shared >/dev/null
}

test_life() {
  k run --name changed box sh -c 'echo hi >/hello.txt'
  same 'only what it changed is in the diff' "$(k diff changed)" 'A /hello.txt'
  k commit changed box:2 >/dev/null; same 'a committed container' "$(k run --rm box:2 cat /hello.txt)" hi
  refuse 'a name is unique' 'already exists' k run --name changed box true
  k run -d --name user box:2 sleep 100 >/dev/null
  refuse 'the last name of an image in use is not removed' 'in use by container' k rmi box:2
  refuse 'not even by force while the container runs' 'in use by running container' k rmi -f box:2
  refuse 'nor by its ID' 'in use by running container' k rmi -f "$(k images -q box:2)"
  same 'it still has its name' "$(k images -q box:2 | wc -l)" 1
  check 'a further name is removed' eval 'k tag box:2 box:3 && k rmi box:3'
  k stop -t 0 user >/dev/null; check 'by force it is, once the container is stopped' k rmi -f box:2; k rm -v user >/dev/null
  check 'rename' k rename changed old
  check 'start again' k start -a old
  check 'rm' k rm old
  check 'run -d' k run -d --name web --stop-signal USR1 box sh -c 'trap "echo asked; exit 3" USR1; echo started; while :; do sleep 0.1; done'
  same 'ps' "$(k ps --format '{{.Names}} {{.State}} {{.Image}}')" 'web running box:latest'
  same 'ps as a table' "$(k ps | head -1 | tr -s ' ')" 'CONTAINER ID IMAGE COMMAND CREATED STATUS NAMES'
  same 'ps -q, --no-trunc' "$(k ps -q | wc -c) $(k ps -q --no-trunc | wc -c)" '13 65'
  same 'ps --filter' "$(k ps -aq --filter name=web --filter status=running | wc -l) $(k ps -aq --filter status=exited | wc -l)" '1 0'
  same 'inspect' "$(k inspect --format '{{.State.Running}} {{.Name}} {{json .Config.Cmd}} {{.HostConfig.NetworkMode}}' web | cut -c1-20)" 'true /web ["sh","-c"'
  soon logged web started
  same 'logs' "$(k logs web)" started
  same 'exec' "$(k exec -e A=b -w /tmp -u web web sh -c 'echo $A $HOME $FROM; pwd; id -u')" $'b /data image\n/tmp\n33'
  k exec web sh -c 'exit 5'; same "exec's code" $? 5
  k exec web /no/such 2>/dev/null; same 'exec of nothing' $? 127
  k exec web sh -c 'echo "#!/no/such/interpreter" >/tmp/script; chmod +x /tmp/script'
  k exec web /tmp/script 2>/dev/null; same 'exec of a script without its interpreter' $? 126
  same 'exec -i' "$(echo in | k exec -i web cat)" in
  check 'exec -d' k exec -d web sh -c 'echo made >/tmp/by-exec; exec sleep 100'
  soon runs web 'sleep 100'; same 'and it did' "$(k exec web cat /tmp/by-exec)" made
  same 'exec sees the processes' "$(k exec web ps | grep -c 'sleep 100')" 1
  same 'top' "$(k top web | grep -c 'sleep 100')" 1
  echo host >"$W/in"; k cp "$W/in" web:/tmp/in; same 'cp into a running container' "$(k cp web:/tmp/in "$W/out" && cat "$W/out")" host
  same 'export while it runs, without what is mounted' "$(k export web | tar -t | grep -c '^proc/.\|^etc/hosts\|^tmp/in$')" 1
  check 'pause' k pause web
  same 'it is paused' "$(k ps --format '{{.State}}')" paused
  refuse 'exec in a paused one' 'is paused' k exec web true
  refuse 'nor removed' 'is paused: stop it' k rm web
  check 'unpause' k unpause web
  refuse 'a running container is not removed' 'is running' k rm web
  check 'kill -s' k kill -s CONT web
  (k wait web >"$W/code") & local waiter=$!
  check 'stop sends its signal' k stop web
  wait $waiter; same 'wait prints the code' "$(cat "$W/code")" 3
  same 'it has said so' "$(k logs --tail 1 web)" asked
  same 'logs -t, --since' "$(k logs -t web | grep -c '^20.*Z started') $(k logs --since 1h web | wc -l) $(k logs --until 1h web | wc -l)" '1 2 0'
  same 'ps -a' "$(k ps -a --format '{{.Status}}' | cut -d' ' -f1,2)" 'Exited (3)'
  check 'start' k start web
  check 'restart' k restart -t 1 web
  k pause web >/dev/null; check 'kill, also of what is paused' k kill web
  same 'killed is 137' "$(k wait web)" 137
  check 'rm -f' k rm -f web
  refuse 'a removed container' 'no such container' k stop web
  check 'rm -f of nothing' k rm -f web
  check 'create, start -a' k create --name later box echo later
  same 'start -a shows it' "$(k start -a later)" later
  check 'rm it' k rm later
  soon over "$(k run -d --restart on-failure:2 --name again box sh -c 'echo x; exit 3')"
  same '--restart on-failure:2' "$(k logs again | grep -c x) $(k inspect --format '{{.RestartCount}} {{.State.Status}}' again)" '3 2 exited'
  k rm again >/dev/null
  k run -d --restart always --name ever box sh -c 'exit 1' >/dev/null; check 'stop ends --restart always' k stop ever
  sleep 0.3; same 'for good' "$(k ps -a --format '{{.State}}')" exited; k rm -f ever >/dev/null
  "$BIN" --root "$W/store" run --rm --name asked box sh -c 'trap "exit 4" TERM; echo up; while :; do sleep 0.1; done' >"$W/up" & local runner=$!
  soon grep -q up "$W/up"; kill -TERM $runner
  wait $runner; same 'signals reach the container' $? 4
  k run -d --name follow box sh -c 'sleep 0.3; seq 20000' >/dev/null
  same 'logs -f ends with what was written last' "$(k logs -f follow | tail -1)" 20000; check 'rm beside the end' k rm follow
  k run -d --name lost box sleep 100 >/dev/null
  kill -KILL "$(pgrep -f "supervise $(k ps -q --no-trunc)")"; k kill lost >/dev/null 2>&1
  check 'a container whose parent was killed can be removed' k rm -f lost
  local id; id=$(k run -d --name orphan box sh -c 'sleep 2; exit 9')
  kill -KILL "$(pgrep -f "supervise $id")"
  # Since Linux 6.15 the kernel tells it; before, nobody does.
  if k wait orphan >"$W/told" 2>&1; then same 'wait tells the status without the parent' "$(cat "$W/told")" 9
  else check 'wait says that it does not know the status without the parent' grep -q 'no exit code' "$W/told"; fi
  same 'inspect does not take it for a success' "$(k inspect --format '{{.State.Status}} {{.State.ExitCode}}' orphan)" 'exited 255'; k rm -f orphan >/dev/null
  same 'nothing is left' "$(k ps -aq; grep -c "$W" /proc/mounts)" 0
}

# Records that cannot be read, locks, and interruptions.
test_records() {
  k run -d --name well box sleep 100 >/dev/null; k create --name hurt box true >/dev/null
  local id; id=$(k inspect --format '{{.Id}}' hurt); : >"$W/store/containers/$id/record.json"
  same 'a damaged record does not stop ps' "$(k ps --format '{{.Names}}' 2>/dev/null)" well
  refuse 'which tells of it' "$id: its record is damaged" eval 'k ps 2>&1 >/dev/null; false'
  same 'nor run' "$(k run --rm -v /own box echo runs)" runs
  check 'nor exec' k exec well true
  check 'nor rm' k rm -fv well
  refuse 'prune leaves it' "$id: its record is damaged" k container prune -f
  refuse 'image prune does not know what it needs' "$id: may use any image" k prune -af
  check 'the image is still whole' k verify
  refuse 'nor is it started' 'its record is damaged' k start "$id"
  refuse 'nor removed, but by force' 'rm -f' k rm "$id"
  check 'rm -f removes it, by the beginning of its ID' k rm -f "${id:0:12}"
  none 'and all is well' "$(k ps -aq 2>&1)"
  k volume rm $(k volume ls -q) >/dev/null 2>&1
  # Another process fills the volume.
  k volume create held >/dev/null; flock "$W/store/volumes/held" sleep 100 & local holder=$!
  PIDS+=($holder); soon eval '! flock -n "$W/store/volumes/held" true'
  "$BIN" --root "$W/store" create --name waits -v held:/data --cidfile "$W/waits" box true >/dev/null 2>&1 & local waits=$!
  soon eval 'k ps -a --format "{{.Names}}" | grep -q waits'
  same 'while a volume is filled, others are created' "$(k run --rm --name other box echo runs)" runs
  refuse 'but not of the same name' 'already exists' k create --name waits box true
  refuse 'its volume is taken' 'in use by container' k volume rm held
  refuse 'it cannot be started yet' 'is being created' k start waits
  refuse 'nor removed' 'is being created' k rm waits
  refuse 'not even by force' 'is being created' k rm -f waits
  kill -TERM $waits; wait $waits; same 'Ctrl-C and SIGTERM end it' $? 143
  none 'and leave nothing' "$(k ps -aq; find "$W/waits" "$W/store/containers" -mindepth 1 2>/dev/null; ls "$W/waits" 2>/dev/null)"
  pkill -P $holder; wait $holder 2>/dev/null; k volume rm held >/dev/null
}

test_damage() {
  local layer blob; layer=$(k inspect --format '{{index .RootFS.Layers 0}}' box); layer=$W/store/layers/sha256/${layer#sha256:}/fs
  [ -d "$layer/bin" ] || { fail 'the layer is where its diffID says' "$layer"; return; }
  check 'verify' k verify
  echo changed >>"$layer/etc/passwd"; refuse 'a changed file is found' 'etc/passwd' k verify
  k run -d --name onit box sleep 60 >/dev/null
  refuse 'but is not repaired under a container' 'stop it before' k verify --repair
  k rm -f onit >/dev/null; check 'verify --repair' k verify --repair; check 'and all is well' k verify
  rm "$layer/bin/busybox"; refuse 'a missing file is found' 'bin' k verify; k verify --repair >/dev/null
  touch "$layer/etc/extra"; refuse 'a file too many is found' 'etc' k verify; k verify --repair >/dev/null
  same 'a repaired image runs' "$(k run --rm box /bin/sh -c 'ls /etc/extra 2>/dev/null; tail -1 /etc/passwd')" "$(k export box | tar xO etc/passwd | tail -1)"
  k save -o "$W/sound.tar" box; blob=$(find "$W/store/blobs" -type f -size +100k | head -1)
  chmod u+w "$blob"; printf X | dd of="$blob" bs=1 seek=1000 conv=notrunc 2>/dev/null
  refuse 'a changed blob is found' "${blob##*/}.*use --repair to remove it" k verify
  refuse 'and removed' 'pull or load' k verify --repair
  check 'load brings it back' k load -qi "$W/sound.tar"; check 'and all is well again' k verify
}

test_terminal() {
  local K="'$BIN' --root '$W/store'"
  typed 'a shell on a terminal, left with ctrl-p ctrl-q' "run:$K run -it -h demo --name t box /bin/sh" expect:# size:33,91 'send:hostname\n' \
    expect:demo 'send:stty size\n' 'expect:33 91' 'send:\x10\x11' end:0
  same 'it goes on' "$(k ps --format '{{.Names}}')" t
  typed 'attach, exit' "run:$K attach t" 'send:echo $((40+2))\n' expect:42 'send:exit 5\n' end:5
  same 'its code' "$(k ps -a --format '{{.Status}}' | cut -d' ' -f1,2)" 'Exited (5)'
  typed 'start -ai, own detach keys' "run:$K start -ai --detach-keys ctrl-a,x t" 'send:echo $((40+2))\n' expect:42 'send:\x01x' end:0
  typed 'exec -it' "run:$K exec -it t sh" 'send:tty\n' expect:/dev/pts 'send:exit 3\n' end:3
  typed 'exec -it left running' "run:$K exec -it t sh" 'send:echo $((40+2))\n' expect:42 'send:\x10\x11' end:0
  typed 'Ctrl-C is for the container' "run:$K exec -it t sh" 'send:(echo $((1+1))go; cat)\n' expect:2go 'send:\x03' expect:# \
    'send:echo $((40+2))\n' expect:42 'send:exit 6\n' end:6
  k rm -f t >/dev/null
  k run -dit --name d box sh >/dev/null
  typed 'attach to what was detached' "run:$K attach d" 'send:echo $((40+2))\n' expect:42 'send:\x10\x11' end:0
  soon logged d '^42'; same 'its log has it' "$(k logs d | grep -c '^42')" 1
  k rm -f d >/dev/null
  typed 'progress on a terminal' "run:$K save -o '$W/saved' box && $K --root '$W/other' load -i '$W/saved'" expect:'Loaded image' end:0
}

test_rootless() {
  command -v newuidmap >/dev/null && command -v setpriv >/dev/null && [ -f /etc/subuid ] && [ "$(id -u daemon)" = 1 ] ||
    { skip 'without root: newuidmap, setpriv or the user daemon is not here'; return; }
  local home=$W/home; mkdir -p "$home/run"; cp "$BIN" "$home/knarr-image"; cp "$W/box.tar" "$home/"; chmod 755 "$W"; chown -R 1:1 "$home"
  : >"$W/ranges"
  # As the user daemon, in a mount namespace with our /etc/subuid.
  cat >"$W/as" <<AS
#!/bin/bash
exec timeout --foreground -k 1 120 unshare -m --propagation private bash -c 'mount --bind $W/ranges /etc/subuid && mount --bind $W/ranges /etc/subgid
  exec env -i PATH="\$PATH" HOME=$home XDG_RUNTIME_DIR=$home/run setpriv --reuid 1 --regid 1 --clear-groups "\$@"' _ "\$@"
AS
  chmod +x "$W/as"; as() { "$W/as" "$@"; }
  if ! as unshare -Ur true 2>/dev/null; then skip 'without root: user namespaces are not allowed here'; return; fi
  u() { as "$home/knarr-image" "$@"; }
  check 'without root: import' u import -c 'CMD ["/bin/sh"]' "$home/box.tar" box
  same 'without root: the store is below HOME' "$(stat -c %u "$home/.local/share/knarr/images")" 1
  same 'without root: run with one ID' "$(u run --rm box sh -c 'id -u; cat /proc/self/uid_map | tr -s " "')" $'0\n 0 1 1'
  refuse 'without root: another user is refused with a way out' 'subuid' u run --rm -u web box true
  echo 'daemon:700000:65536' >"$W/ranges"
  rm -rf "$home/.local"; u import -c 'CMD ["/bin/sh"]' -c 'VOLUME /data' "$home/box.tar" box >/dev/null
  same 'without root: ranges of IDs' "$(u run --rm -u web box sh -c 'id -u; wc -l </proc/self/uid_map')" $'33\n2'
  same 'without root: a directory of the host' "$(u run --rm -v "$home/box.tar:/f:ro" --network host box sh -c 'test -s /f && echo yes')" yes
  check 'without root: run -d' u run -d --name web box sleep 100
  same 'without root: ps from another process' "$(u ps --format '{{.Names}} {{.State}}')" 'web running'
  same 'without root: exec' "$(u exec web sh -c 'echo $((40+2))')" 42
  check 'without root: cp' u cp "$home/box.tar" web:/tmp/x
  typed 'without root: a terminal' "run:'$W/as' '$home/knarr-image' run -it --rm box sh" expect:# 'send:tty\n' expect:/dev/ 'send:exit 4\n' end:4
  elsewhere() { as env -u XDG_RUNTIME_DIR "$home/knarr-image" "$@"; }
  same 'without root: it is found without XDG_RUNTIME_DIR' "$(elsewhere ps --format '{{.Names}} {{.State}}')" 'web running'
  same 'without root: and entered' "$(elsewhere exec web echo here)" here
  check 'without root: a second one' elsewhere run -d --name second box sleep 100
  same 'without root: and all by all' "$(u ps -q | wc -l)" 2
  check 'without root: and ended' elsewhere rm -f second
  same 'without root: cp into a volume of a stopped one' \
    "$(u create --name still -v kept:/data box cat /data/box.tar >/dev/null; u cp "$home/box.tar" still:/data/; u start -a still | md5sum)" \
    "$(md5sum <"$home/box.tar")"
  u rm still >/dev/null
  check 'without root: stop' u stop -t 0 web
  check 'without root: commit' u commit web box:2
  check 'without root: rm' u rm web
  refuse 'without root: limits need a cgroup' 'cgroup' u run --rm -m 64m box true
  same 'without root: nothing is left' "$(u ps -aq; ls "$home/run/knarr-image/attach" "$home/run/knarr-image/parents" 2>/dev/null | grep -c '^[0-9a-f]')" 0
}

[ "$(id -u)" = 0 ] || { skip 'everything: needs root'; count; exit; }
command -v busybox >/dev/null && k run --help >/dev/null 2>&1 || { skip 'everything: busybox is not here, or the command is built without run'; count; exit; }
make_image
if ! out=$(k run --rm box /bin/sh -c 'exit 0' 2>&1); then skip "everything: containers do not start here: $out"; count; exit; fi
ALL_GROUPS="process isolation limits volumes prune hostile_volumes life copy writing committing records damage terminal rootless"
for group in ${GROUPS_TO_RUN:-$ALL_GROUPS}; do "test_$group"; done
count
