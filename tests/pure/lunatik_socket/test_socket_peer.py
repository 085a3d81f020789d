# SPDX-License-Identifier: MIT
"""`Socket.peer`: who is at the other end, without asking the kernel."""

from lunatik_socket import new


def test_peer_is_what_accept_and_connect_told() -> None:
    with new() as listener, new() as client:
        listener.bind("127.0.0.1", 0)
        listener.listen(1)
        assert client.peer is None
        client.connect(*listener.getsockname())
        with listener.accept() as accepted:
            assert client.peer == listener.getsockname() == client.getpeername()
            assert accepted.peer == client.getsockname() == accepted.getpeername()


def test_peer_outlives_the_connection() -> None:
    with new() as listener, new() as client:
        listener.bind("127.0.0.1", 0)
        listener.listen(1)
        client.connect(*listener.getsockname())
        name = client.getsockname()
        accepted = listener.accept()
        client.close()
        accepted.close()
        assert accepted.peer == name
