# SPDX-License-Identifier: MIT
"""Certificates for tests, made by openssl, and web configuration files that use them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HASHES", "PASSWORD", "USER", "Certificates"]

USER = "prometheus"
PASSWORD = "a secret"
HASHES = (  # of PASSWORD, with the least cost; htpasswd writes the first form
    "$2y$04$o0MbXKwjhjLvFuRT5b8vBeDSSxv3/3kgAZzEpfBktl11vEUFCt6m6",
    "$2a$04$5aEJYcJXMH9QtTBxqu/V7uCY.Zs4JR2OIWWDvMza6w3Ae7L3xft2q",
    "$2b$04$8uCqc8rK0g4HAZjZ.4ZmRekoshi4FC4ETAs9ZQo.CGj7gYIVDrH7i",
)


@dataclass(frozen=True)
class Certificates:
    """A certificate authority in `directory`, and certificates that it signed."""

    directory: Path

    def __post_init__(self) -> None:
        self._openssl(
            *("req", "-x509", *_KEY, "-nodes", "-days", "2", "-subj", "/CN=test CA"),
            *("-keyout", "ca.key", "-out", "ca.crt"),
        )
        self.make("server", "DNS:localhost,IP:127.0.0.1")

    def make(self, name: str, alternative_names: str) -> None:
        """Make `name`.crt and `name`.key."""
        self._openssl(
            *("req", "-new", *_KEY, "-nodes", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={alternative_names}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-copy_extensions", "copy", "-days", "2", "-out", f"{name}.crt"),
        )

    def encrypt_key(self, name: str) -> None:
        """Make `name`.encrypted, the key with a passphrase."""
        self._openssl(
            *("pkey", "-in", f"{name}.key", "-aes256", "-passout", "pass:x"),
            *("-out", f"{name}.encrypted"),
        )

    def config(self, text: str) -> str:
        """Write a web configuration file into the directory; return its path."""
        path = self.directory / "web.yml"
        path.write_text(text)
        return str(path)

    @property
    def ca(self) -> str:
        """The path of the authority's certificate."""
        return str(self.directory / "ca.crt")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=60
        )


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
