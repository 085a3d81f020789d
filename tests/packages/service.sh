# SPDX-License-Identifier: MIT
# Runs in the guest, as root, under systemd. Each check prints "ok NAME" or "not ok NAME".
unit=lunatik-socket.service
url=http://127.0.0.1:10435/metrics
config=/etc/lunatik-socket/config.toml

check() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		echo "ok $name"
	else
		echo "not ok $name: $output"
		journalctl --no-pager -n 10 -u $unit
	fi
}
pid() { systemctl show -P MainPID $unit; }
status() { awk -v field="$1:" '$1 == field { print $2 }' "/proc/$(pid)/status"; }
scrape() { curl -sS --max-time 120 $url | grep -c '^lunatik_socket_operation_duration_seconds_count'; }
is_active() { [ "$(systemctl is-active $unit)" = active ]; }

starts() { systemctl start $unit && is_active; }
counts() {
	local number
	for number in 1 2 3; do scrape >/dev/null || return; done
	curl -sS $url | awk '/^lunatik_socket_operation_duration_seconds_count.*operation="connect"/ { sum += $NF }
		END { print sum; exit sum < 3 }'
}
tells_its_state() { systemctl show -P StatusText $unit | grep -q 'tracing every process; metrics on http'; }
is_unprivileged() {
	[ "$(status Uid)" -ge 61184 ] && [ "$(status NoNewPrivs)" = 1 ] && [ "$(status Seccomp)" = 2 ]
}
# CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON and CAP_BPF are bits 2, 19, 38 and 39.
has_few_capabilities() {
	local allowed=$((1 << 2 | 1 << 19 | 1 << 38 | 1 << 39))
	[ $((16#$(status CapBnd) & ~allowed)) = 0 ] && [ $((16#$(status CapEff) & ~allowed)) = 0 ]
}
lost_nothing() {
	! curl -sS $url | grep -E '^lunatik_socket_tracer_lost_total.* [1-9]'
}
restarts_after_kill() {
	local before after
	before=$(pid)
	kill -9 "$before"
	scrape >/dev/null || return # waits in the queue of the socket until the service is back
	after=$(pid)
	is_active && [ "$before" != "$after" ] && [ "$(systemctl show -P NRestarts $unit)" = 1 ]
}
feeds_the_watchdog() {
	local before
	[ "$(systemctl show -P WatchdogUSec $unit)" = 1min ] || return
	before=$(systemctl show -P WatchdogTimestampMonotonic $unit)
	for _ in $(seq 60); do
		[ "$(systemctl show -P WatchdogTimestampMonotonic $unit)" = "$before" ] || return 0
		sleep 1
	done
	return 1
}
reloads() {
	local before
	before=$(pid)
	systemctl reload $unit && is_active && [ "$before" = "$(pid)" ] && scrape
}
logs_with_priority() {
	journalctl --no-pager -u $unit -p info -o cat | grep -q '^reloaded; ' &&
		! journalctl --no-pager -u $unit -p notice -o cat | grep '^reloaded; '
}
restarts() {
	local before
	before=$(pid)
	systemctl restart $unit && is_active && [ "$before" != "$(pid)" ] && scrape
}
refuses_a_wrong_configuration() {
	echo 'intervall = "1s"' >>$config
	! systemctl restart $unit || return
	sed -i '$d' $config
	[ "$(systemctl show -P ExecMainStatus $unit)" = 2 ] && [ "$(systemctl is-active $unit)" = failed ] &&
		journalctl --no-pager -u $unit -p err -o cat | grep 'unknown key "intervall"; did you mean "interval"?'
}
takes_the_configuration() {
	echo 'by = "comm"' >>$config
	systemctl reset-failed $unit
	systemctl restart $unit && curl -sS --max-time 120 $url | grep '^lunatik_socket_operation.*comm="curl"'
}
stops() {
	systemctl stop $unit lunatik-socket.socket && [ "$(systemctl is-active $unit)" = inactive ] &&
		! curl -sS $url 2>/dev/null && ! pgrep -f lunatik-socket
}

uname -r
systemctl --version | head -n 1
systemd-analyze security $unit | tail -n 1
for name in starts counts tells_its_state is_unprivileged has_few_capabilities lost_nothing \
	restarts_after_kill reloads logs_with_priority restarts feeds_the_watchdog \
	refuses_a_wrong_configuration takes_the_configuration stops; do
	begun=$SECONDS
	check $name $name
	echo "# $((SECONDS - begun)) s"
	is_active || [ $name != starts ] || exit 1 # the others would only wait
done
systemctl --failed --no-pager --no-legend
