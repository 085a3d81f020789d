# SPDX-License-Identifier: MIT
"""For all tests."""

import signal

from hypothesis import settings

# These machines are busy: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell's background job ignores it, and so would the programs that tests end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
