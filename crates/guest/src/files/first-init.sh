#!/bin/busybox sh
# First process of the guest: finds the disks, and goes on there.
bb=/bin/busybox
$bb mount -t devtmpfs none /dev
for module in /modules/*.ko; do $bb insmod "$module"; done
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do $bb sleep 0.02; done
$bb mount -t ext4 -o noatime /dev/vda /root
$bb mount -t ext4 -o ro /dev/vdb /root/lib/modules
$bb mount --move /dev /root/dev
exec $bb switch_root /root /bin/busybox init
