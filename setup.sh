#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing on this machine. Prints nothing when everything is there already.
#   ./setup.sh run     for `make run`: bcc, a virtual environment, tracefs
#   ./setup.sh test    the same, plus what the tests and checks need
#   ./setup.sh bench   the same, plus the programs that the benchmarks compare with
#   ./setup.sh package the same as for test, plus what the package tests need
#   ./setup.sh deb     only what building the Debian package needs
set -euo pipefail
cd "$(dirname "$0")"

run_packages=(python3-bpfcc libseccomp2 python3-venv curl)
test_packages=(
	bpftool bpftrace clang-format gcc iproute2 libc6-dev prometheus strace # tests on this machine
	chromium chromium-driver                                               # tests of the live page
	busybox-static kmod qemu-system-x86                                    # other kernels, in VMs
	debootstrap                                                            # other userlands
	openssl                                                                # certificates
)
bench_packages=(bpfcc-tools dante-server linux-perf lua5.4 lua-socket microsocks openssh-server)

# What packaging/debian/control needs for the build.
deb_packages=(debhelper dh-python dpkg-dev python3-all python3-click python3-rich)
package_packages=("${deb_packages[@]}" buildah lintian systemd)

fail() { echo "lunatik-socket: $*" >&2; exit 3; }

stage=${1:-run}
case $stage in
run) packages=("${run_packages[@]}") ;;
test) packages=("${run_packages[@]}" "${test_packages[@]}") ;;
bench) packages=("${run_packages[@]}" "${test_packages[@]}" "${bench_packages[@]}") ;;
package) packages=("${run_packages[@]}" "${test_packages[@]}" "${package_packages[@]}") ;;
deb) packages=("${deb_packages[@]}") ;;
*) echo "lunatik-socket: cannot set up \"$stage\": not run, test, bench, package or deb" >&2; exit 2 ;;
esac

# Runs a command; prints its output only if it fails.
quietly() {
	local log status=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ $status = 0 ] || cat "$log" >&2
	rm -f "$log"
	return $status
}

# Ubuntu ships bpftool and perf with each kernel, and chromium only as a snap.
name_here() {
	grep -qsx 'ID=ubuntu' /etc/os-release || { echo "$1"; return; }
	case $1 in
	bpftool | linux-perf) echo "linux-tools-common linux-tools-$(uname -r)" ;;
	chromium | chromium-driver) ;;
	*) echo "$1" ;;
	esac
}

is_installed() {
	dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

install_packages() {
	local missing=() wanted name
	if ! command -v dpkg-query >/dev/null; then
		/usr/bin/python3 -c 'import bcc' 2>/dev/null ||
			fail "cannot find bcc: this is not Debian or Ubuntu; install python3-bcc (Fedora) or python-bcc (Arch), and curl"
		return
	fi
	for wanted in "$@"; do
		for name in $(name_here "$wanted"); do
			is_installed "$name" || missing+=("$name")
		done
	done
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" = 0 ] || fail "cannot install ${missing[*]}: not root; run this as root, or apt-get install them first"
	echo "setup: installing ${missing[*]} with apt-get"
	start_no_services
	export DEBIAN_FRONTEND=noninteractive
	local apt=(apt-get -q -o DPkg::Lock::Timeout=300)
	quietly "${apt[@]}" update || fail "cannot read the package lists: apt-get update failed, see above"
	quietly "${apt[@]}" install -y --no-install-recommends "${missing[@]}" ||
		fail "cannot install ${missing[*]}: apt-get failed, see above"
	for name in "${missing[@]}"; do
		disable_service "$name"
	done
}

# The tests need programs from packages that also start a service, such as promtool from
# prometheus. While apt-get runs, policy-rc.d forbids the services to start.
start_no_services() {
	local policy=/usr/sbin/policy-rc.d
	[ -e $policy ] && return
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

# The services must not start at the next boot either.
disable_service() {
	local -A services=([prometheus]=prometheus [openssh-server]=ssh [dante-server]=danted)
	local service=${services[$1]:-}
	[ -z "$service" ] || ! command -v systemctl >/dev/null || quietly systemctl disable "$service" || true
}

# Made from the system's Python with its packages visible, because bcc is only there (the "bcc" on
# PyPI is another project). For "run", pip resolves the bounds in pyproject.toml. For "test" and
# "bench" it installs exactly the files whose hashes are in requirements-dev.lock.
make_environment() {
	local stamp=.venv/.ready-$stage
	[ -x .venv/bin/lunatik-socket ] && [ "$stamp" -nt pyproject.toml ] &&
		[ "$stamp" -nt requirements-dev.lock ] && return
	if ! [ -x .venv/bin/python ]; then
		echo "setup: making .venv"
		quietly /usr/bin/python3 -m venv --system-site-packages --clear .venv ||
			fail "cannot make .venv: see above; is python3-venv installed?"
	fi
	echo "setup: installing Python packages into .venv"
	local pip=(quietly .venv/bin/python -m pip --disable-pip-version-check --no-input --quiet install)
	if [ "$stage" = run ]; then
		"${pip[@]}" --editable .
	else
		"${pip[@]}" --require-hashes --requirement requirements-dev.lock &&
			"${pip[@]}" --no-deps --no-build-isolation --editable .
	fi || fail "cannot install the Python packages: pip failed, see above; is the network up?"
	touch .venv/.ready-run "$stamp"
}

# Only the return probes of kprobes need tracefs.
mount_tracefs() {
	[ -e /sys/kernel/tracing/events ] || [ "$(id -u)" != 0 ] || mount -t tracefs tracefs /sys/kernel/tracing ||
		echo "setup: cannot mount tracefs: see above; lunatik-socket doctor lists what does not work without it" >&2
}

install_packages "${packages[@]}"
[ "$stage" != deb ] || exit 0
make_environment
mount_tracefs
