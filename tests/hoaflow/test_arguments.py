# SPDX-License-Identifier: Apache-2.0
"""Argument types return the value in canonical form, or tell what was expected and what came."""

import argparse
import re
from collections.abc import Callable
from typing import Any

import pytest

from hoaflow import arguments


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (arguments.ipv6_address, "2001:DB8::1", "2001:db8::1"),
        (arguments.address, "192.0.2.1", "192.0.2.1"),
        (arguments.address, "2001:DB8::1", "2001:db8::1"),
        (arguments.ip_prefix, "192.0.2.0/24", "192.0.2.0/24"),
        (arguments.ip_prefix, "2001:DB8::/64", "2001:db8::/64"),
        (arguments.ipv6_prefix, "2001:DB8::/64", "2001:db8::/64"),
        (arguments.ipv6_prefix, "2001:db8::1/128", "2001:db8::1/128"),
        (arguments.host_port, "[2001:db8::1]:7777", ("2001:db8::1", 7777)),
        (arguments.listen_address, "127.0.0.1:0", ("127.0.0.1", 0)),
        (arguments.port, "65535", 65535),
        (arguments.positive, "0.5", 0.5),
        (arguments.seconds, "86400", 86400.0),
        (arguments.whole_seconds(4, 60), "60", 60),
        (arguments.whole_number(0, 65535), "65535", 65535),
    ],
)
def test_what_is_well_formed_is_converted(convert: Callable[[str], Any], text: str, value: object) -> None:
    assert convert(text) == value


ARABIC_THREE = "\u0663"


@pytest.mark.parametrize(
    ("convert", "expected", "texts"),
    [
        (arguments.ipv6_address, "an IPv6 address", ["192.0.2.1", "2001:db8::1%eth0"]),
        (arguments.address, "an IPv6 or IPv4 address", ["home", ""]),
        (arguments.ipv6_prefix, "an IPv6 prefix", ["192.0.2.0/24"]),
        (arguments.ipv6_prefix, "a prefix", ["2001:db8::1/64"]),
        (arguments.ip_prefix, "a prefix", ["192.0.2.1/24"]),
        (arguments.host_port, "HOST:PORT", ["7777", ":7777", "h:0", "h:65536", f"h:{ARABIC_THREE}", "h:-1", "h:"]),
        (arguments.listen_address, "HOST:PORT", ["0", "h:65536", "h:x"]),
        (arguments.port, "a port number from 1 to 65535", ["0", "65536", "x", ARABIC_THREE, ""]),
        (arguments.positive, "a number above 0", ["0", "-1", "inf", "nan", "x", ""]),
        (arguments.seconds, "seconds above 0 and up to 86400", ["0", "86401", "inf", "nan", "x"]),
        (arguments.whole_seconds(4, 60), "whole seconds from 4 to 60", ["3", "61", "4.5", ARABIC_THREE]),
        (arguments.whole_number(0, 65535), "a whole number from 0 to 65535", ["-1", "65536", "1.5", ARABIC_THREE]),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(
    convert: Callable[[str], object], expected: str, texts: list[str]
) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=f"expected {expected}.*got {re.escape(repr(text))}"):
            convert(text)
