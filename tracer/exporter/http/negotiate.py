# SPDX-License-Identifier: MIT
"""Which format and which encoding a client gets (RFC 9110, sections 12.4 and 12.5)."""

from collections.abc import Iterator

from tracer.exporter.render import Format

__all__ = ["choose_format", "wants_gzip"]

_OFFERS = {
    Format.PROMETHEUS: ("text/plain", "0.0.4"),
    Format.OPENMETRICS: ("application/openmetrics-text", "1.0.0"),
}


def choose_format(accept: str) -> Format:
    """Choose the format that an Accept header prefers.

    The older text where both are wanted equally, and also where neither is wanted: a person with
    curl or a browser is better served with numbers than with 406.
    """
    return max(_OFFERS, key=lambda form: _quality(accept, *_OFFERS[form]))


def wants_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    qualities = {coding: quality for coding, _, quality in _preferences(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _quality(accept: str, media_type: str, version: str) -> float:
    """How much an offer is wanted: the quality of the most specific range that names it."""
    best = (0, 0.0)
    for wanted, parameters, quality in _preferences(accept):
        # Another version of the same format is another format.
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
    """Each element of the header with its parameters and its `q`; broken ones count as unwanted."""
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
