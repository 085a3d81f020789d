# SPDX-License-Identifier: MIT
"""The test ring on other kernels: Debian's stock kernels, booted under software emulation.

``python -m tests.vm.ring [KERNEL ...] [-- PYTEST ARGUMENTS]``; see ``-h`` for the options. If you
write tests, know this:

- The guest runs the tests of ``tests/kernel`` as root, from this checkout and its ``.venv``, on
  the host's own file system. Everything it writes is lost when it ends, except ``/run/results``,
  which is ``build/rings/kernels/KERNEL`` on the host, with the JUnit report and the console log.
- tracefs, debugfs, securityfs, cgroup2 and bpffs are mounted as on a running Debian. Loopback is up
  and is the only network. There is no udev, no systemd and no kernel headers; modprobe works.
- Emulation is slow: about 5 s to boot, 3 s to start pytest, 20 s for a tracer that is a process of
  its own. bcc takes most of that to load LLVM and to read /proc/kallsyms, so the sessions of the
  tests get their loader from `tests.kernel.loader_server`, which has both ready. Share a session
  between tests all the same. The time-out of a test is 600 s, not pyproject.toml's.
- As many kernels are tested at the same time as the machine has CPUs (``--jobs``).
- A guest without any output within six minutes is started once more; the result says so.
- ``LUNATIK_SOCKET_RING`` is ``kernel/NAME`` in this ring, ``userland/NAME`` in the userland ring,
  and unset on the host. Stock Debian kernels have kprobes and BTF, so in this ring a missing
  mechanism is a failure, not a skip.
- ``record_testsuite_property("mechanisms", "tracepoint kprobe fentry")`` from any test fills a
  column of the table.
- An oops, a panic or a hang ends the guest and fails the run, and the last console lines are shown.
- `tests.vm.nvme_tcp_loop` makes in-kernel sockets with a known number of calls. To count the same
  independently, Debian 12's bpftrace attaches kprobes and tracepoints on all four kernels, and
  fentry on all but 5.10.
- ``tests/vm/module`` is a kernel module that calls every in-kernel socket operation.
  `tests.vm.kernel_module` builds it on the host, for each kernel with its own headers and
  compiler; ``LUNATIK_SOCKET_TEST_MODULE`` is its path in the guest.
"""
