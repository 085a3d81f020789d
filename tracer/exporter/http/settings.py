# SPDX-License-Identifier: MIT
"""The web configuration as data: TLS, users, headers, rate limit."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tracer.exporter.http.rate import TokenBucket

__all__ = ["WebConfig", "WebSettings"]


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What a web configuration file says; without one, nothing is set.

    `users` is the bcrypt hash by name. `headers` are added to every response. `allowed_names` are
    subject alternative names; if there are any, a client's certificate must have one of them.
    """

    tls: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate: TokenBucket | None = None
    allowed_names: frozenset[str] = frozenset()

    @property
    def knows_clients(self) -> bool:
        """Whether clients are encrypted and must show a password or a certificate."""
        if self.tls is None:
            return False
        return bool(self.users) or self.tls.verify_mode is ssl.CERT_REQUIRED

    def check_client(self, client: ssl.SSLSocket) -> None:
        """Raise ValueError if the client's certificate has none of the allowed names."""
        if not self.allowed_names:
            return
        certificate = client.getpeercert() or {}
        names = {str(entry[1]) for entry in certificate.get("subjectAltName", ())}
        if not names & self.allowed_names:
            raise ValueError(f"the client's certificate is for {sorted(names)}")


class WebConfig(Protocol):
    """A source of settings that may change while the server runs."""

    @property
    def current(self) -> WebSettings:
        """The settings as of now."""
