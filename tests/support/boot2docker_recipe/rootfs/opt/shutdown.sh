#!/bin/sh
/etc/init.d/docker stop
sync
swapoff -a
for point in $(awk '$3 == "ext4" { print $2 }' /proc/mounts | sort -r); do umount -l "$point"; done
