# SPDX-License-Identifier: MIT
"""The configuration file of `trace`: TOML, with the long names of its options as keys.

    comm = ["nginx", "envoy"]
    metrics = "127.0.0.1:10435"

The values become click's defaults, so a variable of the environment and the command line win.
"""

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tracer.errors import UsageError

__all__ = ["config_option", "key_of", "keys", "read_config"]

_NAME = "config"


def key_of(option: click.Option) -> str:
    """The key of an option: its long name without the dashes."""
    return max(option.opts, key=len).lstrip("-")


def keys(command: click.Command) -> dict[str, click.Option]:
    """The options that a configuration file of this command can set, by key."""
    return {
        key_of(option): option
        for option in command.params
        if isinstance(option, click.Option) and option.name != _NAME
    }


def read_config(path: str, context: click.Context) -> dict[str, Any]:
    """Return the values of the file by parameter name; the first wrong one is a UsageError."""
    options = keys(context.command)
    values = {}
    for key, value in _flat(_load(path)):
        if key not in options:
            raise _unknown(path, key, list(options))
        option = options[key]
        _check(path, key, option, value, context)
        values[str(option.name)] = value
    return values


def _load(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError.of(error, "read the configuration file", path) from error
    except UnicodeDecodeError as error:
        raise UsageError("read the configuration file", path, "it is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        cause = str(error)
        raise UsageError(
            "read the configuration file", path, f"{cause[:1].lower()}{cause[1:]}"
        ) from error


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with their values; an option with dots in its name is a table in TOML."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _unknown(path: str, key: str, known: list[str]) -> UsageError:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else "lunatik-socket trace --help lists all"
    return UsageError("use the configuration file", path, f'unknown key "{key}"', hint=hint)


def _check(
    path: str, key: str, option: click.Option, value: object, context: click.Context
) -> None:
    cause = _wrong_type(option, value)
    if cause is None:
        try:
            option.type_cast_value(context, value)
        except click.BadParameter as error:
            cause = error.message.rstrip(".")
    if cause is not None:
        raise UsageError("use the configuration file", path, f'key "{key}": {cause}')


def _wrong_type(option: click.Option, value: object) -> str | None:
    """What is wrong with the TOML type; click alone would take 1 for true and true for a name."""
    if option.is_flag:
        return None if isinstance(value, bool) else f"expected true or false, got {_shown(value)}"
    if option.multiple:
        if not isinstance(value, list):
            return f"expected a list, got {_shown(value)}"
        return next(filter(None, (_wrong_item(option, item) for item in value)), None)
    return _wrong_item(option, value)


def _wrong_item(option: click.Option, value: object) -> str | None:
    allowed: tuple[type, ...]
    if isinstance(option.type, click.types.IntParamType):
        allowed, expected = (int,), "a number"
    elif option.metavar == "TIME":
        allowed, expected = (str, int, float), 'a time such as "5s"'
    else:
        allowed, expected = (str,), "a string"
    if isinstance(value, allowed) and not isinstance(value, bool):
        return None
    return f"expected {expected}, got {_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _use(context: click.Context, _option: click.Parameter, path: str | None) -> str | None:
    if path is not None:
        context.default_map = read_config(path, context)
    return path


config_option = click.option(
    f"--{_NAME}",
    metavar="FILE",
    is_eager=True,  # before the options whose defaults it sets
    expose_value=False,
    callback=_use,
    help="Read options from this file (TOML). The command line and the environment win.",
)
"""The option `--config`."""
