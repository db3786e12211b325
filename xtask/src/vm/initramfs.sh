#!/bin/busybox sh
# The first program of the virtual machine: finds its disk and goes on from there.
export PATH=/bin
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules); do
    /bin/busybox insmod "/lib/$module.ko" || exec /bin/busybox poweroff -f
done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox poweroff -f
exec /bin/busybox switch_root /root /init
