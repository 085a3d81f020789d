# SPDX-License-Identifier: MIT
"""The format and the encoding that a client gets for its headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.exporter.http.negotiate import choose_format, wants_gzip
from tracer.exporter.render import Format

TEXT, OPENMETRICS = Format.PROMETHEUS, Format.OPENMETRICS
PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        ("text/plain", TEXT),
        ("text/*", TEXT),
        ("application/*", OPENMETRICS),
        ("application/json", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;q=0.5,text/plain;version=0.0.4;q=0.3", OPENMETRICS),
        ("application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.5", TEXT),
        ("application/openmetrics-text;q=0,*/*", TEXT),
        ("text/plain;q=0,*/*;q=0.1", OPENMETRICS),
        ("application/openmetrics-text;q=nonsense,text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;q=7,text/plain;q=0.1", TEXT),
        (PROMETHEUS_2_42, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
    ],
)
def test_format(accept: str, form: Format) -> None:
    assert choose_format(accept) is form


@pytest.mark.parametrize(
    ("accept_encoding", "wanted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("*", True),
        ("*;q=0", False),
        ("deflate, br", False),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
    ],
)
def test_encoding(accept_encoding: str, wanted: bool) -> None:
    assert wants_gzip(accept_encoding) is wanted


@given(st.text(alphabet='textplain/*;,q=0.1 "version\x00é'))
def test_any_header_gets_an_answer(header: str) -> None:
    assert choose_format(header) in Format
    assert wants_gzip(header) in {True, False}
