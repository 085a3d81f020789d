# SPDX-License-Identifier: MIT
"""The `process_*` metrics of the exporter's process, which every Prometheus exporter has.

This is the only module that imports prometheus_client: its collector reads these numbers and gives
them their usual names. It is separate so that nothing else depends on that library.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector

from tracer.exporter.families import Family
from tracer.exporter.metrics import Metric, Type

__all__ = ["process_families"]

_UNITS = ("seconds", "bytes")
_collector = ProcessCollector(registry=CollectorRegistry(auto_describe=False))


def process_families() -> Iterator[Family]:
    """CPU time, memory, file descriptors and start time of this process."""
    for found in _collector.collect():
        for sample in found.samples:
            metric = Metric(
                sample.name, Type(found.type), found.documentation, (), _unit(sample.name)
            )
            yield Family(metric, (), {(): sample.value})


def _unit(name: str) -> str:
    stem = name.removesuffix("_total")
    return next((unit for unit in _UNITS if stem.endswith(f"_{unit}")), "")
