#!/bin/sh
# A picture of this host: its root file system, of which only the differences are written, in memory. Runs as the first process of a
# namespace of its own, so that mounts, network and processes end with it.
set -eu
share=$1
picture=$share/picture

mkdir "$picture"
if ! { mount --make-rprivate / && mount -t tmpfs -o size=3g none "$picture"; } ||
    ! mkdir "$picture/upper" "$picture/work" "$picture/root" ||
    ! mount -t overlay -o "lowerdir=/,upperdir=$picture/upper,workdir=$picture/work" none "$picture/root"; then
    echo "no picture of this host can be made here"
    exit 1
fi
cd "$picture/root"
mount --bind "$share" mnt
mount -t proc none proc
mount -t tmpfs none tmp
mount -t tmpfs none run
mount --rbind /dev dev
ip link set lo up
exec chroot . sh /mnt/inside.sh
