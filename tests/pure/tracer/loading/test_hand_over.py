# SPDX-License-Identifier: MIT
"""What the loader's two processes send each other arrives unchanged."""

import ctypes
import errno
import json
from typing import Any

import pytest

from tracer.errors import PermissionRefused, ProgramError, TracerError, UnsupportedError, UsageError
from tracer.kernel.btf import KernelTypes
from tracer.loading.attachments import Attachment
from tracer.loading.function_layer import function_layer
from tracer.loading.hand_over import Order, Report, answer_from_json, answer_to_json
from tracer.model.config import Config
from tracer.model.layout import Layout, MapLayout


def by_json(data: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(json.dumps(data))
    return result


def test_an_order() -> None:
    order = Order(
        text='/* "\udcff" */\n',
        cast=4711,
        tables={"system_calls": {44: {"subject": 1, "probe": 3}}},
        attachments=(
            Attachment("raw_tracepoint", "exit_system_call", "sys_exit"),
            Attachment("fentry", "function_entered", "tcp_sendmsg", constants=(("NUMBER", 7),)),
        ),
        maps=("cells", "probes"),
        owner=23,
    )
    assert Order.from_json(by_json(order.to_json())) == order


def test_a_report() -> None:
    number = Layout.of(ctypes.c_uint32)
    report = Report(
        maps={"armed": MapLayout(number, number)},
        programs=("on_exec", "on_thread_end"),
        probes=("sys_exit", "sys_enter", "sched_process_exit"),
        failures={"sock_create": "Invalid argument"},
    )
    assert report.descriptors == 6
    assert answer_from_json(by_json(answer_to_json(report))) == report


@pytest.mark.parametrize(
    "kind", [TracerError, UnsupportedError, PermissionRefused, ProgramError, UsageError]
)
def test_an_error_comes_over_as_it_was(kind: type[TracerError]) -> None:
    error = kind("attach to", "tcp_sendmsg", None, errno.EPERM, "run as root")
    again = answer_from_json(by_json(answer_to_json(error)))
    assert type(again) is kind
    assert str(again) == str(error)
    assert isinstance(again, TracerError)
    assert again.to_json() == error.to_json()


def test_the_log_of_an_error_comes_over() -> None:
    error = ProgramError("load the BPF programs")
    error.log = "R0 = 0"
    again = answer_from_json(by_json(answer_to_json(error)))
    assert isinstance(again, ProgramError)
    assert again.log == "R0 = 0"


@pytest.mark.parametrize("mechanism", ["kprobe", "fentry"])
def test_an_order_with_the_function_layer(mechanism: str) -> None:
    with KernelTypes() as types:
        layer = function_layer(Config(), mechanism, types)
    assert layer.attachments
    order = Order(
        text="", cast=None, tables={}, attachments=layer.attachments, maps=layer.MAPS, owner=1
    )
    assert Order.from_json(by_json(order.to_json())) == order
