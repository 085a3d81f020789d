# SPDX-License-Identifier: MIT
"""Chooses the format and encoding for a client by its headers (RFC 9110, 12.4 and 12.5)."""

from collections.abc import Iterator

from tracer.exporter.render import Format

__all__ = ["choose_format", "wants_gzip"]

_OFFERS = {
    Format.PROMETHEUS: ("text/plain", "0.0.4"),
    Format.OPENMETRICS: ("application/openmetrics-text", "1.0.0"),
}


def choose_format(accept: str) -> Format:
    """Choose the format that an Accept header prefers.

    Prometheus' text format if both are equally wanted, and also if neither is: for a person with
    curl or a browser, numbers are better than a 406.
    """
    return max(_OFFERS, key=lambda form: _quality(accept, *_OFFERS[form]))


def wants_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    qualities = {coding: quality for coding, _, quality in _preferences(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _quality(accept: str, media_type: str, version: str) -> float:
    """The quality of the most specific media range that includes this offer; 0 if none does."""
    best = (0, 0.0)
    for wanted, parameters, quality in _preferences(accept):
        # A media range with another version does not include this offer.
        if parameters.get("version", version) != version:
            continue
        if wanted == media_type:
            best = max(best, (3, quality))
        elif wanted == f"{media_type.partition('/')[0]}/*":
            best = max(best, (2, quality))
        elif wanted == "*/*":
            best = max(best, (1, quality))
    return best[1]


def _preferences(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Each element of the header with its parameters and its `q`; an invalid `q` counts as 0."""
    for element in header.split(","):
        value, *rest = (part.strip() for part in element.split(";"))
        parameters = {
            name.strip().lower(): text.strip().strip('"')
            for name, _, text in (part.partition("=") for part in rest)
        }
        yield value.lower(), parameters, _weight(parameters.pop("q", "1"))


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
