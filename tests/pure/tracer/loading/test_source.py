# SPDX-License-Identifier: MIT
"""The generated part of the C text: every enumeration has one definition, in Python."""

import re
from pathlib import Path

from tracer.loading import source
from tracer.model.operations import Subject

BPF = Path(__file__).parents[4] / "bpf"


def test_an_enumeration_of_names_has_their_positions() -> None:
    text = source.enumeration("path", ("user", "of_socket"))
    assert text == "enum { PATH_USER = 0, PATH_OF_SOCKET = 1 };"


def test_an_enumeration_of_a_class_has_its_numbers() -> None:
    text = source.enumeration("subject", Subject)
    assert text.startswith("enum { SUBJECT_NONE = 0, SUBJECT_SOCKET = 1,")
    assert text.count(" = ") == len(Subject)


def test_the_c_text_defines_no_enumeration_itself() -> None:
    generated = [source.enumeration(*each) for each in source._ENUMERATIONS.items()]
    names = set(re.findall(r"\w+(?= = )", "\n".join(generated)))
    assert {"PATH_KERNEL", "TRANSPORT_TCP", "EVENT_START_MAP_FULL", "BYTES_RETURNED"} <= names
    for path in [*BPF.glob("*.h"), *BPF.glob("*.c")]:
        text = path.read_text()
        assert not re.search(r"\benum\b[^;*]*\{", text), path.name
        assert not names & set(re.findall(r"#define (\w+)", text)), path.name
