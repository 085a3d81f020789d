# SPDX-License-Identifier: MIT
"""Every in-kernel operation, called a known number of times by a kernel module of our own.

The module (tests/vm/module) calls them over TCP, UDP and unix sockets, and keeps a tally. Three
accounts must agree exactly: the tables here, the module's tally, and what was traced. The tables
are written by hand from what the module does; nothing in them comes from tracer.model.operations.
"""

import errno
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.mechanisms import require
from tests.vm.kernel_module import NAME, VARIABLE
from tracer.model.config import Config
from tracer.model.snapshot import Series, difference
from tracer.session import Session


@dataclass(frozen=True)
class Calls:
    """Calls of one function or operation: all of them, their bytes, and the failures by errno."""

    count: int
    bytes: int
    errors: Counter[str]


# Python has two names for this one.
ERRNO_NAMES = dict(errno.errorcode) | {errno.EOPNOTSUPP: "EOPNOTSUPP"}

Table = dict[tuple[str, str], Calls]  # (function or operation, transport)


def calls(succeeded: int, moved: int = 0, **failed: int) -> Calls:
    return Calls(succeeded + sum(failed.values()), moved, Counter(failed))


# What the module calls, on every kernel. A message has 101 bytes; those that go without kernel_
# functions have 7; the datagrams to a closed port have 1.
MESSAGES, DIRECT = 23 * 101, 5 * 7
CALLED: Table = {
    ("sock_create_kern", "tcp"): calls(29),
    ("sock_create_kern", "udp"): calls(29),
    ("sock_create_kern", "unix"): calls(29, EPROTONOSUPPORT=5),
    ("sock_create_kern", "other"): calls(0, EINVAL=10),
    ("sock_create", "tcp"): calls(19),
    ("sock_create", "udp"): calls(19),
    ("sock_create", "unix"): calls(19, EPROTONOSUPPORT=3),
    ("sock_create", "other"): calls(0, EINVAL=6),
    ("kernel_bind", "tcp"): calls(31, EADDRINUSE=11),
    ("kernel_bind", "udp"): calls(31, EADDRINUSE=11),
    ("kernel_bind", "unix"): calls(31, EADDRINUSE=11),
    ("kernel_listen", "tcp"): calls(17, EINVAL=5),
    ("kernel_listen", "udp"): calls(0, EOPNOTSUPP=5),
    ("kernel_listen", "unix"): calls(17, EINVAL=5),
    ("kernel_accept", "tcp"): calls(23, EAGAIN=7),
    ("kernel_accept", "udp"): calls(0, EOPNOTSUPP=7),
    ("kernel_accept", "unix"): calls(23, EAGAIN=7),
    ("kernel_connect", "tcp"): calls(29, ECONNREFUSED=13),
    ("kernel_connect", "udp"): calls(31, EAFNOSUPPORT=13),
    ("kernel_connect", "unix"): calls(29, ECONNREFUSED=13),
    ("kernel_sendmsg", "tcp"): calls(23, MESSAGES, EPIPE=3),
    ("kernel_sendmsg", "udp"): calls(23 + 31 + 13, MESSAGES + 13),
    ("kernel_sendmsg", "unix"): calls(23, MESSAGES, ENOTCONN=3),
    ("kernel_recvmsg", "tcp"): calls(23 + 47, MESSAGES, EAGAIN=41),
    ("kernel_recvmsg", "udp"): calls(23 + 31, MESSAGES, EAGAIN=41, ECONNREFUSED=13),
    ("kernel_recvmsg", "unix"): calls(23 + 47, MESSAGES, EAGAIN=41),
    ("sock_sendmsg", "tcp"): calls(5, DIRECT),
    ("sock_sendmsg", "udp"): calls(5, DIRECT),
    ("sock_sendmsg", "unix"): calls(5, DIRECT),
    ("sock_recvmsg", "tcp"): calls(5, DIRECT),
    ("sock_recvmsg", "udp"): calls(5, DIRECT),
    ("sock_recvmsg", "unix"): calls(5, DIRECT),
    ("sock_release", "tcp"): calls(29 + 23 + 19),
    ("sock_release", "udp"): calls(29 + 19),
    ("sock_release", "unix"): calls(29 + 23 + 19),
    ("kernel_getsockname", "tcp"): calls(43),
    ("kernel_getsockname", "udp"): calls(43),
    ("kernel_getsockname", "unix"): calls(43),
    ("kernel_getpeername", "tcp"): calls(53, ENOTCONN=59),
    ("kernel_getpeername", "udp"): calls(53, ENOTCONN=59),
    ("kernel_getpeername", "unix"): calls(53, ENOTCONN=59),
    ("sock_setsockopt", "tcp"): calls(61, ENOPROTOOPT=67),
    ("sock_setsockopt", "udp"): calls(61, ENOPROTOOPT=67),
    ("sock_setsockopt", "unix"): calls(61, ENOPROTOOPT=67),
    ("sock_common_setsockopt", "tcp"): calls(71, ENOPROTOOPT=73),
    ("sock_common_setsockopt", "udp"): calls(71, ENOPROTOOPT=73),
    ("sock_common_getsockopt", "tcp"): calls(79, ENOPROTOOPT=83),
    ("sock_common_getsockopt", "udp"): calls(79, ENOPROTOOPT=83),
}

# And where modules may call these two: on 6.12 and 7.2.
CALLED_WITH_DO_SOCK_SOCKOPT: Table = {
    ("do_sock_setsockopt", "tcp"): calls(29 + 31, ENOPROTOOPT=37),
    ("do_sock_setsockopt", "udp"): calls(29 + 31, ENOPROTOOPT=37),
    ("do_sock_setsockopt", "unix"): calls(29, ENOPROTOOPT=37),
    ("do_sock_getsockopt", "tcp"): calls(89 + 19, ENOPROTOOPT=97),
    ("do_sock_getsockopt", "udp"): calls(89 + 19, ENOPROTOOPT=97),
    ("do_sock_getsockopt", "unix"): calls(89, ENOPROTOOPT=97),
}

# The functions whose calls are operations.
OPERATION = {
    "sock_create_kern": "new",
    "sock_create": "new",
    "kernel_bind": "bind",
    "kernel_listen": "listen",
    "kernel_accept": "accept",
    "kernel_connect": "connect",
    "kernel_sendmsg": "sendmsg",
    "kernel_recvmsg": "recvmsg",
    "sock_release": "close",
    "kernel_getsockname": "getsockname",
    "kernel_getpeername": "getpeername",
    "sock_setsockopt": "setsockopt",
    "sock_common_setsockopt": "setsockopt",
    "sock_common_getsockopt": "getsockopt",
    "do_sock_getsockopt": "getsockopt",
}

# On 5.10 fentry has no functions with a struct among their arguments (sockptr_t).
NOT_BY_FENTRY = {"kernel/5.10": {"sock_setsockopt", "sock_common_setsockopt"}}

# The functions that a call of one passes, as far as they are traced.
PASSED_ON = {
    "kernel_sendmsg": {"tcp": ["tcp_sendmsg"], "udp": ["udp_sendmsg"]},
    "sock_sendmsg": {"tcp": ["tcp_sendmsg"], "udp": ["udp_sendmsg"]},
    "kernel_recvmsg": {
        "tcp": ["sock_recvmsg", "tcp_recvmsg"],
        "udp": ["sock_recvmsg", "udp_recvmsg"],
        "unix": ["sock_recvmsg"],
    },
    "sock_recvmsg": {"tcp": ["tcp_recvmsg"], "udp": ["udp_recvmsg"]},
}

# do_sock_setsockopt() is counted by the functions that it calls. do_sock_getsockopt() is counted
# itself, and so not a second time by sock_common_getsockopt().
PASSED_ON_BY_DO_SOCK_SOCKOPT: Table = {
    ("sock_setsockopt", "tcp"): calls(29, ENOPROTOOPT=37),
    ("sock_setsockopt", "unix"): calls(29, ENOPROTOOPT=37),
    ("sock_common_setsockopt", "tcp"): calls(31),
    # UDP sets options of every level itself (SOCK_CUSTOM_SOCKOPT).
    ("sock_common_setsockopt", "udp"): calls(29 + 31, ENOPROTOOPT=37),
}


# There the compiler has put sock_recvmsg into kernel_recvmsg, seen in the kernels' code.
RECVMSG_IS_INLINE = ("kernel/6.12", "kernel/7.2")


def total(*tables: Table) -> Table:
    """The sum of the calls under each key."""
    result: Table = {}
    for table in tables:
        for key, these in table.items():
            old = result.get(key, calls(0))
            result[key] = Calls(
                old.count + these.count, old.bytes + these.bytes, old.errors + these.errors
            )
    return result


def passed_on(called: Table, ring: str) -> Table:
    """The calls of the functions that the called ones pass."""
    inline = ("kernel_recvmsg", "sock_recvmsg") if ring in RECVMSG_IS_INLINE else None
    return total(
        *(
            {(inner, transport): these}
            for (function, transport), these in called.items()
            for inner in PASSED_ON.get(function, {}).get(transport, [])
            if (function, inner) != inline
        )
    )


def operations_of(functions: Table) -> Table:
    return total(
        *(
            {(OPERATION[function], transport): these}
            for (function, transport), these in functions.items()
            if function in OPERATION
        )
    )


def traced(series: tuple[Series, ...]) -> Table:
    """What was counted of the kernel's own sockets."""
    return total(
        *(
            {(s.name, s.transport): Calls(a.count, a.bytes, Counter(a.errors))}
            for s in series
            if s.path == "kernel"
            for a in [s.aggregate]
        )
    )


def tally() -> Table:
    """What the module says that it called."""
    result: Table = {}
    for line in Path("/proc", NAME).read_text().splitlines():
        function, transport, error, count, moved = line.split()
        failed = {ERRNO_NAMES[int(error)]: int(count)} if int(error) else {}
        these = Calls(int(count), int(moved), Counter(failed))
        result = total(result, {(function, transport): these})
    return result


@pytest.fixture
def module() -> Iterator[Path]:
    """The built module; not loaded, and not left behind."""
    built = os.environ.get(VARIABLE)
    if built is None:
        reason = f"{VARIABLE} is not set: run in the VM ring of tests, which builds the module"
        if os.environ.get("LUNATIK_SOCKET_RING", "").startswith("kernel/"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield Path(built)
    if Path("/sys/module", NAME).exists():
        subprocess.run(["rmmod", NAME], check=True, timeout=60)


def exported() -> set[str]:
    """The functions that a module may call on this kernel."""
    lines = (line.split() for line in Path("/proc/kallsyms").read_text().splitlines())
    prefix = "__ksymtab_"
    return {words[2].removeprefix(prefix) for words in lines if words[2].startswith(prefix)}


@pytest.mark.parametrize("mechanism", ["fentry", "kprobe"])
def test_every_operation_of_the_kernel_module(mechanism: str, module: Path) -> None:
    require(mechanism)
    with Session(Config(mechanism=mechanism)) as session:
        before = session.snapshot()
        subprocess.run(["insmod", module], check=True, timeout=300)
        after = session.snapshot()
    ours = difference(before, after)
    assert after.lost == before.lost

    ring = os.environ.get("LUNATIK_SOCKET_RING", "")
    called, inside = CALLED, passed_on(CALLED, ring)
    if "do_sock_getsockopt" in exported():
        called = total(called, CALLED_WITH_DO_SOCK_SOCKOPT)
        inside = total(inside, PASSED_ON_BY_DO_SOCK_SOCKOPT)
    assert tally() == called

    attached = {probe.name for probe in after.probes if probe.attached}
    missing = {function for function, _ in called if function in OPERATION} - attached
    assert missing == (NOT_BY_FENTRY.get(ring, set()) if mechanism == "fentry" else set())

    functions = {key: these for key, these in total(called, inside).items() if key[0] in attached}
    assert traced(ours.functions) == functions
    assert traced(ours.operations) == operations_of(functions)
    print(f"{sum(these.count for these in called.values())} calls of {len(called)} kinds")
