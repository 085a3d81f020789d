#!/usr/bin/env bash
# Makes this machine ready: what is missing is installed, what is there is left alone and said nothing about.
#   ./setup.sh run     what `make run` needs: bcc, a virtual environment, tracefs
#   ./setup.sh test    that, and what the tests and checks need
set -euo pipefail
cd "$(dirname "$0")"

run_packages=(python3-bpfcc python3-venv curl)
test_packages=(bpftool bpftrace clang-format gcc iproute2 libc6-dev prometheus strace)
stage=${1:-run}

fail() { echo "lunatik-socket: $*" >&2; exit 3; }

install_packages() {
	local missing=() name
	for name in "$@"; do
		dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
			missing+=("$name")
	done
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" = 0 ] || fail "cannot install ${missing[*]}: not root; run as root, or apt-get install them first"
	echo "setup: installing ${missing[*]} with apt-get"
	export DEBIAN_FRONTEND=noninteractive
	local log; log=$(mktemp)
	# Services stay off: a tracer has no business starting a Prometheus on the machine.
	{ apt-get update -q && RUNLEVEL=1 apt-get install -yq --no-install-recommends "${missing[@]}"; } \
		>"$log" 2>&1 </dev/null || { cat "$log" >&2; fail "cannot install ${missing[*]}: apt-get failed, see above"; }
	rm -f "$log"
}

# From the system's own Python: bcc lives there and nowhere else (the "bcc" on PyPI is another project).
make_environment() {
	local stamp=.venv/.ready-$1
	[ -e "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && return
	[ -x .venv/bin/python ] || { echo "setup: making .venv"; /usr/bin/python3 -m venv --system-site-packages .venv; }
	echo "setup: installing Python packages for '$1' into .venv"
	local pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
	"${pip[@]}" install --upgrade 'pip>=25.1,<27'
	if [ "$1" = test ]; then
		"${pip[@]}" install --editable . --group dev
	else
		"${pip[@]}" install --editable .
	fi
	touch "$stamp"
}

mount_tracefs() {
	[ -e /sys/kernel/tracing/events ] || [ "$(id -u)" != 0 ] || mount -t tracefs tracefs /sys/kernel/tracing
}

if [ "$stage" = test ]; then
	install_packages "${run_packages[@]}" "${test_packages[@]}"
else
	install_packages "${run_packages[@]}"
fi
make_environment "$stage"
mount_tracefs
