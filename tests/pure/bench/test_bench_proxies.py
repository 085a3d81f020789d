# SPDX-License-Identifier: MIT
"""Every proxy that is compared forwards all bytes and leaves nothing behind."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.bench.proxies import PEERS, Way, direct, lua_proxy, python_proxy
from tests.load import Target, download, echo_clients

_OURS: dict[str, Callable[[], AbstractContextManager[Way]]] = {
    "direct": direct,
    "loop": partial(python_proxy, "proxy_loop.py"),
    "threads": partial(python_proxy, "proxy_threads.py"),
    "bare": partial(python_proxy, "proxy_bare.py"),
    "lua": lua_proxy,
}


@pytest.mark.parametrize("name", _OURS)
def test_the_proxies_of_this_project_forward_all_bytes(name: str) -> None:
    with _OURS[name]() as way:
        _use(way)


@pytest.mark.parametrize("name", PEERS)
def test_the_other_proxies_forward_all_bytes(name: str) -> None:
    program, serving = PEERS[name]
    if shutil.which(program) is None:
        pytest.skip(f"no {program}: ./setup.sh bench installs it")
    if os.geteuid() != 0:
        pytest.skip("not root: dante and sshd change their user")
    with serving() as way:
        _use(way)
    assert not Path(f"/proc/{way.pid}").exists()


def _use(way: Way) -> None:
    with Target() as target:
        assert download(target.source, bytes=1_000_003, **way.options).bytes == 1_000_003
        done = echo_clients(target.echo, clients=5, each=1, requests=23, **way.options)
    assert (done.failed, done.requests) == (0, 23)
