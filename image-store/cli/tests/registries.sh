#!/bin/bash
# Configurations of registries: tokens, login and logout, registries.conf, hosts.toml, client certificates, search.
#   registries.sh [KNARR-IMAGE]
# Debian's docker-registry and a test token server listen on the loopback interface. Every check prints one line.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BIN=$(realpath "${1:-$HERE/../../../target/debug/knarr-image}")
. "$HERE/checks.sh"

export HOME=$W/home XDG_RUNTIME_DIR=$W/run; unset DOCKER_CONFIG REGISTRY_AUTH_FILE XDG_CONFIG_HOME CONTAINERS_REGISTRIES_CONF
mkdir -p "$HOME" "$W/run"
k() { timeout -k 1 120 "$BIN" --root "$W/store" "$@"; }
fresh() { rm -rf "$W/other"; timeout -k 1 120 "$BIN" --root "$W/other" "$@"; }

# serve NAME PORT TLS AUTH: starts a registry with its own directory.
serve() {
  cat >"$W/$1.yml" <<YML
version: 0.1
storage: {filesystem: {rootdirectory: $W/registry-$1}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$2"$3}
$4
YML
  mkdir -p "$W/registry-$1"
  docker-registry serve "$W/$1.yml" >"$W/$1.log" 2>&1 & PIDS+=($!)
}

make_keys() {
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -addext basicConstraints=critical,CA:TRUE -keyout "$W/key.pem" -out "$W/cert.pem" 2>/dev/null
  openssl req -newkey rsa:2048 -nodes -subj /CN=us -keyout "$W/client.key" -out "$W/client.csr" 2>/dev/null
  printf 'extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\nsubjectAltName=DNS:us\n' >"$W/client.ext"
  openssl x509 -req -in "$W/client.csr" -CA "$W/cert.pem" -CAkey "$W/key.pem" -CAcreateserial -days 2 -extfile "$W/client.ext" -out "$W/client.cert" 2>/dev/null
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=CA:FALSE -keyout "$W/server.key" -out "$W/server.pem" 2>/dev/null
}

trust() { mkdir -p "$HOME/.config/containers/certs.d/$1"; cp "$2" "$HOME/.config/containers/certs.d/$1/ca.crt"; }

test_tokens() {
  local port tokens how; how=${1:-}; read -r port tokens < <(free_ports 2)
  local host=localhost:$port
  : >"$W/grants.log"
  python3 "$HERE/token_server.py" "$tokens" "$W/server.pem" "$W/server.key" "$W/cert.pem" "$W/key.pem" "$W/grants.log" $how & PIDS+=($!)
  serve "tokens$how" "$port" ", tls: {certificate: $W/server.pem, key: $W/server.key}" \
    "auth: {token: {realm: \"https://localhost:$tokens/token\", service: tests, issuer: test, rootcertbundle: $W/cert.pem}}"
  answers "https://$host/v2/"; answers "https://localhost:$tokens/"; : >"$W/grants.log"
  trust "$host" "$W/server.pem"; trust "localhost:$tokens" "$W/server.pem"
  local name="tokens${how:+ of OAuth2 alone}"
  refuse "$name: no credentials" 'HTTP 40[15]' k push -q box "$host/a:1"
  refuse "$name: wrong credentials" 'HTTP 401' k push -q --creds user:wrong box "$host/a:1"
  check "$name: push" k push -q --creds user:secret box "$host/a:1"
  check "$name: pull" fresh pull -q --creds user:secret "$host/a:1"
  if [ -n "$how" ]; then
    same "$name: the password is granted one" "$(grep -c '^POST password' "$W/grants.log")" "$(grep -cv refused "$W/grants.log")"
  else
    same "$name: scopes are asked for" "$(grep -c 'GET repository:a:pull,push' "$W/grants.log")" 1
    printf '{"auths":{"%s":{"identitytoken":"refresh-me"}}}' "$host" >"$W/identity.json"
    check "$name: a refresh token" fresh pull -q --authfile "$W/identity.json" "$host/a:1"
    same "$name: was used" "$(tail -1 "$W/grants.log")" 'POST refresh_token'
    refuse "$name: login with a wrong password" 'HTTP 401' k login -u user -p wrong "$host"
    none "$name: keeps nothing then" "$(ls "$HOME/.docker" 2>/dev/null)"
    same "$name: login" "$(echo secret | k login -u user --password-stdin "$host" 2>/dev/null)" 'Login Succeeded'
    same "$name: the file is ours alone" "$(stat -c %a "$HOME/.docker/config.json")" 600
    same "$name: --get-login" "$(k login --get-login "$host")" user
    check "$name: pull with what login kept" fresh pull -q "$host/a:1"
    check "$name: logout" k logout "$host"
    refuse "$name: and then it is refused" 'HTTP 401' fresh pull -q "$host/a:1"
    mkdir -p "$W/helpers"
    cat >"$W/helpers/docker-credential-test" <<HELPER
#!/bin/sh
case \$1 in
  store) cat >$W/kept ;;
  get) cat $W/kept 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
  erase) rm $W/kept ;;
esac
HELPER
    chmod +x "$W/helpers/docker-credential-test"; echo '{"credsStore":"test"}' >"$HOME/.docker/config.json"
    check "$name: login with a helper" env PATH="$W/helpers:$PATH" "$BIN" login -u user -p secret "$host"
    same "$name: no password in the file" "$(cat "$HOME/.docker/config.json")" '{"credsStore":"test"}'
    check "$name: pull with the helper" env PATH="$W/helpers:$PATH" "$BIN" --root "$W/helped" pull -q "$host/a:1"
    check "$name: logout of the helper" env PATH="$W/helpers:$PATH" "$BIN" logout "$host"
    none "$name: it has forgotten" "$(cat "$W/kept" 2>/dev/null)"
    rm "$HOME/.docker/config.json"
  fi
}

test_client_certificates() {
  local port; port=$(free_ports 1); local host=localhost:$port directory=$HOME/.config/containers/certs.d/localhost:$port
  serve clients "$port" ", tls: {certificate: $W/server.pem, key: $W/server.key, clientcas: [$W/cert.pem]}" ''
  answers "https://$host/v2/" --cert "$W/client.cert" --key "$W/client.key"; trust "$host" "$W/server.pem"
  refuse 'a registry that requires a client certificate' 'GET\|HEAD\|POST' k push -q box "$host/a:1"
  cp "$W/client.cert" "$W/client.key" "$directory/"
  check 'a client certificate in certs.d' k push -q box "$host/a:1"
  rm "$directory"/*
  printf 'server = "https://%s"\nca = "%s/server.pem"\nclient = ["%s/client.cert", "%s/client.key"]\n' "$host" "$W" "$W" "$W" >"$directory/hosts.toml"
  check 'a client certificate in hosts.toml' fresh pull -q "$host/a:1"
  echo nonsense >"$W/broken.key"; sed -i "s/client.key/broken.key/" "$directory/hosts.toml"
  refuse 'an invalid key' 'private key' fresh pull -q "$host/a:1"
}

# What `openssl req -x509` creates, usual for private registries: a self-signed certificate that is marked as a CA certificate.
make_expired() {
  printf '%s\n' '[ca]' default_ca=c '[c]' "database=$W/self/db" "new_certs_dir=$W/self" "serial=$W/self/serial" default_md=sha256 policy=p \
    x509_extensions=e '[p]' CN=supplied '[e]' subjectAltName=DNS:localhost basicConstraints=critical,CA:TRUE >"$W/self/conf"
  : >"$W/self/db"; openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout "$W/self/expired.key" -out "$W/self/expired.csr" 2>/dev/null
  openssl ca -batch -selfsign -rand_serial -config "$W/self/conf" -in "$W/self/expired.csr" -keyfile "$W/self/expired.key" \
    -startdate 200101000000Z -enddate 210101000000Z -out "$W/self/expired.crt" -notext 2>/dev/null
}
test_self_signed() {
  local port host directory kind; mkdir "$W/self"
  make() { openssl req -x509 -newkey "$2" ${3:-} -nodes -subj /CN=registry ${4:--days 2} \
    -addext "subjectAltName=${5:-DNS:localhost,IP:127.0.0.1}" -keyout "$W/self/$1.key" -out "$W/self/$1.crt" 2>/dev/null; }
  make rsa rsa:2048; make ec ec "-pkeyopt ec_paramgen_curve:prime256v1"; make other rsa:2048; make name rsa:2048 '' '' DNS:registry.example
  make_expired
  printf 'subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:TRUE\n' >"$W/self/ext"
  openssl req -newkey rsa:2048 -nodes -subj /CN=leaf -keyout "$W/self/signed.key" -out "$W/self/signed.csr" 2>/dev/null
  openssl x509 -req -in "$W/self/signed.csr" -CA "$W/self/other.crt" -CAkey "$W/self/other.key" -CAcreateserial -days 2 \
    -extfile "$W/self/ext" -out "$W/self/signed.crt" 2>/dev/null
  for kind in rsa ec name expired signed; do
    port=$(free_ports 1) host=localhost:$port directory=$HOME/.config/containers/certs.d/localhost:$port
    serve "self-$kind" "$port" ", tls: {certificate: $W/self/$kind.crt, key: $W/self/$kind.key}" ''; answers "https://$host/v2/"
    refuse "a $kind certificate of an unknown authority" 'certificate' k push -q box "$host/a:1"
    trust "$host" "$W/self/other.crt"
    case $kind in
      rsa | ec)
        refuse "a self-signed $kind certificate beside another's" 'is a CA certificate' k push -q box "$host/a:1"
        trust "$host" "$W/self/$kind.crt"
        check "a self-signed $kind certificate in certs.d" k push -q box "$host/a:1"
        mv "$directory" "$W/self/directory"
        check "a self-signed $kind certificate of --cert-dir" fresh pull -q --cert-dir "$W/self/directory" "$host/a:1"
        rm -r "$W/self/directory"
        check "a self-signed $kind certificate among the system's" env SSL_CERT_FILE="$W/self/$kind.crt" "$BIN" --root "$W/system" pull -q "$host/a:1" ;;
      name) trust "$host" "$W/self/name.crt"; refuse 'a self-signed certificate for another name' 'registry.example' k push -q box "$host/a:1" ;;
      expired) trust "$host" "$W/self/expired.crt"; refuse 'a self-signed certificate that has expired' 'expired' k push -q box "$host/a:1" ;;
      signed) refuse 'an authority of another authority' 'is a CA certificate' k push -q box "$host/a:1" ;;
    esac
    rm -rf "$directory"
  done
}

test_registries_conf() {
  local one two; read -r one two < <(free_ports 2)
  serve one "$one" '' ''; serve two "$two" '' ''; answers "http://localhost:$one/v2/"; answers "http://localhost:$two/v2/"
  export CONTAINERS_REGISTRIES_CONF=$W/registries.conf
  k push -q box "localhost:$one/team/app:1" >/dev/null; k push -q box "localhost:$two/only:1" >/dev/null
  cat >"$CONTAINERS_REGISTRIES_CONF" <<CONF
unqualified-search-registries = ["localhost:$one", "localhost:$two"]
[[registry]]
prefix = "docker.io/library"
location = "localhost:$one/team"
[[registry]]
prefix = "gone.example"
location = "localhost:9"
[[registry.mirror]]
location = "localhost:$two"
[[registry]]
prefix = "bad.example"
blocked = true
[aliases]
"short" = "localhost:$one/team/app"
CONF
  same 'registries.conf: a place of its own' "$(fresh pull -q docker.io/library/app:1)" docker.io/library/app:1
  same 'registries.conf: a mirror' "$(fresh pull -q gone.example/only:1)" gone.example/only:1
  refuse 'registries.conf: a blocked registry' 'blocked by registries.conf' fresh pull -q bad.example/x
  same 'registries.conf: an alias' "$(fresh pull -q short:1)" "localhost:$one/team/app:1"
  same 'registries.conf: names without a registry' "$(fresh pull -q only:1)" "localhost:$two/only:1"
  same 'run finds it under that name' "$(timeout 120 "$BIN" --root "$W/other" run --rm --pull never only:1 echo yes)" yes
  refuse 'registries.conf: an image that no registry has' 'HTTP 404' fresh pull -q nowhere:1
  echo 'x = ' >"$CONTAINERS_REGISTRIES_CONF"; refuse 'registries.conf: a malformed file' 'registries.conf' fresh pull -q only:1
  unset CONTAINERS_REGISTRIES_CONF
  mkdir -p "$HOME/.docker/certs.d/gone.example"
  printf '[host."http://localhost:%s"]\ncapabilities = ["pull", "resolve"]\n' "$two" >"$HOME/.docker/certs.d/gone.example/hosts.toml"
  check 'hosts.toml: a mirror' fresh pull -q gone.example/only:1
  printf 'server = "http://localhost:%s/v2/team"\noverride_path = true\n' "$one" >"$HOME/.docker/certs.d/gone.example/hosts.toml"
  check 'hosts.toml: a path of its own' fresh pull -q gone.example/app:1
  same 'search a registry without a search of its own' "$(k search --format '{{.Name}}' "localhost:$one/app")" "localhost:$one/team/app"
  check '--keep-blobs=false' env KNARR_IMAGE_KEEP_BLOBS=false "$BIN" --root "$W/lean" pull -q "localhost:$one/team/app:1"
  same 'keeps layers unpacked alone' \
    "$(timeout 120 "$BIN" --root "$W/lean" run --rm "localhost:$one/team/app:1" echo yes; find "$W/lean/blobs" -size +64k | wc -l)" $'yes\n0'
  refuse 'which cannot be pushed' 'not in the store' "$BIN" --root "$W/lean" push -q "localhost:$one/team/app:1" "localhost:$two/x:1"
}

test_platforms() {
  local port; port=$(free_ports 1); serve many "$port" '' ''; answers "http://localhost:$port/v2/"
  k import --platform linux/arm64 -c 'ENV ON=arm64' "$W/box.tar" box-arm >/dev/null
  k save --format oci-dir -o "$W/amd" box >/dev/null; k save --format oci-dir -o "$W/arm" box-arm >/dev/null
  python3 - "$W" <<'PY'
import json, shutil, sys, os
w = sys.argv[1]
index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
shutil.copytree(f"{w}/amd", f"{w}/many"); shutil.copytree(f"{w}/arm/blobs", f"{w}/many/blobs", dirs_exist_ok=True)
for name, arch in (("amd", "amd64"), ("arm", "arm64")):
    entry = json.load(open(f"{w}/{name}/index.json"))["manifests"][0]
    entry.pop("annotations", None); entry["platform"] = {"os": "linux", "architecture": arch}
    index["manifests"].append(entry)
# An attestation, as added by buildx, is not an image.
index["manifests"].append({**index["manifests"][0], "platform": {"os": "unknown", "architecture": "unknown"},
                           "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
import hashlib
data = json.dumps(index).encode(); digest = hashlib.sha256(data).hexdigest()
open(f"{w}/many/blobs/sha256/{digest}", "wb").write(data)
entry = {"mediaType": index["mediaType"], "digest": f"sha256:{digest}", "size": len(data),
         "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/many:1"}}
json.dump({"schemaVersion": 2, "manifests": [entry]}, open(f"{w}/many/index.json", "w"))
PY
  check 'load an index of several platforms' k load -qi "$W/many"
  same 'ours is taken' "$(k inspect --format '{{.Os}}/{{.Architecture}}' many:1)" "linux/$(dpkg --print-architecture)"
  check '--platform takes another' k load -qi "$W/many" --platform linux/arm64
  same 'and that it is' "$(k inspect --format '{{.Architecture}} {{.Config.Env}}' many:1 | cut -d' ' -f1,2)" 'arm64 [ON=arm64]'
  refuse 'a platform it does not have' 'linux/arm64' k load -qi "$W/many" --platform linux/s390x
}

# A registry that wants a password and sends uploads to another host, as those with object storage do. Both hosts are proxies of
# one registry, which answers with URLs at the host that it is told it is.
test_uploads_elsewhere() {
  local port front storage; read -r port front storage < <(free_ports 3); serve behind "$port" '' ''; answers "http://localhost:$port/v2/"
  cat >"$W/proxy.py" <<'PY'
"""proxy.py PORT BACKEND HOST LOG [wants]: passes requests on as if they were for localhost:HOST; whether each has credentials is a
line in LOG. With `wants`, those without user:secret are refused.
"""
import http.client, http.server, sys
port, backend, host, log = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_message = lambda *_: None
    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        told = self.headers.get("Authorization")
        with open(log, "a") as lines: lines.write(f"{self.command} {'told' if told else 'nothing'}\n")
        if "wants" in sys.argv and told != "Basic dXNlcjpzZWNyZXQ=":
            status, headers, data = 401, [("WWW-Authenticate", 'Basic realm="test"')], b""
        else:
            kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "authorization", "content-length")}
            connection = http.client.HTTPConnection("127.0.0.1", backend)
            connection.request(self.command, self.path, body, {**kept, "Host": f"localhost:{host}"})
            answer = connection.getresponse(); status, headers, data = answer.status, answer.getheaders(), answer.read()
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding") or self.command == "HEAD": self.send_header(name, value)
        if self.command != "HEAD": self.send_header("Content-Length", str(len(data)))
        self.end_headers(); self.wfile.write(data)
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
PY
  python3 "$W/proxy.py" "$front" "$port" "$storage" "$W/front.requests" wants & PIDS+=($!)
  python3 "$W/proxy.py" "$storage" "$port" "$storage" "$W/storage.requests" & PIDS+=($!)
  answers "http://localhost:$front/"; answers "http://localhost:$storage/"; : >"$W/storage.requests"
  refuse 'uploads elsewhere: no credentials' 'HTTP 401' k push -q box "localhost:$front/a:1"
  none 'uploads elsewhere: nobody comes there then' "$(cat "$W/storage.requests")"
  check 'uploads elsewhere: whole' k push -q --creds user:secret box "localhost:$front/a:1"
  check 'uploads elsewhere: in pieces' k push -q --chunk 300000 --creds user:secret box "localhost:$front/b:1"
  same 'uploads elsewhere: go there' "$(grep -c '^PATCH' "$W/storage.requests" | sed 's/^[1-9].*/some/')" some
  none 'uploads elsewhere: without the password' "$(grep told "$W/storage.requests")"
  same 'uploads elsewhere: which the registry gets' "$(grep '^POST' "$W/front.requests" | tail -1)" 'POST told'
}

# Ctrl-C and kill: complete layers are kept, and the next attempt has less to do.
test_interrupted() {
  local port slow pid count number; read -r port slow < <(free_ports 2); serve interrupted "$port" '' ''; answers "http://localhost:$port/v2/"
  # After two thirds of the image almost no data is sent: the pull cannot end before it is killed.
  python3 "$HERE/slow.py" "$slow" "$port" $((12 * 1000000)) & PIDS+=($!); answers "http://localhost:$slow/v2/"
  k tag box layers:0
  for number in $(seq 12); do
    k create --name "layer$number" "layers:$((number - 1))" >/dev/null; head -c 1500000 /dev/urandom >"$W/noise"
    k cp "$W/noise" "layer$number:/noise$number"; k commit "layer$number" "layers:$number" >/dev/null; k rm "layer$number" >/dev/null
  done
  k push -q layers:12 "localhost:$port/layers:12" >/dev/null
  # On one processor, so that three layers are fetched in parallel, independent of the machine.
  taskset -c "$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')" "$BIN" --root "$W/cut" pull "localhost:$slow/layers:12" >"$W/cut.log" 2>&1 & pid=$!
  three() { [ "$(grep -c ': Complete$' "$W/cut.log")" -ge 3 ]; }; soon three
  kill -TERM $pid; wait $pid; same 'a pull that is killed ends as that' $? 143
  same 'and says so' "$(grep -c 'interrupted' "$W/cut.log")" 1
  none 'it leaves no name' "$("$BIN" --root "$W/cut" images -q)"
  none 'and nothing half done' "$(ls "$W/cut/ingest")"
  "$BIN" --root "$W/cut" run --cidfile "$W/cut.id" "localhost:$slow/layers:11" >"$W/cut-run.log" 2>&1 & pid=$!
  soon grep -q 'Unable to find image' "$W/cut-run.log"
  kill -TERM $pid; wait $pid; same 'so does one for run' $? 143
  none 'without a file for the ID' "$(ls "$W/cut.id" 2>/dev/null)"
  count=$(find "$W/cut/layers/sha256" -mindepth 1 -maxdepth 1 | wc -l)
  [ "$count" -ge 3 ] && pass 'but what was complete' || fail 'but what was complete' "$count layers"
  "$BIN" --root "$W/cut" pull "localhost:$port/layers:12" >"$W/again.log" 2>&1
  same 'which the next pull does not fetch again' "$(grep -c ': Already exists$' "$W/again.log")" "$count"
  check 'all of it is sound' "$BIN" --root "$W/cut" verify
}

# eStargz: each entry is a separate gzip member, with a table of contents at the end: for us an ordinary gzip layer.
test_lazy_layers() {
  python3 - "$W" <<'PY'
import gzip, hashlib, io, json, os, sys, tarfile
w = sys.argv[1]; out = b""; plain = b""; toc = {"version": 1, "entries": []}
def member(data):
    global out, plain
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as f: f.write(data)
    out += buffer.getvalue(); plain += data
for name, body in (("bin/", None), ("bin/one", b"1" * 5000), ("etc/", None), ("etc/two", b"two\n")):
    info = tarfile.TarInfo(name.rstrip("/")); info.mode = 0o755
    if body is None: info.type = tarfile.DIRTYPE
    else: info.size = len(body)
    toc["entries"].append({"name": name, "type": "dir" if body is None else "reg", "size": info.size, "offset": len(out)})
    data = info.tobuf(format=tarfile.USTAR_FORMAT) + (body or b"")
    member(data + b"\0" * (-len(data) % 512))
text = json.dumps(toc).encode(); info = tarfile.TarInfo("stargz.index.json"); info.size = len(text)
data = info.tobuf(format=tarfile.USTAR_FORMAT) + text; at = len(out)
member(data + b"\0" * (-len(data) % 512) + b"\0" * 1024)
extra = b"%016xSTARGZ" % at
out += b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff" + (len(extra) + 4).to_bytes(2, "little") + b"SG" + len(extra).to_bytes(2, "little") + extra
out += b"\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"
directory = f"{w}/stargz/blobs/sha256"; os.makedirs(directory)
def blob(data):
    digest = hashlib.sha256(data).hexdigest(); open(f"{directory}/{digest}", "wb").write(data); return {"digest": f"sha256:{digest}", "size": len(data)}
config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]}}
layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(out),
         "annotations": {"containerd.io/snapshot/stargz/toc.digest": "sha256:" + hashlib.sha256(text).hexdigest()}}
manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(json.dumps(config).encode())}, "layers": [layer]}
entry = {"mediaType": manifest["mediaType"], **blob(json.dumps(manifest).encode()),
         "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/stargz:1"}}
json.dump({"schemaVersion": 2, "manifests": [entry]}, open(f"{w}/stargz/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(f"{w}/stargz/oci-layout", "w"))
PY
  check 'load an eStargz layer' k load -qi "$W/stargz"
  same 'its files are there' "$(k export stargz:1 | tar -xO etc/two)" two
}

[ "$(id -u)" = 0 ] || { skip 'everything: needs root'; count; exit; }
for need in docker-registry openssl python3 curl busybox; do command -v $need >/dev/null || { skip "everything: $need is not here"; count; exit; }; done
mkdir -p "$W/box/bin"; cp "$(command -v busybox)" "$W/box/bin/busybox"; ln -s busybox "$W/box/bin/echo"
tar -C "$W/box" -cf "$W/box.tar" .; k import -c 'CMD ["/bin/echo"]' "$W/box.tar" box >/dev/null
make_keys
test_tokens; test_tokens oauth
for group in client_certificates self_signed registries_conf uploads_elsewhere interrupted platforms lazy_layers; do "test_$group"; done
count
