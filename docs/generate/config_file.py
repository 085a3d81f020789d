# SPDX-License-Identifier: MIT
"""Writes packaging/config.toml: every option of `trace` with its help, all commented out.

python -m docs.generate.config_file
"""

import json
import textwrap
from pathlib import Path

import click

from tracer.cli.config_file import keys
from tracer.cli.trace import command

__all__ = ["default_config"]

TARGET = Path(__file__).parents[2] / "packaging" / "config.toml"

HEAD = """\
# /etc/lunatik-socket/config.toml: the settings of lunatik-socket.service.
#
# Each key is an option of `lunatik-socket trace`. Remove the "#" before a key to
# set it; then run: systemctl restart lunatik-socket
#
# The service takes the metrics address from lunatik-socket.socket, not from here.
# A trace started by hand reads this file only with --config.
"""

# For options without a default: by key, then by metavar.
EXAMPLES: dict[str, object] = {
    "pid": [4711],
    "comm": ["nginx", "php-fpm*"],
    "cgroup": "system.slice/nginx.service",
    "operation": ["connect", "accept"],
    "output": "/var/lib/lunatik-socket/numbers.json",
    "duration": "1h",
    "web.config.file": "/etc/lunatik-socket/web.yml",
    "web.host": ["metrics.example.org"],
}
BY_METAVAR: dict[str | None, object] = {"TIME": "10s", "ADDR:PORT": "127.0.0.1:10435"}


def default_config() -> str:
    """The text of the file."""
    return HEAD + "".join(_entry(key, option) for key, option in keys(command).items())


def _entry(key: str, option: click.Option) -> str:
    text = textwrap.fill(option.help or "", 78, initial_indent="# ", subsequent_indent="# ")
    return f"\n{text}\n#{key} = {json.dumps(_value(key, option))}\n"


def _value(key: str, option: click.Option) -> object:
    """The default, or an example. JSON's strings, numbers, booleans and lists are TOML's too."""
    if isinstance(option.show_default, str):
        return option.show_default
    if key in EXAMPLES:
        return EXAMPLES[key]
    if option.is_flag:
        return False
    default = option.get_default(click.Context(command))
    value = default if isinstance(default, str | int | float) else _example(option)
    return [value] if option.multiple else value


def _example(option: click.Option) -> object:
    if isinstance(option.type, click.Choice):
        return str(option.type.choices[0])
    return BY_METAVAR.get(option.metavar, (option.metavar or "name").lower())


if __name__ == "__main__":
    TARGET.write_text(default_config())
