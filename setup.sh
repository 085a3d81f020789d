#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes this machine ready: what is missing is installed; what is there is left alone, without a word.
#   ./setup.sh run     what `make run` needs: bcc, a virtual environment, tracefs
#   ./setup.sh test    that, and what the tests and checks need
#   ./setup.sh bench   that, and the benchmarks' peers, an SSH and a SOCKS server among them
set -euo pipefail
cd "$(dirname "$0")"

run_packages=(python3-bpfcc python3-venv curl)
test_packages=(
	bpftool bpftrace clang-format gcc iproute2 libc6-dev prometheus strace # on this machine
	chromium chromium-driver                                               # the live page
	busybox-static kmod qemu-system-x86                                    # kernels in a VM
	debootstrap                                                            # other userlands
)
bench_packages=(bpfcc-tools dante-server linux-perf lua5.4 lua-socket microsocks openssh-server)

fail() { echo "lunatik-socket: $*" >&2; exit 3; }

stage=${1:-run}
case $stage in
run) packages=("${run_packages[@]}") ;;
test) packages=("${run_packages[@]}" "${test_packages[@]}") ;;
bench) packages=("${run_packages[@]}" "${test_packages[@]}" "${bench_packages[@]}") ;;
*) echo "lunatik-socket: cannot set up \"$stage\": it must be run, test or bench" >&2; exit 2 ;;
esac

# What a step has to say is only of interest when it fails.
quietly() {
	local log status=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ $status = 0 ] || cat "$log" >&2
	rm -f "$log"
	return $status
}

install_packages() {
	local missing=() name
	if ! command -v dpkg-query >/dev/null; then
		/usr/bin/python3 -c 'import bcc' 2>/dev/null ||
			fail "cannot find bcc: this is not Debian or Ubuntu; install python3-bcc (Fedora) or python-bcc (Arch), and curl"
		return
	fi
	for name in "$@"; do
		dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
			missing+=("$name")
	done
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" = 0 ] || fail "cannot install ${missing[*]}: not root; apt-get install them as root first"
	echo "setup: installing ${missing[*]} with apt-get"
	no_new_services
	export DEBIAN_FRONTEND=noninteractive
	local apt=(apt-get -q -o DPkg::Lock::Timeout=300)
	quietly "${apt[@]}" update || fail "cannot read the package lists: apt-get update failed, see above"
	quietly "${apt[@]}" install -y --no-install-recommends "${missing[@]}" ||
		fail "cannot install ${missing[*]}: apt-get failed, see above"
	for name in "${missing[@]}"; do
		keep_off "$name"
	done
}

# A tracer has no business starting a Prometheus on the machine because its tests want promtool.
no_new_services() {
	local policy=/usr/sbin/policy-rc.d
	[ -e $policy ] && return
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

# Nor at the next boot.
keep_off() {
	local -A services=([prometheus]=prometheus [openssh-server]=ssh [dante-server]=danted)
	local service=${services[$1]:-}
	[ -z "$service" ] || ! command -v systemctl >/dev/null || quietly systemctl disable "$service" || true
}

# From the system's own Python: bcc lives there and nowhere else (the "bcc" on PyPI is another project).
make_environment() {
	local stamp=.venv/.ready-$stage
	[ -x .venv/bin/lunatik-socket ] && [ "$stamp" -nt pyproject.toml ] && return
	if ! [ -x .venv/bin/python ]; then
		echo "setup: making .venv"
		quietly /usr/bin/python3 -m venv --system-site-packages --clear .venv ||
			fail "cannot make .venv: see above; is python3-venv installed?"
	fi
	echo "setup: installing Python packages into .venv"
	local pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input --quiet)
	local what=(--editable .)
	[ "$stage" = run ] || what+=(--group dev)
	quietly "${pip[@]}" install --upgrade 'pip>=25.1,<27' &&
		quietly "${pip[@]}" install "${what[@]}" ||
		fail "cannot install the Python packages: pip failed, see above; is the network there?"
	touch .venv/.ready-run "$stamp"
}

# For the return probes of kprobes; all else does without.
mount_tracefs() {
	[ -e /sys/kernel/tracing/events ] || [ "$(id -u)" != 0 ] || mount -t tracefs tracefs /sys/kernel/tracing ||
		echo "setup: cannot mount tracefs: see above; lunatik-socket doctor tells what goes without" >&2
}

install_packages "${packages[@]}"
make_environment
mount_tracefs
