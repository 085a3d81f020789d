# SPDX-License-Identifier: MIT
import os
import socket
from collections.abc import Iterator

import pytest

from tracer.kernel.sock_diag import SocketInfo, sockets, sockets_of_namespaces
from tracer.model.connections import TcpState


def _found(made: socket.socket, transport: str, *, drops: bool = False) -> SocketInfo:
    inode = os.fstat(made.fileno()).st_ino
    (info,) = (info for info in sockets(transport, drops=drops) if info.inode == inode)
    return info


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=7) as made:
        yield made


def test_connected_socket_has_both_addresses_and_its_queues(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            client.send(b"12345")
            info = _found(accepted, "tcp")
            assert info.state_name == "ESTABLISHED"
            assert info.local_text == f"127.0.0.1:{listener.getsockname()[1]}"
            assert info.peer_text == f"127.0.0.1:{client.getsockname()[1]}"
            assert info.receive_queue == 5
            assert _found(client, "tcp").local == info.peer


def test_listener_tells_how_many_connections_wait_and_its_limit(listener: socket.socket) -> None:
    with (
        socket.create_connection(listener.getsockname()),
        socket.create_connection(listener.getsockname()),
    ):
        info = _found(listener, "tcp")
    assert (info.state, info.receive_queue, info.send_queue) == (TcpState.LISTEN, 2, 7)
    assert info.peer_text == ""


def test_only_the_wanted_states(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()):
        states = {info.state for info in sockets("tcp", states=1 << TcpState.LISTEN)}
    assert states == {TcpState.LISTEN}


def test_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as made:
        assert _found(made, "tcp").local_text == f"[::1]:{made.getsockname()[1]}"


def test_ipv4_in_ipv6_is_shown_as_ipv4() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as made:
        port = made.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = made.accept()
            with accepted:
                assert _found(accepted, "tcp").local_text == f"127.0.0.1:{port}"


def test_drops_of_a_full_datagram_socket() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        receiver.bind(("127.0.0.1", 0))
        assert _found(receiver, "udp", drops=True).drops == 0
        for _ in range(23):
            sender.sendto(bytes(1000), receiver.getsockname())
        drops = _found(receiver, "udp", drops=True).drops
        for _ in range(23 - drops):
            receiver.recv(1000)
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(1000)
        assert drops > 0


@pytest.mark.parametrize(("address", "text"), [("\0{}", "@{}"), ("{}", "{}")])
def test_unix_socket_has_a_name_and_a_peer(address: str, text: str, tmp_path: object) -> None:
    name = f"{tmp_path}/socket"
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        server.bind(address.format(name))
        server.listen()
        client.connect(address.format(name))
        accepted, _ = server.accept()
        with accepted:
            client.send(b"123")
            info = _found(accepted, "unix")
            assert info.local_text == text.format(name)
            assert info.peer_inode == os.fstat(client.fileno()).st_ino
            assert info.receive_queue == 3


def test_our_own_namespace_is_the_first(listener: socket.socket) -> None:
    inode = os.fstat(listener.fileno()).st_ino
    found = [[info.inode for info in namespace] for namespace in sockets_of_namespaces()]
    assert [inodes.count(inode) for inodes in found] == [1] + [0] * (len(found) - 1)
