#!/bin/sh
# SPDX-License-Identifier: MIT
# Process 1 of the guest: makes systemd run /run/results/test when the system is up, and starts it.
set -e
mkdir -p /run/systemd/system
cat >/run/systemd/system/packages-test.service <<'UNIT'
[Unit]
Description=The test of the service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/bash /run/results/test
UNIT
ln -sf /dev/null /run/systemd/system/systemd-firstboot.service
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
exec /lib/systemd/systemd --unit=packages-test.service
