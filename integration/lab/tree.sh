#!/bin/bash
# tree.sh: build $KNARR_LAB/root, a Debian tree with the peers (runc, crun), the engines (containerd, Docker, podman,
# buildah), bats, systemd and a kernel. Does nothing if it is there and complete. About 2 minutes and 2 GB; needs root.
# It comes from the Debian archive only, checked by this machine's own archive keys.
. "$(dirname "$0")/settings.sh"
need_root

PEERS=runc,crun,containerd,podman,docker.io,docker-cli,docker-compose,docker-buildx,docker-registry,buildah,skopeo,umoci,conmon
PARTS=criu,bats,tini,catatonit,netavark,aardvark-dns,containernetworking-plugins,passt,uidmap,fuse-overlayfs
TOOLS=iproute2,nftables,iptables,procps,jq,curl,strace,attr,util-linux,python3,busybox-static,ca-certificates
TOOLS=$TOOLS,apparmor,libcap2-bin,e2fsprogs,xz-utils,file,git,make,gcc,libc6-dev
BOOT=systemd,systemd-sysv,dbus,kmod,linux-image-cloud-$DEB_ARCH

# What a usable tree has, whoever built it.
complete() {
  local path
  for path in usr/sbin/runc usr/bin/crun usr/bin/containerd usr/sbin/dockerd usr/bin/podman usr/bin/bats \
    usr/bin/busybox usr/lib/systemd/systemd usr/bin/newuidmap; do
    [ -e "$TREE/$path" ] || [ -L "$TREE/$path" ] || return 1
  done
  ls "$TREE"/boot/vmlinuz-* >/dev/null 2>&1
}

build() {
  if complete; then return 0; fi
  [ -e "$TREE" ] && die "$TREE is there but not complete: remove it (rm -rf --one-file-system $TREE) and try again"
  install mmdebstrap mmdebstrap
  install /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
  rm -rf --one-file-system "$TREE.new"
  echo "building $TREE ($SUITE, $DEB_ARCH) from $(mirror)"
  # A mirror that is a snapshot of the archive is older than the archive's own expiry date.
  mmdebstrap --quiet --variant=apt --architectures="$DEB_ARCH" --aptopt='Acquire::Check-Valid-Until "false"' \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --include="$PEERS,$PARTS,$TOOLS,$BOOT" \
    "$SUITE" "$TREE.new" "$(mirror)" || {
    rm -rf --one-file-system "$TREE.new"
    die "mmdebstrap did not build the tree"
  }
  mv "$TREE.new" "$TREE"
  complete || die "$TREE lacks something that this script checks for"
}

with_lock tree build
