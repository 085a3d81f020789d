# SPDX-License-Identifier: MIT
"""The exporter: a Snapshot as Prometheus metrics and as a live page, over HTTP."""

__all__: list[str] = []
