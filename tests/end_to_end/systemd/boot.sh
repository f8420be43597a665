#!/bin/sh
# Boots systemd as process 1 of namespaces of its own, over a copy-on-write view of this machine's file system. Run it by
# `unshare --mount --pid --fork --kill-child --cgroup --uts --ipc`, as root.
#
# boot.sh SCRATCH: a folder with `site`, which becomes /opt/mcbn; `binds`, lines of a folder and where in /opt/mcbn to mount
# it; and `units`. /opt/mcbn/prepare runs before systemd does. The file `console` gets what systemd prints.
set -eu
scratch=$1

mount --make-rprivate /
touch "$scratch/console"
mkdir "$scratch/disk" "$scratch/root"
mount -t tmpfs tmpfs "$scratch/disk"
mkdir "$scratch/disk/upper" "$scratch/disk/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/disk/upper,workdir=$scratch/disk/work" "$scratch/root"
cd "$scratch/root"

mkdir -p opt
mount -t tmpfs tmpfs opt
cp -R "$scratch/site" opt/mcbn
while read -r source target; do
    mkdir -p "opt/mcbn/$target"
    mount --bind "$source" "opt/mcbn/$target"
done <"$scratch/binds"

mount -t tmpfs tmpfs run
cp -R "$scratch/units" run/units

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
mount -t tmpfs tmpfs dev
mkdir dev/shm dev/pts dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
touch dev/console
mount --bind "$scratch/console" dev/console
mount -t tmpfs tmpfs tmp
mkdir tmp/old

# A changed root directory by chroot(2) would forbid PrivateUsers=, which needs a user namespace.
pivot_root . tmp/old
cd /
umount -l /tmp/old
rmdir /tmp/old
mount --make-rshared / # systemd hands credentials over by mounts that have to propagate
sh /opt/mcbn/prepare
export container=mcbn SYSTEMD_UNIT_PATH=/run/units
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
