# SPDX-License-Identifier: MIT
"""Which mechanisms are chosen, for each combination of what works on a kernel."""

from typing import cast

import pytest

from tracer.errors import UnsupportedError
from tracer.kernel.btf import KernelTypes
from tracer.loading import plan


class Types:
    """The types of a kernel that has these functions."""

    def __init__(self, *functions: str) -> None:
        self._functions = functions

    def function_id(self, name: str) -> int | None:
        return 1 if name in self._functions else None


OLD = cast("KernelTypes", Types())
NEW = cast("KernelTypes", Types("trace_call_bpf_faultable"))


def refuse(*_: object) -> None:
    raise UnsupportedError("use", "it", "this kernel refuses it")


def accept(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("types", "preempts", "prove", "mechanism"),
    [
        (OLD, False, accept, "tracepoint"),
        (OLD, True, accept, "tracepoint"),
        (NEW, False, accept, "tracepoint"),
        (NEW, True, accept, "kprobe_multi"),
        (NEW, True, refuse, "tracepoint"),
    ],
)
def test_kprobe_multi_is_chosen_only_where_tracepoints_are_preempted(
    monkeypatch: pytest.MonkeyPatch,
    types: KernelTypes,
    preempts: bool,
    prove: object,
    mechanism: str,
) -> None:
    monkeypatch.setattr(plan, "kernel_preempts", lambda: preempts)
    monkeypatch.setattr(plan, "prove_at_calls", prove)
    assert plan.operations_by(types) == mechanism


@pytest.mark.parametrize(
    ("preempts", "working", "mechanism"),
    [
        (False, {"kprobe", "fentry"}, "fentry"),
        (True, {"kprobe", "fentry"}, "kprobe"),
        (False, {"kprobe"}, "kprobe"),
        (True, {"fentry"}, "fentry"),
        (False, set(), None),
    ],
)
def test_auto_is_the_best_mechanism_that_works(
    monkeypatch: pytest.MonkeyPatch, preempts: bool, working: set[str], mechanism: str | None
) -> None:
    monkeypatch.setattr(plan, "kernel_preempts", lambda: preempts)
    monkeypatch.setattr(plan, "works", working.__contains__)
    assert plan._functions_by("auto") == mechanism


def test_a_requested_mechanism_is_used_or_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "prove", accept)
    assert plan._functions_by("kprobe") == "kprobe"
    assert plan._functions_by("tracepoint") is None
    monkeypatch.setattr(plan, "prove", refuse)
    with pytest.raises(UnsupportedError, match=r"^cannot use .*this kernel refuses it"):
        plan._functions_by("fentry")
