#!/bin/sh
# Process 1 of the virtual machine: a host with one cgroup hierarchy, the tests, and the end.
export PATH=/usr/sbin:/usr/bin:/gantry:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname gantry-vm
ip link set lo up
modprobe loop
# What belongs to the kernel's own log is not between the tests' lines.
dmesg -n 1
cd /root
GANTRY_BIN_DIR=/gantry GANTRY_TEST_VM=1 sh /tests 2>&1
echo "the tests ended with $?"
sync
poweroff -f
