# SPDX-License-Identifier: Apache-2.0
"""Convert command-line arguments; errors say what was expected and what came."""

import argparse
import math
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from hoaflow.addresses import canonical_ipv6_address, format_address, parse_address, parse_prefix

T = TypeVar("T")

DAY = 86400.0  # seconds
PORTS = 1 << 16


def argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Turn a parser that raises ValueError into an argument type that shows the user its reason."""

    @wraps(parse)
    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


ipv6_address = argument(canonical_ipv6_address)


@argument
def address(text: str) -> str:
    """Return an IPv6 or IPv4 address in canonical form."""
    return format_address(parse_address(text))


@argument
def ip_prefix(text: str) -> str:
    """Return an IPv6 or IPv4 prefix in canonical form, always with its length."""
    prefix = parse_prefix(text)
    return f"{format_address(prefix.packed)}/{prefix.length}"


@argument
def ipv6_prefix(text: str) -> str:
    """Return an IPv6 prefix in canonical form, always with its length."""
    prefix = parse_prefix(text)
    if prefix.is_ipv4:
        raise ValueError(f"expected an IPv6 prefix, got {text!r}")
    return f"{format_address(prefix.packed)}/{prefix.length}"


@argument
def host_port(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, without the brackets around an IPv6 address."""
    return _host_port(text, least_port=1)


@argument
def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` to listen on; port 0 stands for any free one."""
    return _host_port(text, least_port=0)


@argument
def port(text: str) -> int:
    """Return a port number from 1 to 65535."""
    if not _is_number(text) or not 0 < int(text) < PORTS:
        raise ValueError(f"expected a port number from 1 to 65535, got {text!r}")
    return int(text)


@argument
def positive(text: str) -> float:
    """Return a finite number above 0."""
    return _above_zero(text, "a number", math.inf)


@argument
def seconds(text: str) -> float:
    """Return a number of seconds above 0, at most a day."""
    return _above_zero(text, "seconds", DAY)


def whole_seconds(least: int, most: int = int(DAY)) -> Callable[[str], int]:
    """Return a type for whole seconds from `least` to `most`."""
    return _whole("whole seconds", least, most)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a type for whole numbers from `least` to `most`."""
    return _whole("a whole number", least, most)


@argument
def prefix_length(text: str) -> int:
    """Return the length of an IPv6 prefix, in bits. Raises ArgumentTypeError."""
    if not _is_number(text) or not 1 <= int(text) <= 128:
        raise ValueError(f"expected a prefix length from 1 to 128, got {text!r}")
    return int(text)


def _host_port(text: str, least_port: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not _is_number(port) or not least_port <= int(port) < PORTS:
        raise ValueError(f"expected HOST:PORT, got {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _whole(what: str, least: int, most: int) -> Callable[[str], int]:
    @argument
    def convert(text: str) -> int:
        if not _is_number(text) or not least <= int(text) <= most:
            raise ValueError(f"expected {what} from {least} to {most}, got {text!r}")
        return int(text)

    return convert


def _above_zero(text: str, what: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if 0 < number <= most and number < math.inf:
        return number
    limit = f" and up to {most:g}" if most < math.inf else ""
    raise ValueError(f"expected {what} above 0{limit}, got {text!r}")


def _is_number(text: str) -> bool:
    """Tell whether a text has only the digits 0 to 9."""
    return text.isascii() and text.isdigit()
