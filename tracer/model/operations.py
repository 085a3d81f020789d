# SPDX-License-Identifier: MIT
"""The one table: which places in the kernel make up each documented operation.

The BPF programs' generated parts, the attach list, the metrics' labels, the dashboards, the
coverage table and the exactness tests are all derived from `OPERATIONS`; nothing else in the
project lists system calls.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "FUNCTIONS",
    "OPERATIONS",
    "PATHS",
    "TRANSPORTS",
    "WAITING_OPERATIONS",
    "Argument",
    "Bytes",
    "Function",
    "Operation",
    "Subject",
    "SystemCall",
    "system_calls",
]


class Subject(Enum):
    """What a system call acts on, and so whether a call of it counts and under which transport."""

    SOCKET = (
        "socket"  # its first argument names a socket; a call on anything else failed, and counts
    )
    ANY_FILE = "any_file"  # its first argument may be any file; only calls on sockets count
    NEW_SOCKET = "new_socket"  # its arguments are family, type and protocol
    NO_SOCKET = "no_socket"  # it names no one socket: transport "other"


class Bytes(Enum):
    """Where a successful call's number of bytes stands."""

    NONE = "none"  # the call moves no data
    RETURNED = "returned"  # its return value
    MESSAGE_VECTOR = "message_vector"  # the msg_len fields of its struct mmsghdr array


@dataclass(frozen=True, slots=True)
class SystemCall:
    """One system call that is (a form of) an operation.

    `name` is the kernel's, as in the tracepoint `syscalls:sys_enter_<name>`. A call that an
    architecture does not have (`poll` on arm64) is left out there.
    """

    name: str
    subject: Subject = Subject.SOCKET
    bytes: Bytes = Bytes.NONE


class Argument(Enum):
    """Which argument of a function in the kernel tells the socket."""

    SOCKET = "socket"  # the first, a struct socket
    SOCK = "sock"  # the first, a struct sock
    FILE = "file"  # the second, a struct file
    NEW = "new"  # the first three: family, type, protocol
    NEW_IN_NAMESPACE = "new_in_namespace"  # the same, after the network namespace


@dataclass(frozen=True, slots=True)
class Function:
    """A function in the kernel, traced from entry to return by a kprobe or by fentry.

    `operation` is set for those that code in the kernel calls as an operation: a call of it counts
    as that operation with path "kernel", unless it `serves_user_too`: then, as for all the others,
    the path is that of the socket it is given, "user" if that has a file. `transport` is set for
    functions of a protocol, whose sockets are all of one. `returns_bytes` says that
    a positive return is a number of bytes; `returns_nothing` that it has no value, so no errors.
    """

    name: str
    argument: Argument = Argument.SOCKET
    operation: str | None = None
    transport: str | None = None
    returns_bytes: bool = False
    returns_nothing: bool = False
    serves_user_too: bool = False


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

OPERATIONS = (
    Operation("new", (SystemCall("socket", Subject.NEW_SOCKET),)),
    Operation("bind", (SystemCall("bind"),)),
    Operation("listen", (SystemCall("listen"),)),
    Operation("accept", (SystemCall("accept"), SystemCall("accept4"))),
    Operation("connect", (SystemCall("connect"),)),
    Operation(
        "sendmsg",
        (
            SystemCall("sendmsg", bytes=_RETURNED),
            SystemCall("sendmmsg", bytes=Bytes.MESSAGE_VECTOR),
        ),
    ),
    Operation(
        "recvmsg",
        (
            SystemCall("recvmsg", bytes=_RETURNED),
            SystemCall("recvmmsg", bytes=Bytes.MESSAGE_VECTOR),
        ),
    ),
    Operation(
        "send",
        (
            SystemCall("sendto", bytes=_RETURNED),
            SystemCall("write", _ANY, _RETURNED),
            SystemCall("writev", _ANY, _RETURNED),
            SystemCall("sendfile64", _ANY, _RETURNED),
        ),
    ),
    Operation(
        "recv",
        (
            SystemCall("recvfrom", bytes=_RETURNED),
            SystemCall("read", _ANY, _RETURNED),
            SystemCall("readv", _ANY, _RETURNED),
        ),
    ),
    Operation("close", (SystemCall("close", _ANY),)),
    Operation("getsockname", (SystemCall("getsockname"),)),
    Operation("getpeername", (SystemCall("getpeername"),)),
    Operation("getsockopt", (SystemCall("getsockopt"),)),
    Operation("setsockopt", (SystemCall("setsockopt"),)),
    Operation("poll", (SystemCall("epoll_create", _NO), SystemCall("epoll_create1", _NO))),
    Operation(
        "select",
        (
            SystemCall("epoll_wait", _NO),
            SystemCall("epoll_pwait", _NO),
            SystemCall("epoll_pwait2", _NO),
            SystemCall("poll", _NO),
            SystemCall("ppoll", _NO),
            SystemCall("select", _NO),
            SystemCall("pselect6", _NO),
        ),
    ),
)


FUNCTIONS = (
    # What code in the kernel calls to use a socket of its own.
    Function("sock_create_kern", Argument.NEW_IN_NAMESPACE, "new"),
    Function("sock_create", Argument.NEW, "new"),
    Function("kernel_bind", operation="bind"),
    Function("kernel_listen", operation="listen"),
    Function("kernel_accept", operation="accept"),
    Function("kernel_connect", operation="connect"),
    Function("kernel_sendmsg", operation="sendmsg", returns_bytes=True),
    Function("kernel_recvmsg", operation="recvmsg", returns_bytes=True),
    Function("sock_release", operation="close", returns_nothing=True),
    Function("kernel_getsockname", operation="getsockname"),
    Function("kernel_getpeername", operation="getpeername"),
    # Since 5.9 there is no kernel_getsockopt; these serve user space too, told apart by the file.
    Function("sock_getsockopt", operation="getsockopt", serves_user_too=True),
    Function("sock_setsockopt", operation="setsockopt", serves_user_too=True),
    # What the calls of both go through: these split an operation's time.
    Function("sock_recvmsg", returns_bytes=True, serves_user_too=True),
    Function("sock_close", Argument.FILE, serves_user_too=True),
    Function("tcp_sendmsg", Argument.SOCK, None, "tcp", returns_bytes=True, serves_user_too=True),
    Function("tcp_recvmsg", Argument.SOCK, None, "tcp", returns_bytes=True, serves_user_too=True),
    Function("udp_sendmsg", Argument.SOCK, None, "udp", returns_bytes=True, serves_user_too=True),
    Function("udp_recvmsg", Argument.SOCK, None, "udp", returns_bytes=True, serves_user_too=True),
)


def system_calls() -> list[tuple[Operation, SystemCall]]:
    """Every system call of the table with its operation, in the table's order."""
    return [(operation, call) for operation in OPERATIONS for call in operation.system_calls]
