# SPDX-License-Identifier: MIT
"""What works on this machine, with this kernel and user; every check tries the real thing."""

from tracer.doctor.checks import Check, can_trace, examine, to_json

__all__ = ["Check", "can_trace", "examine", "to_json"]
