# SPDX-License-Identifier: MIT
"""A real Prometheus and a real browser over TLS, with a password and with a client certificate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.kernel.children import TIMEOUT_SECONDS, wait_until
from tests.kernel.exporter.browser import browsing
from tests.kernel.exporter.prometheus import prometheus
from tests.pure.tracer.exporter.http.certificates import HASHES, PASSWORD, USER, Certificates
from tests.pure.tracer.snapshots import series, snapshot
from tracer.exporter.http import handler
from tracer.exporter.http.config_file import WebConfigFile
from tracer.exporter.http.routes import MetricsServer

pytestmark = pytest.mark.skipif(
    "LUNATIK_SOCKET_RING" in os.environ,
    reason="does not depend on the kernel: `make test` runs it on the host",
)

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENTS = TLS + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"
USERS = f"basic_auth_users: {{{USER}: {HASHES[0]}}}\n"


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    directory = tmp_path / "certificates"
    directory.mkdir()
    made = Certificates(directory)
    made.make("client", "DNS:prometheus.example")
    return made


@contextmanager
def serving(config: str) -> Iterator[MetricsServer]:
    shown = snapshot(series())
    with MetricsServer(("127.0.0.1", 0), lambda: shown, config=WebConfigFile(config)) as server:
        yield server


def scrape_settings(made: Certificates, *, password: str = "", certificate: str = "") -> str:
    """The lines that the user of Prometheus adds to the job."""
    tls = f"ca_file: {made.ca}"
    if certificate:
        where = made.directory / certificate
        tls += f", cert_file: {where}.crt, key_file: {where}.key"
    lines = ["scheme: https", f"tls_config: {{{tls}}}"]
    if password:
        lines.append(f"basic_auth: {{username: {USER}, password: {password}}}")
    return "\n".join(f"    {line}" for line in lines)


WITH_PASSWORD = (TLS + USERS, {"password": PASSWORD}, {"password": "wrong"}, "401 Unauthorized")
WITH_CERTIFICATE = (CLIENTS, {"certificate": "client"}, {}, "certificate required")


@pytest.mark.parametrize("way", [WITH_PASSWORD, WITH_CERTIFICATE], ids=["password", "certificate"])
def test_prometheus_scrapes_over_tls(
    made: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: tuple[str, dict[str, str], dict[str, str], str],
) -> None:
    config, right, wrong, error = way
    # Shorter than the scrape's time-out of a second, so that Prometheus sees the answer.
    monkeypatch.setattr(handler, "FAILED_LOGIN_SECONDS", 0.1)
    with serving(made.config(config)) as server:
        target = f'"127.0.0.1:{server.address[1]}"'
        found = first_scrape(tmp_path / "right", target, scrape_settings(made, **right))
        assert (found["health"], found["lastError"]) == ("up", "")
        assert found["scrapeUrl"].startswith("https://")
        found = first_scrape(tmp_path / "wrong", target, scrape_settings(made, **wrong))
        assert found["health"] == "down"
        assert error in found["lastError"]


def first_scrape(directory: Path, target: str, job: str) -> dict[str, Any]:
    """What Prometheus says of its only target after the first scrape."""
    directory.mkdir()
    with prometheus(directory, static=target, job=job) as observer:

        def scraped() -> bool:
            return [one["health"] for one in observer.targets()] not in ([], ["unknown"])

        wait_until(scraped, "the first scrape")
        (found,) = observer.targets()
        return found


def test_the_live_page_in_a_browser_over_tls_with_a_password(
    made: Certificates, tmp_path: Path
) -> None:
    with (
        serving(made.config(TLS + USERS)) as server,
        browsing(tmp_path / "profile", "--ignore-certificate-errors") as browser,
    ):
        place = f"127.0.0.1:{server.address[1]}/"
        browser.get(f"https://{USER}:{PASSWORD.replace(' ', '%20')}@{place}")
        # The browser keeps the log-in for the page's scripts and its event stream.
        browser.get(f"https://{place}")

        def status(_: object) -> bool:
            found = browser.find_element(By.ID, "status").get_attribute("textContent")
            return str(found) == "live"

        WebDriverWait(browser, 2 * TIMEOUT_SECONDS, 0.05).until(status, "the page to be live")


def test_a_browser_is_refused_by_a_foreign_name_on_loopback(tmp_path: Path) -> None:
    rebound = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
    shown = snapshot(series())
    with (
        MetricsServer(("127.0.0.1", 0), lambda: shown) as server,
        browsing(tmp_path / "profile", rebound) as browser,
    ):
        browser.get(f"http://rebound.example:{server.address[1]}/metrics")
        assert "this host name is not allowed" in browser.page_source
        browser.get(f"http://localhost:{server.address[1]}/metrics")
        assert "lunatik_socket_tracer_map_entries" in browser.page_source
