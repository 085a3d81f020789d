#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The guest's first process. It makes the host's file system the guest's root, under an overlay in
# memory, so that nothing is written to the host; mounts what a running Debian has mounted; then
# executes /run/results/command. Any failure ends it, and so the guest and the test run.
set -e
/bin/busybox --install -s /bin
. /parameters # kernel_release, kernel_modules, show_stacks_after

mkdir -p /proc /sys /dev /host /memory /root
mount -t proc proc /proc
mount -t devtmpfs dev /dev
# For a guest that hangs, here or later. After switch_root only what is built into the shell is left.
for seconds in $show_stacks_after; do
	(
		sleep "$seconds"
		echo 8 >/proc/sys/kernel/printk
		for what in w l; do echo "$what" >/proc/sysrq-trigger; done
	) &
done
for module in /modules/*; do insmod "$module"; done

# cache=loose is safe because the host's files do not change meanwhile. Without it, `import bcc`
# takes 9 s instead of 1.
options=trans=virtio,version=9p2000.L,access=any,msize=512000
mount -t 9p -o "ro,cache=loose,$options" host /host
mount -t tmpfs -o size=75% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /root

cd /root
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t devtmpfs -o nosuid dev dev
mkdir -p dev/pts dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=000 devpts dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
mkdir -p run/results run/lock
mount -t 9p -o "rw,cache=none,$options" results run/results
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
	ln -sf "${link#*:}" "dev/${link%%:*}"
done

mount -t tracefs tracefs sys/kernel/tracing
mount -t debugfs debugfs sys/kernel/debug
mount -t securityfs securityfs sys/kernel/security
mount -t cgroup2 -o nsdelegate cgroup2 sys/fs/cgroup
mount -t bpf -o mode=700 bpf sys/fs/bpf

# Hide the host's modules, which belong to another kernel.
mkdir -p lib/modules
mount -t tmpfs tmpfs lib/modules
mkdir "lib/modules/$kernel_release"
mount --bind ".$kernel_modules" "lib/modules/$kernel_release"

ip link set lo up
hostname guest
exec switch_root /root /bin/sh /run/results/command
