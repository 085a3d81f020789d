# SPDX-License-Identifier: MIT
"""The boards as JSON text."""

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.source.connections_board import connections
from dashboards.source.in_kernel import in_kernel
from dashboards.source.operation import operation
from dashboards.source.overview import overview
from dashboards.source.tracer_board import tracer

__all__ = ["BOARDS", "text"]

BOARDS = {
    "overview": overview,
    "operation": operation,
    "connections": connections,
    "in_kernel": in_kernel,
    "tracer": tracer,
}


def text(name: str) -> str:
    """Generate one board as JSON; the same source always gives the same text."""
    return JSONEncoder(sort_keys=True, indent=1).encode(BOARDS[name]().build()) + "\n"
