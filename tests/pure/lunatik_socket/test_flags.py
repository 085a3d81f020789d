# SPDX-License-Identifier: MIT
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunatik_socket.flags import LETTERS, flags_value

# The numbers of the kernel's linux/socket.h, to find a letter with the wrong constant.
KERNEL = {"D": 0x40, "P": 0x2, "W": 0x100, "T": 0x20, "O": 0x1, "N": 0x4000, "M": 0x8000}


def test_each_letter_is_its_kernel_constant() -> None:
    assert LETTERS == KERNEL
    assert LETTERS["D"] == socket.MSG_DONTWAIT


@given(st.lists(st.sampled_from(sorted(KERNEL))))
def test_a_string_sets_the_flag_of_each_letter(letters: list[str]) -> None:
    wanted = sum(KERNEL[letter] for letter in set(letters))
    assert flags_value("".join(letters)) == wanted


@given(st.text())
def test_any_other_letter_is_refused(text: str) -> None:
    if set(text) <= set(KERNEL):
        return
    with pytest.raises(ValueError, match=r"^invalid flags name "):
        flags_value(text)


@given(st.integers())
def test_an_integer_that_fits_a_c_int_is_returned_unchanged(number: int) -> None:
    if 0 <= number < 1 << 31:
        assert flags_value(number) == number
    else:
        with pytest.raises(ValueError, match=r"^flags out of range: "):
            flags_value(number)


@pytest.mark.parametrize("flags", [None, 1.0, b"D", ["D"]])
def test_flags_of_another_type_are_refused(flags: object) -> None:
    wanted = f"^flags must be an integer or a string, not {type(flags).__name__}$"
    with pytest.raises(TypeError, match=wanted):
        flags_value(flags)
