# SPDX-License-Identifier: MIT
"""The format of the web configuration file: what it sets, and what is refused with which words."""

import ssl
from pathlib import Path

import pytest

from tests.pure.tracer.exporter.http.certificates import HASHES, Certificates
from tracer.exporter.http.config_file import read_file
from tracer.exporter.http.config_schema import Fault, parse
from tracer.exporter.http.settings import WebSettings

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENTS = TLS + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make("other", "DNS:other")
    made.encrypt_key("server")
    return made


def read(made: Certificates, text: str) -> WebSettings:
    return parse(text.encode(), made.directory, read_file)


def test_an_empty_file_sets_nothing(made: Certificates) -> None:
    assert read(made, "") == WebSettings()
    assert read(made, "tls_server_config:\nbasic_auth_users:\n") == WebSettings()


def test_tls_with_its_defaults(made: Certificates) -> None:
    tls = read(made, TLS).tls
    assert tls is not None
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.maximum_version is ssl.TLSVersion.TLSv1_3
    assert tls.verify_mode is ssl.CERT_NONE
    assert not read(made, TLS).knows_clients


def test_versions_ciphers_and_client_certificates(made: Certificates) -> None:
    ciphers = "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n"
    settings = read(made, CLIENTS + "  min_version: TLS12\n  max_version: TLS12\n" + ciphers)
    tls = settings.tls
    assert tls is not None
    assert tls.maximum_version is ssl.TLSVersion.TLSv1_2
    assert tls.verify_mode is ssl.CERT_REQUIRED
    old = [cipher["name"] for cipher in tls.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert old == ["ECDHE-ECDSA-AES128-GCM-SHA256"]
    assert settings.knows_clients


def test_certificate_and_key_may_be_in_the_file_itself(made: Certificates) -> None:
    def indented(name: str) -> str:
        return (made.directory / name).read_text().replace("\n", "\n    ")

    text = f"tls_server_config:\n  cert: |\n    {indented('server.crt')}\n  key: |\n    "
    assert read(made, text + indented("server.key")).tls is not None


@pytest.mark.parametrize("stored", HASHES)
def test_users(made: Certificates, stored: str) -> None:
    assert read(made, f"basic_auth_users: {{ann: {stored}}}").users == {"ann": stored.encode()}


def test_headers(made: Certificates) -> None:
    text = (
        "http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: ''}}"
    )
    assert read(made, text).headers == {"X-Frame-Options": "deny"}


def test_rate_limit(made: Certificates) -> None:
    rate = read(made, "rate_limit: {interval: 1m1.5s, burst: 3}").rate
    assert rate is not None
    assert (rate.interval, rate.burst) == (61.5, 3)
    assert read(made, "rate_limit: {interval: 0, burst: 3}").rate is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not YAML: line 1: expected the node content, but found '<stream end>'"),
        ("a", "not a mapping"),
        ("tls: {}", "the file: unknown key 'tls'"),
        ("rate_limit: 5", "rate_limit is not a mapping"),
        ("rate_limit: {}\nrate_limit: {}", "line 1: 'rate_limit' appears twice"),
        ("tls_server_config: {cert_file: server.crt}", "tls_server_config: key_file is missing"),
        ("tls_server_config: {cert_file: 5}", "tls_server_config: cert_file is not a string: 5"),
        (TLS.replace("server.key", "none.key"), 'key_file cannot be read: "none.key": No such'),
        (TLS.replace("server.key", "other.key"), "the key does not belong to the certificate"),
        (TLS.replace("server.key", "server.encrypted"), "the key is encrypted"),
        (TLS.replace("server.key", "server.crt"), "the key is not in PEM format"),
        (TLS.replace("server.crt", "server.key"), "the certificate is not in PEM format"),
        (TLS + "  cert: x\n", "cert and cert_file are both set"),
        (TLS + "  unknown: x\n", "tls_server_config: unknown key 'unknown'"),
        (TLS + "  min_version: TLS10\n", 'min_version is "TLS10", not one of TLS12, TLS13'),
        (TLS + "  min_version: TLS13\n  max_version: TLS12\n", "min_version is above max_version"),
        (TLS + "  client_ca_file: ca.crt\n", "client_ca_file needs client_auth_type"),
        (TLS + "  client_auth_type: RequireAndVerifyClientCert\n", "needs client_ca_file"),
        (CLIENTS.replace("And", "Any").replace("AnyVerify", "Any"), "does not verify the"),
        (CLIENTS.replace("RequireAnd", "Maybe"), 'is "MaybeVerifyClientCert", not one of'),
        (CLIENTS.replace("ca.crt", "server.key"), "the client CA is not a PEM certificate"),
        (TLS + "  client_allowed_sans: [a]\n", "client_allowed_sans needs client_auth_type"),
        (TLS + "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n", "which is unknown or unsafe"),
        (TLS + "  curve_preferences: [X25519]\n", "curve_preferences is not supported"),
        (TLS + "  prefer_server_cipher_suites: 1\n", "is not true or false: 1"),
        ("basic_auth_users: {ann: secret}", 'basic_auth_users: "ann" is not a bcrypt hash'),
        ("basic_auth_users: {'a:b': x}", "'a:b' is not a user name"),
        ("basic_auth_users: {5: x}", "5 is not a user name"),
        ("http_server_config: {headers: {Server: x}}", "headers: unknown key 'Server'"),
        ("http_server_config: {headers: {X-Frame-Options: no}}", "X-Frame-Options is not a string"),
        ("http_server_config: {headers: {X-Frame-Options: 'no'}}", "not one of deny, sameorigin"),
        ('http_server_config: {headers: {X-XSS-Protection: "1\\r\\nA: b"}}', "not printable ASCII"),
        ("rate_limit: {interval: 5, burst: 1}", "interval is not a time: 5"),
        ("rate_limit: {interval: 1s}", "burst is 0, which refuses every request"),
        ("rate_limit: {interval: 1s, burst: x}", "burst is not a number of requests: 'x'"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(
    made: Certificates, text: str, message: str
) -> None:
    with pytest.raises(Fault) as caught:
        read(made, text)
    assert message in str(caught.value)


def test_relative_names_are_in_the_directory_of_the_file_and_read_by_the_given_reader() -> None:
    asked = []

    def reader(name: str) -> bytes:
        asked.append(name)
        raise PermissionError(13, "Permission denied")

    with pytest.raises(Fault, match=r'cert_file cannot be read: "server.crt": Permission denied$'):
        parse(TLS.encode(), Path("/etc/exporter"), reader)
    assert asked == ["/etc/exporter/server.crt"]
