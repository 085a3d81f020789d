# SPDX-License-Identifier: MIT
"""The web configuration file is read again when it changes; a wrong change is not used."""

import logging
from pathlib import Path

import pytest

from tests.pure.tracer.exporter.http.certificates import Certificates
from tracer.errors import UsageError
from tracer.exporter.http.config_file import WebConfigFile

LOGGER = "tracer.exporter.http.config_file"


def file(tmp_path: Path, burst: int) -> Path:
    path = tmp_path / "web.yml"
    path.write_text(f"rate_limit: {{interval: 1s, burst: {burst}}}")
    return path


def burst(config: WebConfigFile) -> int:
    assert config.current.rate is not None
    return config.current.rate.burst


def test_a_change_is_taken_when_two_readings_agree(tmp_path: Path) -> None:
    config = WebConfigFile(str(file(tmp_path, 1)))
    file(tmp_path, 2)
    config.check()
    assert burst(config) == 1
    file(tmp_path, 3)  # still being written
    config.check()
    assert burst(config) == 1
    config.check()
    assert burst(config) == 3


def test_a_file_that_is_empty_for_a_moment_opens_nothing(tmp_path: Path) -> None:
    path = file(tmp_path, 1)
    config = WebConfigFile(str(path))
    path.write_text("")
    config.check()
    file(tmp_path, 1)
    config.check()
    config.check()
    assert burst(config) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", 'cannot use the web configuration "{path}": not a mapping'),
        (None, 'cannot read the web configuration "{path}": No such file or directory (ENOENT)'),
    ],
)
def test_a_wrong_change_is_logged_once_and_the_old_configuration_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, message: str
) -> None:
    path = file(tmp_path, 1)
    config = WebConfigFile(str(path))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with caplog.at_level(logging.ERROR, LOGGER):
        for _ in range(5):
            config.check()
    (record,) = caplog.records
    assert record.getMessage().startswith(message.format(path=path))
    assert record.getMessage().endswith("; the old configuration stays in use")
    assert burst(config) == 1
    file(tmp_path, 4)
    config.check()
    config.check()
    assert burst(config) == 4


def test_a_new_certificate_is_taken(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    config = WebConfigFile(
        made.config("tls_server_config: {cert_file: server.crt, key_file: server.key}")
    )
    old = config.current.tls
    config.check()
    config.check()
    assert config.current.tls is old
    made.make("server", "DNS:localhost")
    config.check()
    config.check()
    assert config.current.tls is not old


def test_tls_is_not_switched_off_meanwhile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Certificates(tmp_path)
    path = made.config("tls_server_config: {cert_file: server.crt, key_file: server.key}")
    config = WebConfigFile(path)
    made.config("basic_auth_users: {}")
    config.check()
    config.check()
    assert config.current.tls is not None
    assert "TLS cannot be switched on or off meanwhile; restart; the old" in caplog.text


def test_a_wrong_file_at_the_start_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        WebConfigFile(str(tmp_path / "none.yml"))
    assert str(caught.value) == (
        f'cannot read the web configuration "{tmp_path}/none.yml": '
        "No such file or directory (ENOENT)"
    )
    (tmp_path / "wrong.yml").write_text("rate: 5")
    with pytest.raises(UsageError, match=r"unknown key 'rate'; the keys are tls_server_config, "):
        WebConfigFile(str(tmp_path / "wrong.yml"))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge.yml").write_text("#" * ((1 << 20) + 1))
    with pytest.raises(UsageError, match="larger than 1 MB"):
        WebConfigFile(str(tmp_path / "huge.yml"))


def test_the_thread_finds_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.exporter.http.config_file.CHECK_SECONDS", 0.01)
    config = WebConfigFile(str(file(tmp_path, 1)))
    config.watch()
    file(tmp_path, 2)
    for _ in range(2000):
        if burst(config) == 2:
            break
        config._stopped.wait(0.01)
    config.stop()
    assert burst(config) == 2
