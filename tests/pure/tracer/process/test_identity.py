# SPDX-License-Identifier: MIT
"""Which user a started process runs as."""

import os

import pytest

from tracer.errors import UsageError
from tracer.process.identity import Identity, service_user, user_behind_sudo, user_for

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its user")
DEFAULT = Identity(1, 1, (), {})


def test_the_service_user_is_not_root() -> None:
    assert service_user().uid != 0
    assert service_user().groups == ()


@needs_root
@pytest.mark.parametrize("uid", ["", "0", "-1", "x", "4294967295"])
def test_a_variable_of_sudo_that_names_no_other_user_is_ignored(
    uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", uid)
    assert user_behind_sudo() is None


@needs_root
def test_a_user_behind_sudo_without_a_name_has_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "54321")
    monkeypatch.setenv("SUDO_GID", "54322")
    assert user_behind_sudo() == Identity(54321, 54322, (), {})


@needs_root
def test_without_a_choice_it_is_the_default() -> None:
    assert user_for(None, DEFAULT) == DEFAULT


@needs_root
@pytest.mark.parametrize("name", ["root", "0"])
def test_the_user_that_it_is_already_is_no_change(name: str) -> None:
    assert user_for(name, DEFAULT) is None


@needs_root
def test_a_user_has_its_groups_and_variables() -> None:
    found = user_for("daemon", None)
    assert found is not None
    assert (found.uid, found.gid) == (1, 1)
    assert set(found.groups) == set(os.getgrouplist("daemon", 1))
    assert found.environment["USER"] == found.environment["LOGNAME"] == "daemon"


@pytest.mark.parametrize("name", ["no-such-user", "4294967295", "a\0b"])
def test_a_name_that_is_no_user_is_an_error(name: str) -> None:
    with pytest.raises(UsageError) as error:
        user_for(name, None)
    assert error.value.what == "run as user"
