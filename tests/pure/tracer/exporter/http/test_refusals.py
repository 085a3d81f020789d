# SPDX-License-Identifier: MIT
"""Refusals are counted, and logged at most once a minute."""

import logging

import pytest

from tracer.exporter.http import refusals
from tracer.exporter.http.refusals import REASONS, Refusals


def test_the_first_is_logged_at_once_and_the_others_together_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(refusals.time, "monotonic", lambda: now[0])
    counted = Refusals()
    with caplog.at_level(logging.WARNING):
        counted.count("login", "10.0.0.1")
        for i in range(5):
            counted.count("login", f"10.0.0.{i}")
        counted.count("descriptors")
        now[0] += 59
        counted.log_if_due()
        assert len(caplog.records) == 1
        now[0] += 2
        counted.log_if_due()
        counted.log_if_due()
    assert [record.getMessage() for record in caplog.records] == [
        "refused: failed log-ins: 1 (the last from 10.0.0.1)",
        "refused: failed log-ins: 5 (the last from 10.0.0.4); "
        "connections that waited because the process has too many open files: 1",
    ]
    assert counted.counts == dict.fromkeys(REASONS, 0) | {"login": 6, "descriptors": 1}
