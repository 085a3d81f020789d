# SPDX-License-Identifier: MIT
"""What the loader's two processes send each other stays what it was."""

import ctypes
import json
from typing import Any

import pytest

from tracer.errors import ProgramError, TracerError
from tracer.loading.attachments import Attachment
from tracer.loading.hand_over import Failure, Order, Report, answer_from_json
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
    assert answer_from_json(by_json(report.to_json())) == report


@pytest.mark.parametrize("kind", [TracerError, *TracerError.__subclasses__()])
def test_an_error_comes_over_as_it_was(kind: type[TracerError]) -> None:
    error = kind("cannot do it: because; do that")
    answer = answer_from_json(by_json(Failure.of(error).to_json()))
    assert isinstance(answer, Failure)
    again = answer.exception()
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.args, vars(again)) == (error.args, vars(error))


def test_the_log_of_an_error_comes_over() -> None:
    error = ProgramError("refused")
    error.log = "R0 = 0"
    answer = answer_from_json(by_json(Failure.of(error).to_json()))
    assert isinstance(answer, Failure)
    again = answer.exception()
    assert isinstance(again, ProgramError)
    assert again.log == "R0 = 0"
