# SPDX-License-Identifier: MIT
"""Errors as objects: the fields, the text, the way to another process."""

import errno
import json

import pytest

from tracer.errors import (
    PermissionRefused,
    ProgramError,
    TracerError,
    UnsupportedError,
    UsageError,
    describe_errno,
    errno_name,
    one_line,
)

KINDS = [TracerError, UnsupportedError, PermissionRefused, ProgramError, UsageError]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TracerError("serve"), "cannot serve"),
        (TracerError("run", "x.py"), 'cannot run "x.py"'),
        (TracerError("serve", cause="no room"), "cannot serve: no room"),
        (TracerError("serve", hint="stop one"), "cannot serve; stop one"),
        (
            TracerError("write", "/f", errno=errno.ENOSPC, hint="choose another --output"),
            'cannot write "/f": No space left on device (ENOSPC); choose another --output',
        ),
        (
            UnsupportedError(
                "use", "fentry", "this kernel refuses fentry", errno.EPERM, "try root"
            ),
            'cannot use "fentry": this kernel refuses fentry (EPERM); try root',
        ),
        (
            TracerError.of(FileNotFoundError(errno.ENOENT, "no such thing"), "read", "/f"),
            'cannot read "/f": no such thing (ENOENT)',
        ),
        (TracerError.of(OSError("it just failed"), "read"), "cannot read: it just failed"),
    ],
)
def test_the_text_has_the_fields_that_are_set(error: TracerError, text: str) -> None:
    assert str(error) == text


def test_the_reason_is_cause_and_errno() -> None:
    assert TracerError("serve", errno=errno.EACCES).reason == "Permission denied (EACCES)"
    assert TracerError("serve", cause="no room; really").reason == "no room; really"
    assert TracerError("serve").reason == ""


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_to_another_process_as_data(kind: type[TracerError]) -> None:
    sent = kind("read", "/f", "it is gone; for good: yes", errno.ENOENT, "make it; then retry")
    received = TracerError.from_json(json.loads(json.dumps(sent.to_json())))
    assert type(received) is kind
    assert received.to_json() == sent.to_json()
    assert str(received) == str(sent)
    assert received.exit_status == (2 if kind is UsageError else 3)


def test_errnos_by_name() -> None:
    assert describe_errno(errno.ENOENT) == "No such file or directory (ENOENT)"
    assert (errno_name(errno.EPERM), errno_name(524), errno_name(None)) == ("EPERM", "524", "None")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.EPIPE, 'cannot send to "a:1": it is gone'),
            'cannot send to "a:1": it is gone',
        ),
        (OSError("no number"), "no number"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/f"),
            'cannot use "/f": No such file (ENOENT)',
        ),
        (OSError(errno.EIO, "Bad disk"), "cannot write the output: Bad disk (EIO)"),
    ],
)
def test_a_system_error_is_one_line(error: OSError, text: str) -> None:
    assert one_line(error) == text
