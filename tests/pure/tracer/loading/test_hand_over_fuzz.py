# SPDX-License-Identifier: MIT
"""Any bytes, cut anywhere, with any descriptors, are one clear error and leave no descriptor."""

import ctypes
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracer.errors import ProgramError, TracerError
from tracer.loading import parent
from tracer.loading.attachments import Attachment
from tracer.loading.hand_over import (
    MalformedError,
    Order,
    Report,
    answer_from_json,
    answer_to_json,
    read_json,
)
from tracer.loading.parent import _assemble, _receive, _run_loader, program_for
from tracer.model.config import Config
from tracer.model.layout import Layout, MapLayout

ROOT = Path(__file__).parents[4]
TIMEOUT_SECONDS = 60

_NUMBER = Layout.of(ctypes.c_uint64)
REPORT = Report(
    maps={"armed": MapLayout(_NUMBER, _NUMBER), "cells": MapLayout(_NUMBER, _NUMBER)},
    programs=("on_exec",),
    probes=("sys_exit", "sys_enter"),
    failures={"sock_create": "Invalid argument"},
)
ERROR = ProgramError("attach to", "tcp_sendmsg", None, 1, "run as root")
ORDER = Order(
    text="int x;",
    cast=None,
    tables={"system_calls": {44: {"subject": 1}}},
    attachments=(Attachment("fentry", "f", "tcp_sendmsg", constants=(("NUMBER", 7),)),),
    maps=("cells",),
    owner=23,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in the data."""
    if not isinstance(data, dict | list):
        return []
    keys = list(data) if isinstance(data, dict) else list(range(len(data)))
    return [(data, key) for key in keys] + [p for key in keys for p in _places(data[key])]


@st.composite
def _changed(draw: st.DrawFn, original: dict[str, Any]) -> Any:
    """The original with a few parts removed, or replaced by anything."""
    data = deepcopy(json.loads(json.dumps(original)))
    for _ in range(draw(st.integers(1, 3))):
        if places := _places(data):
            container, key = draw(st.sampled_from(places))
            if draw(st.booleans()):
                container[key] = draw(JSON)
            else:
                del container[key]
    return data


ANSWERS = st.one_of(JSON, _changed(answer_to_json(REPORT)), _changed(answer_to_json(ERROR)))


def _read(raw: bytes) -> Report | TracerError | None:
    """What the parent makes of these bytes; None if they are malformed."""
    try:
        return answer_from_json(read_json(raw))
    except MalformedError:
        return None


@given(st.binary())
@example(b"")
@example(b"[" * 100_000)
@example(b"9" * 5000)
@example(b"\xff\xfe{\0}\0")
def test_any_bytes_are_malformed(raw: bytes) -> None:
    assert _read(raw) is None


@given(ANSWERS)
@example({"error": answer_to_json(ERROR)["error"] | {"errno": 2**70, "cause": None}})
@example({"report": answer_to_json(REPORT)["report"] | {"probes": [1]}})
def test_any_data_is_an_answer_or_malformed(data: Any) -> None:
    answer = _read(json.dumps(data).encode())
    if isinstance(answer, Report):
        assert answer.descriptors >= 0
        assert all(isinstance(target, str) for target in answer.probes)
    elif answer is not None:
        assert str(answer).startswith("cannot ")


@pytest.mark.parametrize("answer", [REPORT, ERROR])
def test_an_answer_that_is_cut_anywhere_is_malformed(answer: Report | TracerError) -> None:
    raw = json.dumps(answer_to_json(answer)).encode()
    assert _read(raw) is not None
    for end in range(len(raw)):
        assert _read(raw[:end]) is None, end


@pytest.mark.parametrize(("offset", "item_bytes", "length"), [(1, 8, 0), (0, 4, 3), (-8, 8, 0)])
def test_a_field_outside_of_its_struct_is_malformed(
    offset: int, item_bytes: int, length: int
) -> None:
    data = json.loads(json.dumps(answer_to_json(REPORT)))
    field = {"name": "x", "offset": offset, "item_bytes": item_bytes, "length": length}
    data["report"]["maps"]["cells"]["value"] = {"size": 8, "fields": [field]}
    with pytest.raises(MalformedError, match=r'^"x" is not inside of the values of cells$'):
        answer_from_json(data)


@given(JSON | _changed(ORDER.to_json()))
def test_any_data_is_an_order_or_malformed(data: Any) -> None:
    with suppress(MalformedError):
        order = Order.from_json(data)
        assert all(dict(item.constants) is not None for item in order.attachments)


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


MESSAGES = st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 8)), max_size=4)


@given(
    st.just(json.dumps(answer_to_json(REPORT)).encode())
    | st.binary()
    | ANSWERS.map(lambda data: json.dumps(data).encode()),
    st.integers(0, 3),
    MESSAGES,
)
@example(json.dumps(answer_to_json(REPORT)).encode(), 0, [(b".", 5)])
@example(json.dumps(answer_to_json(REPORT)).encode(), 3, [(b".", 2), (b".", 3), (b".", 8)])
@example(json.dumps(answer_to_json(REPORT)).encode(), 0, [(b".", 2), (b".", 4)])
@example(json.dumps(answer_to_json(REPORT)).encode(), 0, [(b"..", 2), (b"", 1)])
@example(json.dumps(answer_to_json(REPORT)).encode(), 0, [(b".", 0), (b".", 5)])
def test_no_descriptor_stays_open(
    first: bytes, with_first: int, messages: list[tuple[bytes, int]]
) -> None:
    """Whatever comes: all announced descriptors, or an error and none."""
    before = _open_descriptors()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptors: list[int] = []
    answer: Report | TracerError | None = None
    with ours:
        with theirs:
            for message, count in [(first, with_first), *messages]:
                socket.send_fds(theirs, [message], [0] * count)
        with suppress(MalformedError, OSError):
            answer, descriptors = _receive(ours)
    assert len(descriptors) == (answer.descriptors if isinstance(answer, Report) else 0)
    for descriptor in descriptors:
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
    assert _open_descriptors() == before


def test_descriptors_that_are_no_maps_are_closed() -> None:
    program = program_for(Config(mechanism="tracepoint", operations=("bind",)))
    before = _open_descriptors()
    descriptors = [os.dup(0) for _ in range(REPORT.descriptors)]
    with pytest.raises(ProgramError, match=r"^cannot read the maps of the BPF programs: "):
        _assemble(program, REPORT, descriptors)
    assert _open_descriptors() == before


def test_other_maps_than_ordered_are_an_error() -> None:
    program = program_for(Config(mechanism="tracepoint", operations=("bind",)))
    before = _open_descriptors()
    with pytest.raises(ProgramError, match=r"the maps are \[\]; please report this$"):
        _assemble(program, Report(maps={}, programs=(), probes=(), failures={}), [os.dup(0)])
    assert _open_descriptors() == before


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "the loader ended too early"),
        ("sock.send(b'')", "the loader ended too early"),
        ("sock.send(b'garbage')", "the loader's answer is malformed: it is not JSON"),
        ("sock.send(b'{}')", "the loader's answer is malformed: the answer has the keys []"),
        ("raise SystemExit('no luck')", "the loader ended too early; its last words: no luck"),
        (
            f"sock.send({json.dumps(answer_to_json(REPORT)).encode()!r});"
            "socket.send_fds(sock, [b'.'], [0] * 6)",
            "the loader's answer is malformed: 6 descriptors came, of 5 that were announced",
        ),
        (
            f"sock.send({json.dumps(answer_to_json(REPORT)).encode()!r});"
            "socket.send_fds(sock, [b'.'], [0] * 4)",
            "the loader ended too early",
        ),
    ],
)
def test_a_loader_that_sends_anything_else_is_one_error(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "import socket, sys; sock = socket.socket(fileno=int(sys.argv[1])); "
    monkeypatch.setattr(parent, "_START", head + code)
    before = _open_descriptors()
    with pytest.raises(TracerError) as error:
        _run_loader(ORDER, ())
    assert str(error.value).startswith(f"cannot load the BPF programs: {message}")
    assert str(error.value).endswith("please report this")
    assert _open_descriptors() == before


@pytest.mark.parametrize(
    "order", [b"", b"garbage", b"{}", b"[" * 100_000, json.dumps([1]).encode()]
)
def test_the_loader_answers_a_malformed_order(order: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(TIMEOUT_SECONDS)
        with theirs:
            done = subprocess.run(
                [
                    *(sys.executable, "-c"),
                    "import sys; from tracer.loading import child; child.main(int(sys.argv[1]))",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                input=order,
                capture_output=True,
                timeout=TIMEOUT_SECONDS,
                check=True,
                cwd=ROOT,
            )
        answer, _ = _receive(ours)
    assert isinstance(answer, TracerError)
    assert str(answer).startswith("cannot load the BPF programs: the order is malformed: ")
    assert done.stderr == b""
