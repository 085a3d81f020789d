#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs RESULTS/command in another userland on this machine's kernel:
#   unshare --mount --propagation private enter.sh ROOT PROJECT VENV RESULTS [PATH ...]
# ROOT and PROJECT are mounted under overlays in memory, so that no changes are kept; VENV is
# mounted as the project's .venv, RESULTS as /run/results, and each PATH at the same path. The mount
# namespace ends with the last process in it.
set -e
root=$1 project=$2 venv=$3 results=$4
shift 4

mount -t tmpfs scratch "$root.mount"
for lower in "$root" "$project"; do
	scratch=$root.mount/$(basename "$lower")
	mkdir -p "$scratch.upper" "$scratch.work"
	[ "$lower" = "$root" ] && inside=$root.mount/inside || inside=$root.mount/inside$project
	mkdir -p "$inside"
	mount -t overlay -o "lowerdir=$lower,upperdir=$scratch.upper,workdir=$scratch.work" \
		overlay "$inside"
done
inside=$root.mount/inside

mkdir -p "$inside$project/.venv"
mount --bind "$venv" "$inside$project/.venv"
mount -t tmpfs -o mode=755 tmpfs "$inside/run"
mkdir -p "$inside/run/results" "$inside/run/lock"
mount --bind "$results" "$inside/run/results"
for tree in /proc /sys /dev; do mount --rbind "$tree" "$inside$tree"; done
[ -e "$inside/sys/kernel/tracing/events" ] || mount -t tracefs tracefs "$inside/sys/kernel/tracing"

for path in /etc/resolv.conf /etc/hosts "$@"; do
	if [ -d "$path" ]; then
		mkdir -p "$inside$path"
	else
		mkdir -p "$(dirname "$inside$path")"
		rm -f "$inside$path" # it may be a link to somewhere else
		: >"$inside$path"
	fi
	mount --bind -o ro "$path" "$inside$path"
done
exec chroot "$inside" /bin/sh /run/results/command
