# SPDX-License-Identifier: MIT
"""The connection layer: what its programs need to know of this kernel, and where they attach.

The programs are those of bpf/connections.bpf.c, and the part of bpf/operations.bpf.c that is
compiled in with the macro CONNECTIONS (bpf/turns.h).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tracer.kernel.btf import KernelTypes
from tracer.kernel.maps import possible_cpus
from tracer.loading.attachments import COPY, Attachment
from tracer.model.config import Config
from tracer.model.connections import ABORTED, ROLES

__all__ = ["ConnectionLayer", "connection_layer"]

_FOLLOWING = {
    "connection_destroyed": "tcp_destroy_sock",
    "connection_changed_state": "inet_sock_set_state",
}
"""Programs that do no harm when they run twice, and their tracepoints."""

_COUNTING = {
    "connection_retransmits": "tcp_retransmit_skb",
    "connection_sends_reset": "tcp_send_reset",
    "connection_receives_reset": "tcp_receive_reset",
}
"""Programs that count each event, and their tracepoints."""

_SOCKET_SLOTS = 16_384  # a power of two; an entry takes some 200 bytes
_DATAGRAM_SOCKETS = 4096
_ACCEPT_QUEUE = 65_536  # connections of the whole machine that wait to be accepted
_IN_ADVANCE = 16_384  # where the memory of maps is taken in advance
_DURATIONS_OF_PEER = 4  # as a rule: connects of two results, answers, lives
_BPF_F_NO_PREALLOC = 1

_FIELDS = (
    ("task_struct", "group_leader"),
    ("task_struct", "comm"),
    ("sock", "sk_err"),
    ("sock_common", "skc_state"),
    ("sock_common", "skc_daddr"),
    ("sock_common", "skc_rcv_saddr"),
    ("tcp_sock", "total_retrans"),
)
_FIELDS_OF_IPV6 = (("sock_common", "skc_v6_daddr"), ("sock_common", "skc_v6_rcv_saddr"))


@dataclass(frozen=True, slots=True)
class ConnectionLayer:
    """What the C text and the loader need for it; all empty if it is off."""

    MAPS: ClassVar = (
        "sockets",
        "slots_taken",
        "more_sockets",
        "datagram_sockets",
        "accept_queue",
        "peers",
        "other_peers",
        "durations",
        "listening",
    )

    attachments: tuple[Attachment, ...] = ()
    macros: tuple[tuple[str, object], ...] = ()


def connection_layer(
    config: Config, types: KernelTypes, *, with_copies: bool
) -> ConnectionLayer | None:
    """The layer for these settings, None if it is off."""
    if not config.connections:
        return None
    return ConnectionLayer(
        tuple(_attachments(with_copies=with_copies)),
        tuple((_sizes(config, types) | _macros(config, types)).items()),
    )


def _attachments(*, with_copies: bool) -> Iterator[Attachment]:
    for program, tracepoint in (_FOLLOWING | _COUNTING).items():
        yield Attachment("raw_tracepoint", program, tracepoint)
        if with_copies and program in _FOLLOWING:
            yield Attachment("raw_tracepoint", program, tracepoint, COPY)


def _sizes(config: Config, types: KernelTypes) -> dict[str, object]:
    """Room in the maps. From 6.1 on, entries of hashes take memory only when they are made."""
    on_demand = types.function_id("bpf_mem_alloc_init") is not None
    slots = min(_SOCKET_SLOTS, 1 << max(0, config.sockets.bit_length() - 1))
    more = max(1, config.sockets - slots)
    cells = config.peers * possible_cpus() * (_DURATIONS_OF_PEER if on_demand else 1)
    return {
        "CONNECTIONS": 1,
        "CONNECTION_MAP_FLAGS": _BPF_F_NO_PREALLOC if on_demand else 0,
        "SOCKET_SLOTS": slots,
        "MORE_SOCKETS": more if on_demand else min(more, _IN_ADVANCE),
        "DATAGRAM_SOCKETS": _DATAGRAM_SOCKETS,
        "ACCEPT_QUEUE": _ACCEPT_QUEUE,
        "PEERS": config.peers,
        "DURATION_CELLS": cells,
    }


def _macros(config: Config, types: KernelTypes) -> dict[str, object]:
    here = types.has_field("sock_common", "skc_v6_daddr")
    macros: dict[str, object] = {
        f"{struct}_{field}".upper(): types.offset_of(struct, field)
        for struct, field in (*_FIELDS, *(_FIELDS_OF_IPV6 if here else ()))
    }
    for tracepoint in (_FOLLOWING | _COUNTING).values():
        macros[f"{tracepoint}_SOCK".upper()] = types.tracepoint_argument(tracepoint, "sock")
    if config.label == "pid":
        macros["PEERS_BY_PID"] = 1
    return macros | {
        "ROLES": len(ROLES),
        "RESULT_ABORTED": ABORTED,
        # struct socket_alloc is a struct socket and its inode.
        "SOCKET_INODE": types.offset_of("socket_alloc", "vfs_inode")
        + types.offset_of("inode", "i_ino"),
        **_references(types),
    }


def _references(types: KernelTypes) -> dict[str, object]:
    """Where a file's number of references is, and its value for one reference.

    Commit 90ee6ed776c0 ("fs: port files to file_ref") in 6.13 replaced the plain number by one that
    starts from 0.
    """
    if types.has_field("file", "f_ref"):
        return {"FILE_REFERENCES": types.offset_of("file", "f_ref"), "ONE_REFERENCE": 0}
    return {"FILE_REFERENCES": types.offset_of("file", "f_count"), "ONE_REFERENCE": 1}
