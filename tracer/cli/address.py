"""`ADDR:PORT` as an argument."""

import ipaddress

import click

__all__ = ["Address", "address", "shown"]

Address = tuple[str, int]

_NAMES = {"": "127.0.0.1", "localhost": "127.0.0.1", "*": "0.0.0.0"}


def address(text: str | Address) -> Address:
    """Read an IPv4 address and a port; `:1080` and `localhost:1080` are on 127.0.0.1."""
    if isinstance(text, tuple):
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f'"{text}" is not an address and a port, as 127.0.0.1:1080 is')
    try:
        return str(ipaddress.IPv4Address(_NAMES.get(host, host))), int(port)
    except ValueError:
        raise click.BadParameter(f'"{host}" in "{text}" is not an IPv4 address') from None


def shown(address: Address) -> str:
    """As it is written: `127.0.0.1:1080`."""
    return f"{address[0]}:{address[1]}"
