"""For all tests."""

from hypothesis import settings

# These machines are busy: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
