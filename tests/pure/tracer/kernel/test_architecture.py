# SPDX-License-Identifier: MIT
"""The system calls' numbers against the C library's headers, which the compiler asks."""

import platform
import re
import subprocess

import pytest

from tracer.errors import UnsupportedError
from tracer.kernel import architecture
from tracer.model.operations import system_calls

OTHER_NAMES = {"sendfile64": "sendfile"}  # the kernel's name, the headers' name
HEADERS = {"x86_64": "asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_headers(machine: str) -> None:
    if machine == "x86_64" != platform.machine():
        pytest.skip("the x86_64 headers are not on this machine")
    defined = _definitions(HEADERS[machine])
    numbers = architecture._ARCHITECTURES[machine].numbers
    assert {name: defined.get(f"__NR_{OTHER_NAMES.get(name, name)}") for name in numbers} == numbers


def _definitions(header: str) -> dict[str, int]:
    text = subprocess.run(
        ["gcc", "-E", "-dM", "-D__BITS_PER_LONG=64", "-include", header, "-"],
        input="",
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    names = dict(re.findall(r"#define (__NR\w*) (\w+)$", text, re.MULTILINE))
    for name, value in names.items():
        while value in names:
            value = names[value]  # noqa: PLW2901 - a name for another name
        names[name] = value
    return {name: int(value) for name, value in names.items() if value.isdigit()}


def test_every_system_call_is_known_on_x86_64() -> None:
    named = {call.name for _, call in system_calls()}
    assert named <= architecture._ARCHITECTURES["x86_64"].numbers.keys()


def test_another_architecture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    with pytest.raises(
        UnsupportedError, match=r'^cannot trace on "sparc64": .*needs x86_64 or aar'
    ):
        architecture.architecture()
