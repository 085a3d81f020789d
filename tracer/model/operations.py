# SPDX-License-Identifier: MIT
"""The table of operations: the system calls and kernel functions that make up each of them.

The BPF programs' generated parts, the attach list, the metrics' labels, the dashboards, the
coverage table and the exactness tests are derived from `OPERATIONS` and `FUNCTIONS`. No other
module lists system calls or their numbers. The enumerations here become C enums of the same names
(`enumeration` in tracer/loading/source.py).

The numbers of the system calls are those of the kernel's arch/x86/entry/syscalls/syscall_64.tbl
and of include/uapi/asm-generic/unistd.h, which arm64 uses.
"""

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "FUNCTIONS",
    "MARKED",
    "OPERATIONS",
    "PATHS",
    "TRANSPORTS",
    "WAITING_OPERATIONS",
    "Argument",
    "Bytes",
    "Function",
    "Operation",
    "Returns",
    "Subject",
    "SystemCall",
    "operation_number",
    "system_calls",
]


class Subject(IntEnum):
    """What a system call acts on, and so whether a call of it counts and under which transport."""

    NONE = 0  # not traced: what the kernel side's table holds for all other numbers
    SOCKET = 1  # its first argument names a socket; a call on anything else failed, and counts
    ANY_FILE = 2  # its first argument may be any file; only calls on sockets count
    NEW_SOCKET = 3  # its arguments are family, type and protocol
    NO_SOCKET = 4  # it names no single socket: transport "other"
    UNCOUNTED = 5  # only marked as in flight, for the function layer (see `MARKED`)


class Bytes(IntEnum):
    """Where a successful call's number of bytes is found."""

    NONE = 0  # the call moves no data
    RETURNED = 1  # its return value
    MESSAGE_VECTOR = 2  # the msg_len fields of its struct mmsghdr array
    UNCOUNTED = 3  # the call is not counted at all (see `MARKED`)


@dataclass(frozen=True, slots=True)
class SystemCall:
    """One system call that is (a form of) an operation.

    `name` is the kernel's, as in the tracepoint `syscalls:sys_enter_<name>`. `x86_64` and `aarch64`
    are its numbers there; None where the architecture does not have it (`poll` on arm64).
    """

    name: str
    x86_64: int | None
    aarch64: int | None
    subject: Subject = Subject.SOCKET
    bytes: Bytes = Bytes.NONE

    def number_on(self, machine: str) -> int | None:
        """The number on "x86_64" or "aarch64"; None if that has no such call."""
        return {"x86_64": self.x86_64, "aarch64": self.aarch64}[machine]


class Argument(IntEnum):
    """Which argument of a function in the kernel identifies the socket."""

    SOCKET = 0  # the first, a struct socket
    SOCK = 1  # the first, a struct sock
    FILE = 2  # the second, a struct file
    NEW = 3  # the first three: family, type, protocol
    NEW_IN_NAMESPACE = 4  # the same, after the network namespace


class Returns(IntEnum):
    """What a function in the kernel returns."""

    STATUS = 0  # 0 or another success, or a negative errno
    BYTES = 1  # a number of bytes, or a negative errno
    NOTHING = 2  # it has no return value, so it has no errors


@dataclass(frozen=True, slots=True)
class Function:
    """A function in the kernel, traced from entry to return by a kprobe or by fentry.

    `operation` is set for functions that code in the kernel calls as an operation: a call counts as
    that operation with path "kernel", unless the function `serves_user_too`. For those, and for
    functions without an operation, the path is that of the socket it is given: "user" if the socket
    has a file. `transport` is set for functions of a protocol, where all sockets have the same
    transport. A call that the function `inside` makes is not counted: it would be the same
    operation twice.
    """

    name: str
    argument: Argument = Argument.SOCKET
    operation: str | None = None
    transport: str | None = None
    returns: Returns = Returns.STATUS
    serves_user_too: bool = False
    inside: str | None = None

    @property
    def returns_bytes(self) -> bool:
        """Whether a positive return is a number of bytes."""
        return self.returns is Returns.BYTES


@dataclass(frozen=True, slots=True)
class Operation:
    """One documented operation of the socket API.

    `name` is the label value; `system_calls` are the ways into the kernel from user space.
    """

    name: str
    system_calls: tuple[SystemCall, ...]


PATHS = ("user", "kernel")
TRANSPORTS = ("tcp", "udp", "unix", "other")

WAITING_OPERATIONS = ("accept", "recv", "recvmsg", "select")
"""Operations that wait for a peer by design: a long call is normal for them, not a fault.

The dashboards and alerts leave these out where they look for slow or stuck calls.
"""

_RETURNED = Bytes.RETURNED
_ANY = Subject.ANY_FILE
_NO = Subject.NO_SOCKET
_BYTES = Returns.BYTES
_SOCKET = SystemCall("socket", 41, 198, Subject.NEW_SOCKET)

OPERATIONS = (
    Operation("new", (_SOCKET,)),
    Operation("bind", (SystemCall("bind", 49, 200),)),
    Operation("listen", (SystemCall("listen", 50, 201),)),
    Operation("accept", (SystemCall("accept", 43, 202), SystemCall("accept4", 288, 242))),
    Operation("connect", (SystemCall("connect", 42, 203),)),
    Operation(
        "sendmsg",
        (
            SystemCall("sendmsg", 46, 211, bytes=_RETURNED),
            SystemCall("sendmmsg", 307, 269, bytes=Bytes.MESSAGE_VECTOR),
        ),
    ),
    Operation(
        "recvmsg",
        (
            SystemCall("recvmsg", 47, 212, bytes=_RETURNED),
            SystemCall("recvmmsg", 299, 243, bytes=Bytes.MESSAGE_VECTOR),
        ),
    ),
    Operation(
        "send",
        (
            SystemCall("sendto", 44, 206, bytes=_RETURNED),
            SystemCall("write", 1, 64, _ANY, _RETURNED),
            SystemCall("writev", 20, 66, _ANY, _RETURNED),
            SystemCall("sendfile64", 40, 71, _ANY, _RETURNED),
        ),
    ),
    Operation(
        "recv",
        (
            SystemCall("recvfrom", 45, 207, bytes=_RETURNED),
            SystemCall("read", 0, 63, _ANY, _RETURNED),
            SystemCall("readv", 19, 65, _ANY, _RETURNED),
        ),
    ),
    Operation("close", (SystemCall("close", 3, 57, _ANY),)),
    Operation("getsockname", (SystemCall("getsockname", 51, 204),)),
    Operation("getpeername", (SystemCall("getpeername", 52, 205),)),
    Operation("getsockopt", (SystemCall("getsockopt", 55, 209),)),
    Operation("setsockopt", (SystemCall("setsockopt", 54, 208),)),
    Operation(
        "poll",
        (SystemCall("epoll_create", 213, None, _NO), SystemCall("epoll_create1", 291, 20, _NO)),
    ),
    Operation(
        "select",
        (
            SystemCall("epoll_wait", 232, None, _NO),
            SystemCall("epoll_pwait", 281, 22, _NO),
            SystemCall("epoll_pwait2", 441, 441, _NO),
            SystemCall("poll", 7, None, _NO),
            SystemCall("ppoll", 271, 73, _NO),
            SystemCall("select", 23, None, _NO),
            SystemCall("pselect6", 270, 72, _NO),
        ),
    ),
)

MARKED = (
    _SOCKET,
    SystemCall("socketpair", 53, 199, Subject.UNCOUNTED, Bytes.UNCOUNTED),
)
"""System calls that call sock_create() in the kernel, like code that makes a socket for itself.

Beside the function layer they are marked as in flight even if they are not counted, so that these
calls of sock_create() are not taken for the kernel's own.
"""

FUNCTIONS = (
    # Called by code in the kernel for its own sockets.
    Function("sock_create_kern", Argument.NEW_IN_NAMESPACE, "new"),
    Function("sock_create", Argument.NEW, "new"),
    Function("kernel_bind", operation="bind"),
    Function("kernel_listen", operation="listen"),
    Function("kernel_accept", operation="accept"),
    Function("kernel_connect", operation="connect"),
    Function("kernel_sendmsg", operation="sendmsg", returns=_BYTES),
    Function("kernel_recvmsg", operation="recvmsg", returns=_BYTES),
    Function("sock_release", operation="close", returns=Returns.NOTHING),
    Function("kernel_getsockname", operation="getsockname"),
    Function("kernel_getpeername", operation="getpeername"),
    # Since 5.9 there are no kernel_getsockopt and kernel_setsockopt. What modules call instead
    # serves user space too; the socket's file tells the two apart. sock_setsockopt is for the level
    # SOL_SOCKET, the sock_common_ functions are for all others. sock_getsockopt is not exported, so
    # no module calls it. do_sock_getsockopt, on newer kernels, is for all levels.
    Function("do_sock_getsockopt", operation="getsockopt", serves_user_too=True),
    Function(
        "sock_common_getsockopt",
        operation="getsockopt",
        serves_user_too=True,
        inside="do_sock_getsockopt",
    ),
    Function("sock_setsockopt", operation="setsockopt", serves_user_too=True),
    Function("sock_common_setsockopt", operation="setsockopt", serves_user_too=True),
    # Passed by calls from user space and from the kernel: these split an operation's time.
    Function("sock_recvmsg", returns=_BYTES, serves_user_too=True),
    Function("sock_close", Argument.FILE, serves_user_too=True),
    Function("tcp_sendmsg", Argument.SOCK, None, "tcp", _BYTES, serves_user_too=True),
    Function("tcp_recvmsg", Argument.SOCK, None, "tcp", _BYTES, serves_user_too=True),
    Function("udp_sendmsg", Argument.SOCK, None, "udp", _BYTES, serves_user_too=True),
    Function("udp_recvmsg", Argument.SOCK, None, "udp", _BYTES, serves_user_too=True),
)


def system_calls() -> list[tuple[Operation, SystemCall]]:
    """Every system call of the table with its operation, in the table's order."""
    return [(operation, call) for operation in OPERATIONS for call in operation.system_calls]


def operation_number(name: str) -> int:
    """The number by which the kernel side knows the operation."""
    return [operation.name for operation in OPERATIONS].index(name)
