# SPDX-License-Identifier: MIT
"""Log-ins by HTTP basic authentication (RFC 7617), with passwords hashed by bcrypt.

This is the only module that imports bcrypt, and only for the first log-in.

A bcrypt hash takes tens of milliseconds of CPU time on purpose. So a password that was right is
remembered, as a keyed hash, and Prometheus pays for it once. Wrong passwords are never remembered:
they are checked one at a time for all clients together, so guessing takes at most one CPU.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Mapping
from threading import Lock

__all__ = ["Logins"]

_REMEMBERED = 100
_MAX_PASSWORD_BYTES = 72  # bcrypt ignores what follows, and the library refuses longer ones


class Logins:
    """Checks log-ins; safe to use from many threads."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._known: dict[bytes, None] = {}
        self._one_at_a_time = Lock()

    def is_right(
        self, users: Mapping[str, bytes], header: str, is_wanted: Callable[[], bool]
    ) -> bool:
        """Whether an Authorization header has a name and password of these users.

        `is_wanted` is asked before the expensive part: false if the client has left meanwhile.
        """
        found = _name_and_password(header)
        if found is None:
            return False
        name, password = found
        # For an unknown name one of the hashes is checked, too: the time must not tell the names.
        stored = users.get(name) or next(iter(users.values()))
        digest = self._digest(name, password, stored)
        if name in users and digest in self._known:
            return True
        with self._one_at_a_time:
            if not is_wanted() or not _matches(password, stored) or name not in users:
                return False
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[digest] = None
            return True

    def _digest(self, name: str, password: bytes, stored: bytes) -> bytes:
        parts = (name.encode("utf-8", "surrogatepass"), password, stored)
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hashlib.blake2b(text, key=self._key).digest()


def _name_and_password(header: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
        name, colon, password = decoded.partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _matches(password: bytes, stored: bytes) -> bool:
    import bcrypt  # noqa: PLC0415

    if b"\0" in password:  # some versions of the library refuse it, others end the password there
        return False
    return bool(bcrypt.checkpw(password[:_MAX_PASSWORD_BYTES], stored))
