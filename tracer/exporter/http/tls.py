# SPDX-License-Identifier: MIT
"""The TLS context for `tls_server_config`, made from the contents of the files.

Python's ssl loads a certificate and a key only from files, by name. The names given to it are those
of anonymous files in memory, so that the real files may be read by another process.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CLIENT_AUTH", "VERSIONS", "Tls", "context", "openssl_ciphers"]

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_KEYS_AND_SIGNATURES = ("ECDHE_ECDSA", "ECDHE_RSA")
_CIPHERS = {
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
}


def openssl_ciphers() -> dict[str, str]:
    """OpenSSL's name of each cipher suite of TLS 1.2 by its name in the configuration file."""
    return {
        f"TLS_{keys}_WITH_{cipher}": f"{keys.replace('_', '-')}-{name}"
        for keys in _KEYS_AND_SIGNATURES
        for cipher, name in _CIPHERS.items()
    }


@dataclass(frozen=True, slots=True)
class Tls:
    """The settings of TLS; certificates and the key in PEM. `ciphers` are OpenSSL's names."""

    certificate: bytes
    key: bytes
    client_ca: bytes
    client_auth: ssl.VerifyMode
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion
    ciphers: tuple[str, ...]
    server_order: bool


def context(tls: Tls) -> ssl.SSLContext:
    """The context for these settings; raises ValueError with what is wrong."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = tls.minimum
    made.maximum_version = tls.maximum
    # Renegotiation lets a client make the server compute for nothing.
    made.options |= ssl.OP_NO_RENEGOTIATION
    if tls.server_order:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_alpn_protocols(["http/1.1"])
    if tls.ciphers:
        made.set_ciphers(":".join(tls.ciphers))
    _load_certificate(made, tls)
    made.verify_mode = tls.client_auth
    if tls.client_ca:
        # Any certificate of the file is trusted, also one that is not self-signed, as in Go.
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            made.load_verify_locations(cadata=tls.client_ca.decode("ascii", "replace"))
        except ssl.SSLError as error:
            raise ValueError(f"the client CA is not a PEM certificate ({_reason(error)})") from None
    return made


def _load_certificate(made: ssl.SSLContext, tls: Tls) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in tls.certificate:
        raise ValueError("the certificate is not in PEM format")
    if b" PRIVATE KEY-----" not in tls.key:
        raise ValueError("the key is not in PEM format")
    with _in_memory(tls.certificate) as certificate, _in_memory(tls.key) as key:
        try:
            made.load_cert_chain(certificate, key, password=_refuse_to_ask)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError("the key does not belong to the certificate") from None
            text = f"cannot use the certificate or the key ({_reason(error)})"
            raise ValueError(text) from None


def _refuse_to_ask() -> str:
    """OpenSSL would ask on the terminal for the passphrase of an encrypted key."""
    raise ValueError("the key is encrypted: remove its passphrase")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The name of a file with this content, which exists only in memory and until the end."""
    descriptor = os.memfd_create("lunatik-socket", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"
