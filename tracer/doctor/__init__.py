# SPDX-License-Identifier: MIT
"""What this machine, its kernel and this user can do: each point is proved by trying it."""

from tracer.doctor.checks import Check, can_trace, examine, to_json

__all__ = ["Check", "can_trace", "examine", "to_json"]
