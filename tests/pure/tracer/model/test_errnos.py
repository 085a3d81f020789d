# SPDX-License-Identifier: MIT
"""The set of errnos that are no failures."""

from tracer.model.errnos import ERRNO_NAMES, EXPECTED_ERRNOS


def test_expected_errnos_are_sorted_and_are_names_that_the_reader_gives() -> None:
    assert list(EXPECTED_ERRNOS) == sorted(set(EXPECTED_ERRNOS))
    assert set(EXPECTED_ERRNOS) <= set(ERRNO_NAMES)


def test_would_block_and_interrupted_are_expected_and_failures_are_not() -> None:
    assert {"EAGAIN", "EINPROGRESS", "EALREADY", "EINTR", "ERESTARTSYS"} <= set(EXPECTED_ERRNOS)
    assert not {"ECONNREFUSED", "EPIPE", "ENOTCONN", "EBADF"} & set(EXPECTED_ERRNOS)
