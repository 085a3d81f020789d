# SPDX-License-Identifier: MIT
"""The ring of tests on other kernels: Debian's stock ones, booted under software emulation.

``python -m tests.vm.ring [KERNEL ...] [-- PYTEST ARGUMENTS]``; ``-h`` tells the rest. What a
test's author should know:

- The guest runs the tests of ``tests/kernel`` as root, from this checkout and its ``.venv``, on
  the host's own file system. All it writes is gone with it, but for ``/run/results``, which is
  ``build/rings/kernels/KERNEL`` here, with the JUnit report and the console's log.
- Mounted as on a running Debian: tracefs, debugfs, securityfs, cgroup2, bpffs. Loopback is up and
  is the only network. There is no udev, no systemd and no kernel headers; modprobe works.
- Emulation is slow: about 5 s to boot, 1 s to import bcc, 2 s for its first compilation, 3 s to
  start pytest. Loading many or large programs costs most, for the verifier is emulated too; share
  a tracer's session between tests. A test may take 600 s, whatever pyproject.toml says.
- ``LUNATIK_SOCKET_RING`` is ``kernel/NAME`` here and ``userland/NAME`` in that ring; unset on the
  host. A stock Debian kernel has kprobes and BTF: where it names one of them, a missing mechanism
  is a failure, not a skip.
- ``record_testsuite_property("mechanisms", "tracepoint kprobe fentry")`` from any test fills a
  column of the table.
- Oops, panic and hang end the guest and fail the run; the last lines of the console are shown.
- In-kernel sockets to count by: `tests.vm.nvme_tcp_loop`. Debian 12's bpftrace, to count beside
  us, attaches kprobes and tracepoints on all four kernels, and fentry on all but 5.10.
- ``tests/vm/module`` is a kernel module that calls every in-kernel socket operation.
  `tests.vm.kernel_module` builds it on the host, for each kernel with its own headers and
  compiler; ``LUNATIK_SOCKET_TEST_MODULE`` tells the guest where it is.
"""
