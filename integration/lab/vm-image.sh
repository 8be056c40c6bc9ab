#!/bin/bash
# vm-image.sh: from the lab's tree make $KNARR_LAB/vm: a kernel, a small initrd and an ext4 image which boots systemd on
# pure cgroup v2. Does nothing if they are there. About a minute; needs root. vm-run.sh boots them.
. "$(dirname "$0")/settings.sh"
need_root

complete() {
  [ -s "$VM/vmlinuz" ] && [ -s "$VM/initrd.img" ] && [ -s "$VM/root.ext4" ] || return 1
  # The image must know vm-run.sh's way to hand over a command.
  debugfs -R 'cat /usr/local/sbin/lab-run' "$VM/root.ext4" 2>/dev/null | grep -q 'lab\\*\.id='
}

# The initrd does one thing: load the disk driver, mount the image, continue with its systemd.
initrd() {
  local dir=$1 modules=$2 module
  mkdir -p "$dir"/{bin,proc,sys,dev,new,lib}
  cp "$TREE/usr/bin/busybox" "$dir/bin/"
  module=$(find "$modules" -name 'virtio_blk.ko*' | head -1)
  case $module in
  *.xz) xz -dc "$module" >"$dir/lib/virtio_blk.ko" ;;
  *.zst) zstd -dcq "$module" >"$dir/lib/virtio_blk.ko" ;;
  *.ko) cp "$module" "$dir/lib/" ;;
  esac
  cat >"$dir/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
[ ! -e /lib/virtio_blk.ko ] || $b insmod /lib/virtio_blk.ko
n=0
while [ ! -e /dev/vda ] && [ $n -lt 600 ]; do $b sleep 0.1; n=$((n + 1)); done
$b mount -t ext4 -o rw,noatime /dev/vda /new || { echo "initrd: no root on /dev/vda"; $b poweroff -f; }
$b mount --move /dev /new/dev
$b umount /sys /proc
exec $b switch_root /new /lib/systemd/systemd
INIT
  chmod +x "$dir/init"
  (cd "$dir" && find . | cpio --create --format=newc --quiet | gzip -1)
}

# What the image has more than the tree: the service which runs the command, and no services which only take time.
additions() {
  local dir=$1 units=$1/etc/systemd/system unit
  mkdir -p "$dir/share" "$dir/usr/local/sbin" "$units/multi-user.target.wants"
  cat >"$dir/usr/local/sbin/lab-run" <<'RUN'
#!/bin/bash
# Runs the command that vm-run.sh left in the shared directory, leaves output and status there, switches off.
id=$(sed -n 's/.*lab\.id=\([^ ]*\).*/\1/p' /proc/cmdline)
mkdir -p /share
mount -t virtiofs share /share || systemctl poweroff -ff
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /share
setsid --wait bash ".lab-$id/cmd" >".lab-$id/out" 2>&1 </dev/null
echo $? >".lab-$id/rc"
dmesg >".lab-$id/dmesg"
cd /
sync
umount -l /share
systemctl poweroff -f
RUN
  chmod +x "$dir/usr/local/sbin/lab-run"
  cat >"$units/lab.service" <<'UNIT'
[Unit]
After=multi-user.target dbus.service
ConditionKernelCommandLine=lab.id
[Service]
ExecStart=/usr/local/sbin/lab-run
Delegate=yes
TasksMax=infinity
OOMPolicy=continue
[Install]
WantedBy=multi-user.target
UNIT
  ln -s ../lab.service "$units/multi-user.target.wants/lab.service"
  for unit in docker.{service,socket} containerd.service podman{,-restart}.service podman.socket \
    podman-auto-update.timer docker-registry.service apt-daily{,-upgrade}.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer systemd-networkd{,-wait-online}.service systemd-resolved.service \
    systemd-timesyncd.service getty@tty1.service serial-getty@{ttyS0,ttyAMA0}.service console-getty.service \
    systemd-firstboot.service systemd-tmpfiles-clean.timer systemd-journal-flush.service systemd-hwdb-update.service ldconfig.service \
    networking.service; do
    ln -s /dev/null "$units/$unit"
  done
  : >"$dir/etc/fstab"
  echo 0123456789abcdef0123456789abcdef >"$dir/etc/machine-id"
}

build() {
  install debugfs e2fsprogs
  if complete; then return 0; fi
  install cpio cpio
  install xz xz-utils
  local version work
  version=$(ls "$TREE/lib/modules" | sort -V | tail -1)
  echo "building $VM (kernel $version)"
  mkdir -p "$VM"
  work=$(mktemp -d "$VM/build.XXXXXX")
  additions "$work/additions"
  initrd "$work/initrd" "$TREE/lib/modules/$version" >"$work/initrd.img"
  # The additions lie over the tree in an overlay for as long as the image is written: no second copy of the tree.
  mkdir "$work/work" "$work/merged"
  truncate -s 8G "$work/root.ext4"
  unshare --mount --propagation private bash -euc '
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/additions,workdir=$2/work" "$2/merged"
    mkfs.ext4 -q -F -O ^has_journal,^metadata_csum -E lazy_itable_init=1 -d "$2/merged" "$2/root.ext4"
  ' overlay "$TREE" "$work"
  cp "$TREE/boot/vmlinuz-$version" "$VM/vmlinuz"
  mv "$work/initrd.img" "$work/root.ext4" "$VM/"
  rm -rf --one-file-system "$work"
  complete || die "the image in $VM is not as vm-run.sh needs it"
}

"$HERE/tree.sh"
with_lock vm-image build
