#!/bin/bash
# The steps of a beginner's workshop on containers, with knarr-image only: those about processes, images and layers. Networks,
# builds and compose need an engine that uses knarr.
#   workshop.sh [KNARR-IMAGE]
# There is no network: the image that is pulled is built here, and pulled from a registry on this machine if there is one.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BIN=$(realpath "${1:-$HERE/../../../target/debug/knarr-image}")
. "$HERE/checks.sh"

export KNARR_IMAGE_ROOT=$W/store HOME=$W; unset DOCKER_CONFIG REGISTRY_AUTH_FILE
mkdir -p "$W/bin"; ln -s "$BIN" "$W/bin/knarr-image"; PATH=$W/bin:$PATH
k() { timeout -k 1 120 knarr-image "$@"; }
before_cleanup() { k rm -f $(k ps -aq) >/dev/null 2>&1; }
logged() { k logs "$1" | grep -q "$2"; }
both_sleep() { [ "$(k top os | grep -cE 'sleep 30[01]$')" = 2 ]; }
typed() { local name=$1; shift; check "$name" timeout -k 1 300 python3 "$HERE/typed.py" "$@"; }

first_image() {
  mkdir -p "$W/root"/{bin,etc,tmp,root,proc}; cp "$(command -v busybox)" "$W/root/bin/busybox"
  local applet; for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$W/root/bin/$applet"; done
  echo 'root:x:0:0::/root:/bin/sh' >"$W/root/etc/passwd"
  check 'import a root file system' sh -c "tar -C '$W/root' -c . | knarr-image import -c 'CMD [\"/bin/sh\"]' - alpine:3.4"
}

what_a_container_is() {
  same 'the kernel is shared' "$(k run --rm alpine:3.4 uname -r)" "$(uname -r)"
  same 'ps sees its own alone' "$(k run --rm alpine:3.4 ps | grep -vc PID)" 1
  same 'a chroot on steroids' "$(k run --rm alpine:3.4 ls / | tr '\n' ' ')" 'bin dev etc proc root sys tmp '
  if k run -d --name os --init alpine:3.4 sh -c 'sleep 300 & sleep 301 & wait' >/dev/null 2>"$W/said"; then
    check 'an OS container runs many' soon both_sleep; k rm -f os >/dev/null
  elif grep -q 'knarr-init not found' "$W/said"; then skip '--init: knarr-init is not built here'
  else fail 'an OS container runs many' "$(cat "$W/said")"; fi
}

first_dive() {
  typed 'run -it, look around, leave with Ctrl-p Ctrl-q' 'run:knarr-image run -it -h demo --name dive alpine:3.4 /bin/sh' expect:# \
    'send:hostname\n' expect:demo 'send:\x10\x11' end:0
  same 'ps -q' "$(k ps -q | wc -l)" 1
  typed 'attach again, exit' 'run:knarr-image attach dive' 'send:exit\n' end:0
  none 'ps' "$(k ps -q)"
  same 'ps -a' "$(k ps -a --format '{{.Names}} {{.State}}')" 'dive exited'
  check 'rm' k rm dive
}

zombies() {
  local out orphan='orphan=$(sh -c "sleep 0.1 >/dev/null & echo \$!"); for i in $(seq 300); do [ -e /proc/$orphan ] || break; sleep 0.1; done'
  out=$(k run --rm --init alpine:3.4 sh -c "$orphan"'; [ -e /proc/$orphan ] || echo reaped; cat /proc/1/comm' 2>&1)
  if grep -q 'knarr-init not found' <<<"$out"; then skip 'zombies: knarr-init is not built here'; return; fi
  same 'a first process that reaps' "$out" $'reaped\ninit'
}

copy_on_write() {
  k run --name cow alpine:3.4 sh -c 'echo hi >hello.txt'
  k commit cow cow:1 >/dev/null
  same 'the file is still there after start' \
    "$(k start -a cow; k cp cow:/hello.txt - 2>/dev/null | head -c 0; k export cow | tar -xO ./hello.txt hello.txt 2>/dev/null)" hi
  refuse 'another container does not have it' 'No such file' k run --rm alpine:3.4 cat /hello.txt
  k rm cow >/dev/null
}

capabilities_and_limits() {
  refuse 'hostname hello is refused' 'not permitted' k run --rm alpine:3.4 hostname hello
  same 'with --cap-add=SYS_ADMIN it works' "$(k run --rm --cap-add=SYS_ADMIN alpine:3.4 sh -c 'hostname hello; hostname')" hello
  k run --rm -m 16m alpine:3.4 sh -c 'head -c 100m /dev/zero | tail >/dev/null' 2>/dev/null; same 'a limit of memory' $? 137
  refuse 'a limit of processes' "can't fork" k run --rm --pids-limit 4 alpine:3.4 sh -c 'for i in 1 2 3 4 5 6; do sleep 100 & done'
  check 'a limit of processors' k run --rm --cpus 0.5 alpine:3.4 true
}

life_cycle() {
  check 'run -d --name' k run -d --name life alpine:3.4 sh -c 'echo said; exec sleep 1000'
  check 'pause' k pause life; check 'unpause' k unpause life
  same 'exec … ps faux' "$(k exec life ps | grep -c 'sleep 1000')" 1
  typed 'exec -ti … sh' 'run:knarr-image exec -ti life sh' 'send:echo $((6*7))\n' expect:42 'send:exit\n' end:0
  soon logged life said; same 'logs' "$(k logs life)" said
  same 'inspect a container' "$(k inspect --format '{{.State.Status}} {{.Config.Image}}' life)" 'running docker.io/library/alpine:3.4'
  check 'stop' k stop -t 0 life; check 'start' k start life; check 'kill' k kill life; check 'rm -v' k rm -v life
  k run -d alpine:3.4 sleep 100 >/dev/null; k run -d alpine:3.4 sleep 100 >/dev/null
  check 'rm -f of all' k rm -f $(k ps -aq)
  none 'all are gone' "$(k ps -aq)"
}

images() {
  same 'images' "$(k images --format '{{.Repository}}:{{.Tag}}' | sort | tr '\n' ' ')" 'alpine:3.4 cow:1 '
  check 'tag' k tag alpine:3.4 example.org/team/alpine:mine
  same 'names are completed' "$(k inspect --format '{{.Id}}' docker.io/library/alpine:3.4)" "$(k inspect --format '{{.Id}}' example.org/team/alpine:mine)"
  same 'history' "$(k history --format '{{.Comment}}' cow:1 | wc -l)" 2
  same 'layers are differences' "$(k inspect --format '{{len .RootFS.Layers}}' cow:1)" 2
  check 'rmi' k rmi example.org/team/alpine:mine
  k create --name holds cow:1 >/dev/null; refuse 'rmi of what is used' 'in use by container' k rmi cow:1
  check 'rmi -f' k rmi -f cow:1; check 'rm' k rm holds
}

move_and_keep() {
  k run --name hello alpine:3.4 sh -c 'echo hi >/hello.txt'
  check 'export -o' k export -o "$W/hello.tar" hello
  mkdir "$W/flat"; check 'tar xf' tar -C "$W/flat" -xf "$W/hello.tar"
  same 'its file' "$(cat "$W/flat/hello.txt")" hi
  check 'commit' k commit hello hello:1
  check 'save' k save -o "$W/saved.tar" hello:1; check 'rmi' k rmi hello:1; check 'load' k load -i "$W/saved.tar"
  same 'it runs' "$(k run --rm hello:1 cat /hello.txt)" hi
  check 'import' k import "$W/hello.tar" flat:1
  check 'cp out' k cp hello:/hello.txt "$W/out.txt"; echo changed >"$W/out.txt"; check 'cp in' k cp "$W/out.txt" hello:/hello.txt
  same 'cp works in both directions' "$(k export hello | tar -xO hello.txt)" changed
  k rm hello >/dev/null
}

volumes() {
  k run --name data -v /app alpine:3.4 sh -c 'echo kept >/app/f'
  same '--volumes-from' "$(k run --rm --volumes-from data alpine:3.4 cat /app/f)" kept
  same '-v $(pwd):/share' "$(cd "$W/flat" && k run --rm -v "$(pwd):/share" alpine:3.4 cat /share/hello.txt)" hi
  check 'volume create' k volume create shared
  same 'volume ls' "$(k volume ls -q | grep -cx shared)" 1
  k run --rm -v shared:/s alpine:3.4 sh -c 'echo stays >/s/f'
  same 'data is kept when containers go' "$(k run --rm -v shared:/s alpine:3.4 cat /s/f)" stays
  k rm -v data >/dev/null; k volume rm shared >/dev/null
}

own_registry() {
  command -v docker-registry >/dev/null || { skip 'an own registry: docker-registry is not here'; return; }
  local port; port=$(free_ports 1)
  printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$W" "$port" >"$W/registry.yml"
  docker-registry serve "$W/registry.yml" >"$W/registry.log" 2>&1 & PIDS+=($!)
  answers "http://localhost:$port/v2/"
  k tag alpine:3.4 "localhost:$port/mine:1"
  check 'push' k push -q "localhost:$port/mine:1"
  check 'rmi of both names' k rmi alpine:3.4 "localhost:$port/mine:1"
  same 'run pulls what is not there' "$(k run --rm "localhost:$port/mine:1" echo pulled 2>/dev/null)" pulled
  same 'search' "$(k search --format '{{.Name}}' "localhost:$port/min")" "localhost:$port/mine"
}

[ "$(id -u)" = 0 ] || { skip 'everything: needs root'; count; exit; }
command -v busybox >/dev/null && k run --help >/dev/null 2>&1 || { skip 'everything: busybox is not here, or the command is built without run'; count; exit; }
first_image
if ! out=$(k run --rm alpine:3.4 true 2>&1); then skip "everything: containers do not start here: $out"; count; exit; fi
for theme in what_a_container_is first_dive zombies copy_on_write capabilities_and_limits life_cycle images move_and_keep volumes own_registry; do $theme; done
count
