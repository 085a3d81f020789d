# SPDX-License-Identifier: MIT
"""Boots a kernel under QEMU's software emulation and runs one shell command in it as root."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.vm import initramfs
from tests.vm.command import NotStartedError, PlaceError
from tests.vm.kernels import Kernel
from tests.vm.process import attend

__all__ = ["run"]

# CPU mitigations and five-level page tables, which cost most under emulation, are switched off. The
# clock is the host's TSC, which the guest cannot detect by itself. An oops, the end of init or a
# hang reboots the guest, and -no-reboot turns the reboot into the end of QEMU.
#
# The kernel's check that timer interrupts arrive fails on a busy host ("8254 timer not connected to
# IO-APIC"). With the same addresses in each process, QEMU translates a library only once.
KERNEL_PARAMETERS = (
    "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off nokaslr "
    "tsc=reliable clocksource=tsc random.trust_cpu=on norandmaps no_timer_check"
)

COMMAND = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb PYTHONUNBUFFERED=1
port=
until [ -c "$port" ]; do
	sleep 0.1
	for port in /dev/vport*; do :; done
done
{
%s
echo $? >/run/results/status
} 2>&1 </dev/null | cat >"$port"
echo b >/proc/sysrq-trigger
sleep 60
"""
# This long before a time limit, sysrq prints blocked tasks and the CPUs' stacks to the console.
LAST_WORDS_SECONDS = 30
# pytest prints its first line some 25 s after the start, and later on a busy machine.
FIRST_LINE_SECONDS = 360


def run(
    kernel: Kernel,
    command: str,
    results: Path,
    *,
    timeout: float,
    on_line: Callable[[str], None] = print,
    memory: str = "2G",
    cpus: int = 2,
    files: Path = Path("/"),
    within: Sequence[str] = (),
    init: str | None = None,
) -> int:
    """Run *command* with the shell, as root, on *kernel*; returns its exit status.

    *results* is the only host directory that the guest can write to, as /run/results. *on_line* is
    called with each line of output. Raises PlaceError when the guest ends without a status, after
    a panic or because *timeout* (seconds, for boot and command together) ran out; NotStartedError
    if there was no output at all.

    The guest's root is the host's directory *files*, read-only under an overlay. *within* is a
    command that runs QEMU where these files are mounted. *init* is a shell script to execute as
    process 1 in place of the usual one; it then has to see that /run/results/test, which runs
    *command*, is executed.
    """
    status = results / "status"
    status.unlink(missing_ok=True)
    (results / "test").write_text(COMMAND % command)
    (results / "command").write_text(init or COMMAND % command)
    limits = [limit - LAST_WORDS_SECONDS for limit in (FIRST_LINE_SECONDS, timeout)]
    (results / "initramfs").write_bytes(initramfs.build(kernel, limits))
    lines = 0

    def count(line: str) -> None:
        nonlocal lines
        lines += 1
        on_line(line)

    begin = time.monotonic()
    ended = attend(
        [*within, *_qemu(kernel, results, files, memory, cpus)],
        timeout,
        count,
        first_line=FIRST_LINE_SECONDS,
    )
    if ended is not None and status.exists():
        return int(status.read_text())
    seconds = time.monotonic() - begin
    last_words = f"the console's last lines:\n{_tail(results)}"
    if not lines:
        raise NotStartedError(f"the guest gave no output within {seconds:.0f} s; {last_words}")
    why = "did not finish" if ended is None else "died"
    raise PlaceError(f"the guest {why} within {seconds:.0f} s; {last_words}")


def _qemu(kernel: Kernel, results: Path, files: Path, memory: str, cpus: int) -> list[str]:
    # KVM is not used even where /dev/kvm exists: under nested virtualisation it may hang.
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise PlaceError('cannot find "qemu-system-x86_64": install qemu-system-x86')
    return [
        qemu,
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem,+rdrand",
        "-smp", str(cpus), "-m", memory,
        "-kernel", str(kernel.image), "-initrd", str(results / "initramfs"),
        "-append", KERNEL_PARAMETERS,
        "-serial", f"file:{results / 'console.log'}",
        "-device", "virtio-serial-pci",
        "-chardev", "file,id=output,path=/dev/stdout", "-device", "virtserialport,chardev=output",
        *_share("host", files, ",readonly=on"),
        *_share("results", results),
    ]  # fmt: skip


def _share(tag: str, path: Path, options: str = "") -> list[str]:
    quoted = str(path).replace(",", ",,")
    return [
        "-fsdev", f"local,id={tag},path={quoted},security_model=none,multidevs=remap{options}",
        "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]  # fmt: skip


def _tail(results: Path, lines: int = 200) -> str:
    log = results / "console.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
