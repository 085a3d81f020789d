# SPDX-License-Identifier: MIT
"""An accepted descriptor becomes a socket by writing its C struct, or else in Python's own way."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import socket as python_socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lunatik_socket import adopt, new
from tests.pure.lunatik_socket.connections import listening


def test_the_struct_is_proved_on_this_python() -> None:
    assert adopt._proved()
    assert adopt.EXTRA_SYSTEM_CALLS == {}


def test_the_proof_leaves_no_descriptor_and_makes_no_socket() -> None:
    gc.collect()
    before = sorted(Path("/proc/self/fd").iterdir())
    assert adopt._proved()
    gc.collect()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("_HEAD", 24), ("_TAIL_BYTES", -8), ("_TAIL_BYTES", 16), ("_NO_TIMEOUT_NS", 0)],
)
def test_another_struct_is_not_taken_for_this_one(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(adopt, name, value)
    assert not adopt._proved()


def module_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    spec = importlib.util.spec_from_file_location("adopt_again", adopt.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_the_proof_python_s_own_way_is_taken_and_its_cost_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordinary = module_without_ctypes(monkeypatch)
    assert ordinary.EXTRA_SYSTEM_CALLS == {"accept": ("getsockname",)}
    monkeypatch.setattr("lunatik_socket.socket.adopt", ordinary.adopt)
    python_socket.setdefaulttimeout(1.0)
    try:
        with listening() as (listener, ip, port), new() as client:
            client.connect(ip, port)
            with listener.accept() as accepted:
                assert accepted.gettimeout() is None
                client.send(b"x")
                assert accepted.recv(1) == (b"x", 1)
    finally:
        python_socket.setdefaulttimeout(None)


@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13", "python3.14"])
def test_other_pythons_of_this_machine_accept_as_well(name: str) -> None:
    script = """
import lunatik_socket as l, sys
s = l.new(); s.bind("127.0.0.1", 0); s.listen(1)
c = l.new(); c.connect(*s.getsockname())
a = s.accept(); c.send(b"x")
assert a.recv(1) == (b"x", 1) and a.getpeername() == c.getsockname()
assert sys.version_info >= (3, 15) or l.EXTRA_SYSTEM_CALLS == {}
a.shutdown()
try:
    a.send(b"y")
except BrokenPipeError:
    print("good")
"""
    root = str(Path(adopt.__file__).parents[1])
    if shutil.which(name) is None or subprocess.run([name, "-c", ""], check=False).returncode != 0:
        pytest.skip(f"needs {name}, one of the Pythons this package supports, working on PATH")
    done = subprocess.run(
        [name, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "good\n", "")
