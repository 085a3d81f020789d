# SPDX-License-Identifier: MIT
"""The format of the web configuration file: YAML text -> settings.

The format is that of Prometheus' exporter-toolkit, so that one file serves all exporters of a host.
What Python's ssl cannot do is an error that says so, never ignored. This is the only module of the
exporter that imports yaml.
"""

import re
import ssl
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tracer.exporter.http.rate import TokenBucket
from tracer.exporter.http.settings import WebSettings
from tracer.exporter.http.tls import CLIENT_AUTH, VERSIONS, Tls, context, openssl_ciphers

__all__ = ["Fault", "parse"]

_SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
_TLS_KEYS = (
    *("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file"),
    *("client_auth_type", "client_allowed_sans", "min_version", "max_version"),
    *("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
)
# Each header that may be set; where there is a list, only to one of these values.
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_TLS13_CIPHERS = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_AMOUNT = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)"
_DURATION = re.compile(f"({_AMOUNT})+", re.ASCII)
_PRINTABLE = re.compile(r"[\t\x20-\x7e]*")


class Fault(ValueError):
    """What is wrong with the file, and how to fix it if that is known."""

    def __init__(self, cause: str, hint: str | None = None) -> None:
        super().__init__(cause)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class _Section:
    """A mapping of the file; `name` is its key."""

    name: str
    values: Mapping[str, Any]

    def fault(self, key: str, text: str, hint: str | None = None) -> Fault:
        return Fault(f"{self.name}: {key} {text}", hint)

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.fault(key, f"is not a string: {value!r}")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key, True)
        if not isinstance(value, bool):
            raise self.fault(key, f"is not true or false: {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.values.get(key) or []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.fault(key, "is not a list of strings")
        return tuple(values)

    def choice(self, key: str, choices: Mapping[str, Any], default: str) -> Any:
        name = self.text(key, default) or default
        if name not in choices:
            raise self.fault(key, f'is "{name}", not one of {", ".join(choices)}')
        return choices[name]


class _Loader(yaml.SafeLoader):
    """Refuses a key that appears twice: yaml would silently take the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise Fault(f"line {node.start_mark.line + 1}: {key!r} appears twice")
        return super().construct_mapping(node, deep)


def parse(content: bytes, directory: Path, read: Callable[[str], bytes]) -> WebSettings:
    """Read the settings; raises Fault.

    `read` returns the content of a file that the configuration names; a relative name is in
    `directory`.
    """
    sections = _sections(content)
    tls = sections["tls_server_config"]
    in_use = tls is not None and bool(tls.values)
    return WebSettings(
        tls=_tls(tls, directory, read) if tls is not None and in_use else None,
        allowed_names=frozenset(tls.texts("client_allowed_sans"))
        if tls is not None
        else frozenset(),
        users=_users(sections["basic_auth_users"]),
        headers=_headers(sections["http_server_config"]),
        rate=_rate(sections["rate_limit"]),
    )


def _sections(content: bytes) -> dict[str, _Section | None]:
    try:
        document = yaml.load(content, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise Fault(f"not YAML: {_yaml_cause(error)}") from None
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise Fault("not a mapping", f"give one or more of {', '.join(_SECTIONS)}")
    _check_keys("the file", document, _SECTIONS)
    return {name: _section(name, document.get(name)) for name in _SECTIONS}


def _section(name: str, values: Any) -> _Section | None:
    if values is None:
        return None
    if not isinstance(values, dict):
        raise Fault(f"{name} is not a mapping")
    return _Section(name, values)


def _yaml_cause(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _check_keys(where: str, values: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for key in values:
        if key not in known:
            raise Fault(f"{where}: unknown key {key!r}", f"the keys are {', '.join(known)}")


def _tls(section: _Section, directory: Path, read: Callable[[str], bytes]) -> ssl.SSLContext:
    _check_keys(section.name, section.values, _TLS_KEYS)
    if section.values.get("curve_preferences"):
        raise section.fault("curve_preferences", "is not supported", "remove it")
    client_auth = _client_auth(section)
    client_ca = _pem(section, "client_ca", directory, read)
    if client_auth is not ssl.CERT_NONE and not client_ca:
        raise section.fault("client_auth_type", "needs client_ca_file")
    if client_auth is ssl.CERT_NONE and client_ca:
        raise section.fault(
            "client_ca_file", "needs client_auth_type", "set RequireAndVerifyClientCert"
        )
    if section.texts("client_allowed_sans") and client_auth is not ssl.CERT_REQUIRED:
        raise section.fault(
            "client_allowed_sans", "needs client_auth_type RequireAndVerifyClientCert"
        )
    tls = Tls(
        certificate=_needed(section, "cert", directory, read),
        key=_needed(section, "key", directory, read),
        client_ca=client_ca,
        client_auth=client_auth,
        minimum=section.choice("min_version", VERSIONS, "TLS12"),
        maximum=section.choice("max_version", VERSIONS, "TLS13"),
        ciphers=_ciphers(section),
        server_order=section.flag("prefer_server_cipher_suites"),
    )
    if tls.minimum > tls.maximum:
        raise section.fault("min_version", "is above max_version")
    try:
        return context(tls)
    except ValueError as error:
        raise Fault(f"{section.name}: {error}") from None


def _client_auth(section: _Section) -> ssl.VerifyMode:
    if section.text("client_auth_type") in _UNVERIFIED:
        raise section.fault(
            "client_auth_type",
            f'"{section.text("client_auth_type")}" does not verify the certificate and is not '
            "supported",
            "use RequireAndVerifyClientCert",
        )
    found: ssl.VerifyMode = section.choice("client_auth_type", CLIENT_AUTH, "NoClientCert")
    return found


def _pem(section: _Section, key: str, directory: Path, read: Callable[[str], bytes]) -> bytes:
    """The content of `key`, which is in the configuration itself, or of the file `key`_file."""
    inline, name = section.text(key), section.text(f"{key}_file")
    if inline and name:
        raise section.fault(key, f"and {key}_file are both set", "remove one of them")
    if not name:
        return inline.encode()
    try:
        return read(str(directory / name))
    except OSError as error:
        raise section.fault(f"{key}_file", f'cannot be read: "{name}": {error.strerror}') from None


def _needed(section: _Section, key: str, directory: Path, read: Callable[[str], bytes]) -> bytes:
    content = _pem(section, key, directory, read)
    if not content:
        raise section.fault(f"{key}_file", "is missing or empty")
    return content


def _ciphers(section: _Section) -> tuple[str, ...]:
    known = openssl_ciphers()
    names = section.texts("cipher_suites")
    for name in names:
        if name not in known and name not in _TLS13_CIPHERS:
            raise section.fault("cipher_suites", f'has "{name}", which is unknown or unsafe')
    # Those of TLS 1.3 cannot be chosen: all are always offered, as in Go.
    return tuple(known[name] for name in names if name in known)


def _users(section: _Section | None) -> dict[str, bytes]:
    if section is None:
        return {}
    users = {}
    for name in section.values:
        if not isinstance(name, str) or not name or ":" in name:
            raise Fault(f"{section.name}: {name!r} is not a user name", "quote it; it has no colon")
        stored = section.text(name)
        if not _BCRYPT.fullmatch(stored):
            raise section.fault(
                f'"{name}"', "is not a bcrypt hash", "make one with: htpasswd -nBC 10 NAME"
            )
        users[name] = stored.encode()
    return users


def _headers(section: _Section | None) -> dict[str, str]:
    if section is None:
        return {}
    _check_keys(section.name, section.values, ("http2", "headers"))
    section.flag("http2")  # accepted for other exporters: this one speaks HTTP/1.1 only
    headers = _section("headers", section.values.get("headers"))
    if headers is None:
        return {}
    _check_keys("headers", headers.values, tuple(_HEADERS))
    found = {name: headers.text(name) for name in headers.values}
    for name, value in found.items():
        if value and _HEADERS[name] and value.lower() not in _HEADERS[name]:
            raise headers.fault(name, f'is "{value}", not one of {", ".join(_HEADERS[name])}')
        if not _PRINTABLE.fullmatch(value):
            raise headers.fault(name, "has a character that is not printable ASCII")
    return {name: value for name, value in found.items() if value}


def _rate(section: _Section | None) -> TokenBucket | None:
    if section is None:
        return None
    _check_keys(section.name, section.values, ("interval", "burst"))
    interval = _duration(section)
    burst = section.values.get("burst", 0)
    if not isinstance(burst, int) or isinstance(burst, bool) or burst < 0:
        raise section.fault("burst", f"is not a number of requests: {burst!r}")
    if not interval:
        return None
    if not burst:
        raise section.fault("burst", "is 0, which refuses every request", "set it to 1 or more")
    return TokenBucket(interval, burst)


def _duration(section: _Section) -> float:
    value = section.values.get("interval", "0s")
    text = "0s" if value in (0, "0") and value is not False else value
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise section.fault("interval", f"is not a time: {value!r}", "give one such as 1s or 100ms")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_AMOUNT, text))
