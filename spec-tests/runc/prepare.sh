#!/bin/bash
# prepare.sh: what runc's bats suite needs, once, into $KNARR_LAB/runc-suite (about two minutes):
#   src/     runc's source package of the lab's Debian suite (apt-get source), its helper programs built in tests/cmd/_bin
#   extra/   packages which the lab tree lacks (Go, its libraries, gawk), unpacked, to be laid over the tree
#   images/  busybox.tar and debian.tar: the two root file systems that the suite would download
# Nothing of it is committed, nothing is installed on the host but mmdebstrap and dpkg-dev. Needs root.
. "$(dirname "$(readlink -f "$0")")/../../integration/lab/settings.sh"
need_root
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
OUT=$LAB/runc-suite
SCRIPTS=$(dirname "$(readlink -f "$0")")
# One at a time: the suites on the host and in the VM run side by side.
mkdir -p "$LAB"
exec 7>"$LAB/runc-suite.lock"
flock 7
if [ -e "$OUT/ready" ]; then exit 0; fi
"$HERE/tree.sh"
install mmdebstrap mmdebstrap
install dpkg-source dpkg-dev
install "$KEYRING" debian-archive-keyring

# apt with lists and caches of its own, which believes that it looks after the lab tree
rm -rf "$OUT"; mkdir -p "$OUT"/{apt/lists/partial,apt/cache/archives/partial,extra,images,src}
printf 'deb%s [signed-by=%s] %s %s main\n' '' "$KEYRING" "$(mirror)" "$SUITE" -src "$KEYRING" "$(mirror)" "$SUITE" > "$OUT/apt/sources.list"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$OUT/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$OUT/apt/lists"
  -o "Dir::State::status=$TREE/var/lib/dpkg/status" -o "Dir::Cache=$OUT/apt/cache" -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root)
"${apt[@]}" update

(cd "$OUT/apt" && "${apt[@]}" source --download-only runc)
rmdir "$OUT/src"; dpkg-source --no-check --no-copy -x "$OUT"/apt/runc_*.dsc "$OUT/src" > "$OUT/apt/unpack.log"
"${apt[@]}" install -y --no-install-recommends --download-only gawk pkgconf golang-go libseccomp-dev golang-github-opencontainers-runc-dev \
  golang-github-urfave-cli-dev
for deb in "$OUT"/apt/cache/archives/*.deb; do dpkg -x "$deb" "$OUT/extra"; done

# the helper programs, built as Debian builds runc: from the libraries in /usr/share/gocode, without modules
"$SCRIPTS/enter.sh" bash -euc '
  export GOPATH=/tmp/go GO111MODULE=off GOCACHE=/tmp/go/cache
  mkdir -p /tmp/go/src/github.com/opencontainers
  for d in /usr/share/gocode/src/*; do [ "${d##*/}" = github.com ] || ln -s "$d" /tmp/go/src/; done
  for d in /usr/share/gocode/src/github.com/*; do [ "${d##*/}" = opencontainers ] || ln -s "$d" /tmp/go/src/github.com/; done
  for d in /usr/share/gocode/src/github.com/opencontainers/*; do [ "${d##*/}" = runc ] || ln -s "$d" /tmp/go/src/github.com/opencontainers/; done
  ln -s /suite/src /tmp/go/src/github.com/opencontainers/runc
  cd /tmp/go/src/github.com/opencontainers/runc
  for p in tests/cmd/*/; do p=${p%/}; echo "building $p"; go build -tags seccomp -o "tests/cmd/_bin/${p##*/}" "./$p"; done'

# busybox.tar: what the official busybox image holds, from the tree's static busybox
r=$OUT/images/busybox; mkdir -p "$r"/{bin,dev,etc,home,root,tmp,usr/sbin,usr/bin,var/spool/mail,var/www}
chmod 1777 "$r/tmp"; chmod 700 "$r/root"
cp "$TREE/usr/bin/busybox" "$r/bin/busybox"
for applet in $("$r/bin/busybox" --list); do [ "$applet" = busybox ] || ln "$r/bin/busybox" "$r/bin/$applet"; done
ln "$r/bin/busybox" "$r/usr/bin/env"
printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > "$r/etc/passwd"
printf 'root:x:0:\ndaemon:x:1:\nusers:x:100:\nnogroup:x:65534:\n' > "$r/etc/group"
tar -C "$r" --numeric-owner --owner=0 --group=0 -cf "$OUT/images/busybox.tar" .

# debian.tar: small, for each test unpacks it
mmdebstrap --quiet --variant=essential --keyring="$KEYRING" --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='cd "$1" && rm -rf var/lib/apt var/cache/* var/lib/dpkg \
    usr/bin/perl* usr/lib/*/perl* usr/lib/*/gconv usr/lib/*/lib{crypto,ssl,db-}*' "$SUITE" "$OUT/images/debian.tar" "$(mirror)"

# the suite asks this script for its images
cat > "$OUT/src/tests/integration/get-images.sh" <<'X'
#!/bin/bash
echo BUSYBOX_IMAGE=${SUITE_IMAGES:-/suite/images}/busybox.tar
echo DEBIAN_IMAGE=${SUITE_IMAGES:-/suite/images}/debian.tar
X
rm -rf "$r" "$OUT/apt/cache" "$OUT/apt/lists"
touch "$OUT/ready"
