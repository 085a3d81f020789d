# SPDX-License-Identifier: MIT
"""Which mechanisms a test may ask for here, and which must be there."""

import os

import pytest

from tracer.errors import TracerError
from tracer.kernel.mechanisms import prove

__all__ = ["require"]


def require(mechanism: str) -> None:
    """Skip, saying what is missing, if this kernel has no such mechanism; in the VM ring, fail."""
    try:
        prove(mechanism)
    except TracerError as error:
        if os.environ.get("LUNATIK_SOCKET_RING", "").startswith("kernel/"):
            raise  # Debian's kernels have all of them
        pytest.skip(f"{error}; make test-kernels runs this on kernels that have it")
