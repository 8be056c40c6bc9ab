#!/bin/bash
# Interoperation: knarr-image with other tools, on real archives and a real registry.
#   interop.sh [KNARR-IMAGE]
# The other tools are those of a Debian tree at $KNARR_LAB/root (default ~/.cache/knarr-lab), entered in private namespaces, or
# of this machine; Debian's docker-registry listens on the loopback interface. Tests whose tools are missing are skipped by name.
# Every check prints one line; the last line counts them.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BIN=$(realpath "${1:-$HERE/../../../target/debug/knarr-image}")
LAB=${KNARR_LAB:-$HOME/.cache/knarr-lab}/root
. "$HERE/checks.sh"

k() { timeout -k 1 300 "$BIN" --root "$W/store" "$@"; }
# tool NAME ARGUMENTS...: runs the tool with $W at /mnt.
have() { [ -x "$LAB/usr/bin/$1" ] || [ -x "$LAB/usr/sbin/$1" ] || command -v "$1" >/dev/null; }
tool() {
  if [ -x "$LAB/usr/bin/$1" ] || [ -x "$LAB/usr/sbin/$1" ]; then
    LAB=$LAB W=$W timeout -k 5 600 unshare -m -p -f --kill-child --propagation private bash -ec '
      mount --bind "$LAB" "$LAB"; cd "$LAB"; mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys
      mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp; mount --bind "$W" mnt;
      { [ -e etc/hosts ] || : >etc/hosts; mount --bind /etc/hosts etc/hosts; } 2>/dev/null || true
      mkdir -p run/old; pivot_root . run/old; cd /; umount -l /run/old
      export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
      cd /mnt; "$@"; exit $?' _ "$@"
  else
    unshare -m --propagation private bash -ec 'mount --bind "$1" /mnt; shift; cd /mnt; "$@"; exit $?' _ "$W" "$@"
  fi
}
tree() { (cd "$1" && find . -mindepth 1 -printf '%P %y %m %U:%G %l %T@ ' \( -type f -exec sh -c 'sha256sum <"$1"' _ {} \; -o -printf '\n' \) |
  sed 's/ [0-9.]* \(.*-\)$/ \1/' | LC_ALL=C sort); }
# Names, types, modes, owners, link targets and contents; times of directories differ between tools.
listing() { (cd "$1" && find . -mindepth 1 \( -type d -printf '%P d %m %U:%G\n' -o -type l -printf '%P l %l\n' \
  -o -printf '%P %y %m %U:%G %s %Ts\n' \) | LC_ALL=C sort); }

make_rootfs() {
  mkdir -p "$W/rootfs"/{bin,etc,tmp,usr/share/doc,var/empty}
  cp /bin/true "$W/rootfs/bin/true"; ln -s true "$W/rootfs/bin/alias"; ln "$W/rootfs/bin/true" "$W/rootfs/bin/hard"
  cp -r /usr/share/perl5 "$W/rootfs/usr/share/" 2>/dev/null
  echo 'root:x:0:0::/:/bin/true' >"$W/rootfs/etc/passwd"
  chmod 1777 "$W/rootfs/tmp"; chmod 4755 "$W/rootfs/bin/true"; chown -R 12:34 "$W/rootfs/var/empty"
  mkfifo "$W/rootfs/var/pipe"; printf x >"$W/rootfs/usr/share/doc/$(printf 'n%.0s' {1..200})"
}

test_command() {
  check 'import' k import -c 'CMD ["/bin/true"]' -c 'ENV A=b' "$W/rootfs.tar" app:1
  same 'images lists it' "$(k images --format '{{.Repository}}:{{.Tag}}')" app:1
  same 'inspect finds the config' "$(k inspect --format '{{json .Config.Cmd}} {{.Config.Env}}' app:1)" '["/bin/true"] [A=b]'
  ID=$(k inspect --format '{{.Id}}' app:1)
  check 'tag' k tag app:1 other/name:2
  same 'images -q shows one image once' "$(k images -q)" "${ID:7:12}"
  refuse 'rmi by ID of an image with two names' 'has 2 tags' k rmi "${ID:7:12}"
  check 'rmi by name' k rmi other/name:2
  check 'create' k create --name c1 app:1
  echo new >"$W/new"
  check 'cp into a container' k cp "$W/new" c1:/etc/new
  check 'cp out of a container' k cp c1:/etc/new "$W/back"
  check 'another container' k create --name c2 app:1
  mkdir -p "$W/stream/tmp" && echo streamed >"$W/stream/tmp/s" && tar -C "$W/stream" -cz tmp/s >"$W/stream.tgz"
  check 'cp of a tar into it' k cp - c2:/ <"$W/stream.tgz"
  same 'its file is there, in a directory that stays as it was' "$(k cp c2:/tmp - | tar tv | awk '{print $1, $6}')" $'drwxrwxrwt tmp/\n-rw-r--r-- tmp/s'
  refuse 'cp of a tar onto a file' 'must be a directory' k cp - c2:/tmp/s <"$W/stream.tgz"
  check 'it goes' k rm c2
  same 'cp keeps content' "$(cat "$W/back")" new
  same 'diff' "$(k diff c1)" $'C /etc\nA /etc/new'
  check 'commit' k commit -m remark -c 'USER 5' c1 app:2
  same 'history' "$(k history --format '{{.Comment}}' app:2 | head -1)" remark
  k create --name c2 app:1 >/dev/null
  check 'export' k export -o "$W/export.tar" c2
  mkdir "$W/exported" && tar -C "$W/exported" -xpf "$W/export.tar"
  same 'export is what was imported' "$(listing "$W/exported" | md5sum)" "$(listing "$W/rootfs" | md5sum)"
  mkdir -p "$W/view"
  check 'mount' k mount app:1 "$W/view"
  same 'a mounted image is what was imported' "$(listing "$W/view" | md5sum)" "$(listing "$W/rootfs" | md5sum)"
  umount "$W/view"
  refuse 'rmi of an image in use' 'in use by container' k rmi app:1
  check 'rm' k rm c1 c2
  check 'verify' k verify
  refuse 'an unknown flag' 'unknown flag' k images --nonsense
  refuse 'an unknown image' 'not in the store' k history nothing
  check 'completion parses' bash -n <(k completion bash)
  same 'prune keeps named images' "$(k prune -f | tail -1)" 'Total reclaimed space: 0B'
}

test_skopeo() {
  have skopeo || { skip 'skopeo: is not here'; return; }
  local digest
  check 'save as an OCI layout' k save --format oci-dir -o "$W/layout" app:2
  digest=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["manifests"][0]["digest"])' "$W/layout/index.json")
  check 'save with the layers of the store' k save --compression-format none --format oci-dir -o "$W/plain" app:2
  same 'skopeo finds the digest of the store' "$(tool skopeo inspect --format '{{.Digest}}' oci:plain:2 2>&1)" \
    "$(k inspect --format '{{.ManifestDigest}}' app:2)"
  check 'save with zstd' k save --compression-format zstd --format oci-dir -o "$W/zstd-layout" app:2
  check 'skopeo unpacks our zstd' tool skopeo copy -q oci:zstd-layout:2 docker-archive:zstd.tar:x:1
  check 'save as an OCI archive' k save --format oci-archive -o "$W/oci.tar" app:2
  check 'save as a docker-archive' k save -o "$W/docker.tar" app:2
  same 'skopeo reads our layout with an equal digest' "$(tool skopeo inspect --format '{{.Digest}}' oci:layout:2 2>&1)" "$digest"
  check 'skopeo copies our archive' tool skopeo copy -q --preserve-digests oci-archive:oci.tar:2 oci:from-skopeo:app
  same 'skopeo keeps our digest' "$(tool skopeo inspect --format '{{.Digest}}' oci:from-skopeo:app 2>&1)" "$digest"
  check 'skopeo reads our docker-archive' tool skopeo inspect docker-archive:docker.tar
  check 'skopeo writes a docker-archive' tool skopeo copy -q oci:layout:2 docker-archive:skopeo.tar:docker.io/library/fromskopeo:1
  for archive in from-skopeo skopeo.tar; do check "load what skopeo wrote: $archive" k load -qi "$W/$archive"; done
  same 'the ID survives a docker-archive' "$(k inspect --format '{{.Id}}' fromskopeo:1)" "$(k inspect --format '{{.Id}}' app:2)"
  check 'skopeo compresses with zstd' tool skopeo copy -q --dest-compress-format zstd oci:layout:2 oci:zstd:1
  check 'load zstd layers' k load -qi "$W/zstd"
  check 'skopeo compresses with zstd:chunked' tool skopeo copy -q --dest-compress-format zstd:chunked oci:layout:2 oci:chunked:1
  check 'load zstd:chunked layers' k load -qi "$W/chunked"
}

test_umoci() {
  have umoci || { skip 'umoci: is not here'; return; }
  k save --format oci-dir -o "$W/umoci" app:2
  check 'umoci unpacks our layout' tool umoci unpack --image umoci:2 bundle
  k mount app:2 "$W/view" >/dev/null
  same 'umoci and we unpack the same' "$(listing "$W/bundle/rootfs" | md5sum)" "$(listing "$W/view" | md5sum)"
  umount "$W/view"
  echo more >"$W/bundle/rootfs/etc/more"; rm -r "$W/bundle/rootfs/usr/share/doc"
  check 'umoci writes a layer' tool umoci repack --image umoci:3 bundle
  rm -rf "$W/one" && tool skopeo copy -q oci:umoci:3 oci:one:3
  local id; id=$(k load -qi "$W/one" | sed -n 's/.*ID: //p')
  check 'load what umoci wrote' test -n "$id"
  k mount "$id" "$W/view" >/dev/null
  same 'its whiteouts and files count' "$(cat "$W/view/etc/more"; ls "$W/view/usr/share" | grep -c doc)" $'more\n0'
  umount "$W/view"
}

PODMAN='--root /mnt/podman --runroot /run/podman --storage-driver vfs'
test_podman() {
  have podman || { skip 'podman: is not here'; return; }
  local id; id=$(k inspect --format '{{.Id}}' app:2)
  check 'podman loads our docker-archive' tool podman $PODMAN load -qi docker.tar
  same 'podman has our ID' "$(tool podman $PODMAN image inspect --format '{{.Id}}' app:2)" "${id:7}"
  check 'podman loads our OCI archive' tool podman $PODMAN load -qi oci.tar
  check 'podman saves docker-archive' tool podman $PODMAN save -q -o podman.tar app:2
  check 'podman saves oci-archive' tool podman $PODMAN save -q --format oci-archive -o podman-oci.tar app:2
  k rmi -f app:2 >/dev/null
  check 'load podman docker-archive' k load -qi "$W/podman.tar"
  same 'the ID survives podman' "$(k inspect --format '{{.Id}}' app:2)" "$id"
  check 'load podman oci-archive' k load -qi "$W/podman-oci.tar"
  check 'load from a pipe' bash -c "cat '$W/podman.tar' | '$BIN' --root '$W/store' load -q"
}

test_buildah() {
  have buildah || { skip 'buildah: is not here'; return; }
  check 'buildah builds on our image' tool bash -ec "c=\$(buildah $PODMAN from docker-archive:/mnt/docker.tar)
    buildah $PODMAN copy -q \$c /mnt/new /etc/built
    buildah $PODMAN commit -q \$c oci-archive:/mnt/buildah.tar:docker.io/library/built:1"
  check 'load what buildah wrote' k load -qi "$W/buildah.tar"
  k mount built:1 "$W/view" >/dev/null && same 'its file is there' "$(cat "$W/view/etc/built")" new
  umount "$W/view" 2>/dev/null
}

test_containerd() {
  have ctr || { skip 'containerd: is not here'; return; }
  tool bash -c 'mkdir -p /mnt/containerd; containerd --root /mnt/containerd --state /run/containerd >/mnt/containerd.log 2>&1 &
    for i in $(seq 300); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
    # ctr 2.1 may exit before it has written everything: the end of an archive is a kilobyte of zeros.
    whole() { ctr image export --platform linux/amd64 /mnt/ctr.tar docker.io/library/app:2 && [ -z "$(tail -c 1024 /mnt/ctr.tar | tr -d "\\0")" ]; }
    ctr image import --no-unpack --platform linux/amd64 /mnt/docker.tar && ctr image ls -q && { whole || whole || whole; }
    code=$?; kill %1; wait; exit $code' >"$W/ctr.out" 2>&1
  if [ $? = 0 ]; then pass 'containerd imports and exports our archive'
  else fail 'containerd imports and exports our archive' "$(cat "$W/ctr.out")"; return; fi
  check 'load what containerd wrote' k load -qi "$W/ctr.tar"
}

test_docker() {
  have dockerd || { skip 'docker: is not here'; return; }
  tool bash -c 'mkdir -p /mnt/docker
    dockerd --data-root /mnt/docker --exec-root /run/docker --iptables=false --ip6tables=false --bridge=none --storage-driver vfs \
      >/mnt/dockerd.log 2>&1 &
    for i in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
    docker load -qi /mnt/docker.tar && docker image inspect --format "{{.Id}}" app:2 && docker save -o /mnt/dockersave.tar app:2; code=$?
    kill %1; wait; exit $code' >"$W/docker.out" 2>&1
  if [ $? = 0 ]; then pass 'docker loads and saves our archive'
  else fail 'docker loads and saves our archive' "$(cat "$W/docker.out"; tail -3 "$W/dockerd.log")"; return; fi
  check 'load what docker wrote' k load -qi "$W/dockersave.tar"
}

test_registry() {
  command -v docker-registry >/dev/null && command -v htpasswd >/dev/null || { skip 'docker-registry or htpasswd: is not here'; return; }
  local port; port=$(free_ports 1); local host=localhost:$port
  mkdir -p "$W/registry" "$W/certs/$host"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=CA:FALSE -keyout "$W/key.pem" -out "$W/cert.pem" 2>/dev/null
  cp "$W/cert.pem" "$W/certs/$host/ca.crt"
  htpasswd -Bbc "$W/htpasswd" user secret 2>/dev/null
  cat >"$W/registry.yml" <<YML
version: 0.1
storage: {filesystem: {rootdirectory: $W/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port", tls: {certificate: $W/cert.pem, key: $W/key.pem}}
auth: {htpasswd: {realm: test, path: $W/htpasswd}}
YML
  docker-registry serve "$W/registry.yml" >"$W/registry.log" 2>&1 & PIDS+=($!)
  answers "https://$host/v2/"
  local trust=(--cert-dir "$W/certs") creds=(--creds user:secret)
  refuse 'a certificate of an unknown authority' 'certificate' k push -q "${creds[@]}" app:2 "$host/a:1"
  refuse 'no credentials' 'HTTP 401' k push -q "${trust[@]}" app:2 "$host/a:1"
  refuse 'wrong credentials' 'HTTP 401' k push -q "${trust[@]}" --creds user:wrong app:2 "$host/a:1"
  check 'push over TLS with a password' k push -q "${trust[@]}" "${creds[@]}" app:2 "$host/a:1"
  local pushed; pushed=$(k push "${trust[@]}" "${creds[@]}" app:2 "$host/a:1" 2>/dev/null | sed 's/.*digest: \([^ ]*\) .*/\1/')
  check 'push without checking certificates' k push -q --tls-verify=false "${creds[@]}" app:2 "$host/a:2"
  check 'push in pieces' k push -q "${trust[@]}" "${creds[@]}" --chunk 100000 app:1 "$host/pieces:1"
  printf '{"auths":{"%s":{"auth":"%s"}}}' "$host" "$(printf user:secret | base64)" >"$W/auth.json"
  same 'pull with an auth file' "$(k pull -q "${trust[@]}" --authfile "$W/auth.json" "$host/a:1")" "$host/a:1"
  same 'a pull brings back the same image' "$(k inspect --format '{{.Id}} {{.ManifestDigest}}' "$host/a:1")" \
    "$(k inspect --format '{{.Id}}' app:2) $pushed"
  mkdir -p "$W/helpers"
  printf '#!/bin/sh\nread server\n%s\n' \
    "[ \"\$server\" = $host ] && echo '{\"ServerURL\":\"$host\",\"Username\":\"user\",\"Secret\":\"secret\"}'" >"$W/helpers/docker-credential-test"
  chmod +x "$W/helpers/docker-credential-test"
  printf '{"credHelpers":{"%s":"test"}}' "$host" >"$W/helper.json"
  check 'pull with a credential helper' env PATH="$W/helpers:$PATH" "$BIN" --root "$W/pulled" pull -q "${trust[@]}" --authfile "$W/helper.json" "$host/a:1"
  check 'a pulled store verifies' "$BIN" --root "$W/pulled" verify
  same 'tags' "$(k tags "${trust[@]}" "${creds[@]}" "$host/a" | sort | tr "\n" " ")" "1 2 "
  check 'push --all-tags' k push -q -a "${trust[@]}" "${creds[@]}" "$host/a"
  same 'pull --all-tags' "$("$BIN" --root "$W/all" pull -q -a "${trust[@]}" "${creds[@]}" "$host/a" | sort | tr "\n" " ")" "$host/a:1 $host/a:2 "
  refuse 'of one tag' 'must not have a tag or digest' k pull -a "${trust[@]}" "${creds[@]}" "$host/a:1"
  same 'search a registry' "$(k search "${trust[@]}" "${creds[@]}" --format '{{.Name}}' "$host/piec")" "$host/pieces"
  same 'inspect from afar' "$(k inspect --remote "${trust[@]}" "${creds[@]}" --format '{{.Id}}' "$host/a:1")" "$(k inspect --format '{{.Id}}' app:2)"
  k tag app:2 "$host/a:1"
  check 'a second repository' k push -q "${trust[@]}" "${creds[@]}" app:2 "$host/mounted:1"
  check 'it was mounted, not sent' soon grep -q 'mount=sha256' "$W/registry.log"
  refuse 'a missing image' 'HTTP 404' k pull -q "${trust[@]}" "${creds[@]}" "$host/nothing"
  if have skopeo; then
    same 'skopeo finds what we pushed' \
      "$(tool skopeo inspect --tls-verify=false --creds user:secret --format '{{.Digest}}' "docker://$host/a:1" 2>&1)" \
        "$pushed"
    tool skopeo copy -q --dest-tls-verify=false --dest-creds user:secret oci:zstd:1 "docker://$host/byskopeo:1" >/dev/null 2>&1
    check 'pull what skopeo pushed' k pull -q "${trust[@]}" "${creds[@]}" "$host/byskopeo:1"
  fi
}

[ "$(id -u)" = 0 ] || { skip 'everything: needs root'; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
make_rootfs
tar -C "$W/rootfs" --sort=name -cpf "$W/rootfs.tar" .
for group in ${GROUPS_TO_RUN:-command skopeo umoci podman buildah containerd docker registry}; do "test_$group"; done
check 'all that was loaded verifies' k verify
count
