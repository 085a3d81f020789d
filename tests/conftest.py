# SPDX-License-Identifier: MIT
"""Settings for all tests."""

import signal

from hypothesis import settings

# No time limit per example: test machines are often busy, so a slow example means nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell's background job ignores SIGINT, and one that nohup started ignores SIGHUP. The programs
# to which tests send these signals would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
