# SPDX-License-Identifier: Apache-2.0
"""Addresses and prefixes are parsed, compared and formatted as the standard library does it."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoaflow import addresses
from hoaflow.addresses import (
    Prefix,
    canonical_address,
    canonical_ipv6_address,
    canonical_prefix,
    format_endpoint,
    host,
    parse_address,
    parse_ipv6_address,
    parse_prefix,
    why_not_global_unicast,
)


@given(st.integers(0, 2**128 - 1))
def test_addresses_are_shown_as_rfc_5952_has_it(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    assert str(host(parse_address(address.exploded))) == str(address)


@pytest.mark.parametrize("text", ["", "::g", "192.0.2", "fe80::1%eth0", "2001:db8::1/64", "1:2:3:4:5:6:7", " ::1"])
def test_what_is_no_address_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected an IPv6 or IPv4 address"):
        parse_address(text)
    with pytest.raises(ValueError, match="expected an IPv6 address"):
        parse_ipv6_address(text)


@given(st.text("0123456789abcdefABCDEF:.", max_size=20) | st.ip_addresses().map(str))
def test_addresses_are_read_as_the_standard_library_reads_them(text: str) -> None:
    try:
        expected: bytes | None = ipaddress.ip_address(text).packed
    except ValueError:
        expected = None
    try:
        found: bytes | None = parse_address(text)
    except ValueError:
        found = None
    assert found == expected


networks = st.builds(
    lambda address, length: ipaddress.ip_network((address, min(length, address.max_prefixlen)), strict=False),
    st.ip_addresses() | st.sampled_from([ipaddress.ip_address(text) for text in ("::", "fe80::1", "224.1.1.1", "1::")]),
    st.integers(0, 128),
)


@given(networks, networks, st.integers(0, 128))
def test_prefixes_contain_what_the_standard_library_says(one: Any, other: Any, length: int) -> None:
    if length < one.prefixlen:  # one that contains it, or nearly
        other = one.supernet(new_prefix=length)
    expected = one.version == other.version and one.subnet_of(other)
    assert parse_prefix(str(other)).contains(parse_prefix(str(one))) is expected


@given(networks)
def test_no_prefix_escapes_a_closer_look(network: Any) -> None:
    prefix = parse_prefix(str(network))
    found = why_not_global_unicast(prefix)
    assert (found is None) is not any(block.overlaps(prefix) for block, _ in addresses.NOT_GLOBAL_UNICAST)


def test_where_ipv6_is_needed_ipv4_is_refused() -> None:
    assert parse_address("192.0.2.1") == bytes([192, 0, 2, 1])
    with pytest.raises(ValueError, match="expected an IPv6 address, got"):
        parse_ipv6_address("192.0.2.1")


@pytest.mark.parametrize(
    "text",
    [
        *("192.0.2.0/33", "2001:db8::/129", "2001:db8::/", "2001:db8::/-1", "2001:db8::1/64", "2001:db8::/٣"),
        f"2001:db8::/{'1' * 5000}",  # more digits than Python parses
    ],
)
def test_wrong_prefixes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="prefix length"):
        parse_prefix(text)


NOT_GLOBAL_UNICAST = [
    *("::", "::1", "fe80::1", "ff02::1", "fec0::1", "::ffff:192.0.2.1", "::/0", "fe00::/7", "100::1"),
    *("0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0/0"),
]


@pytest.mark.parametrize("text", NOT_GLOBAL_UNICAST)
def test_what_is_not_global_unicast_is_told(text: str) -> None:
    assert why_not_global_unicast(parse_prefix(text))


@pytest.mark.parametrize("text", ["2001:db8::1", "fd00::1", "2000::/3", "2001:db8:99::/64"])
def test_global_unicast_passes(text: str) -> None:
    assert why_not_global_unicast(parse_prefix(text)) is None


@given(st.integers(0, 2**128 - 1), st.integers(0, 128), st.integers(0, 2**128 - 1), st.integers(0, 128))
def test_prefixes_contain_as_networks_do(first: int, shorter: int, second: int, longer: int) -> None:
    nets = [ipaddress.IPv6Network((first, shorter), strict=False), ipaddress.IPv6Network((second, longer), False)]
    ours = [Prefix(net.network_address.packed, net.prefixlen) for net in nets]
    assert ours[0].contains(ours[1]) == nets[1].subnet_of(nets[0])
    assert ours[0].overlaps(ours[1]) == nets[0].overlaps(nets[1])


@given(networks, st.integers(0, 2**128 - 1))
def test_host_bits_are_cleared_on_request(network: Any, bits: int) -> None:
    inside = network.network_address + bits % network.num_addresses
    text = f"{inside}/{network.prefixlen}"
    assert parse_prefix(text, strict=False) == parse_prefix(str(network))


def test_text_becomes_canonical() -> None:
    assert canonical_address("2001:DB8:0:0::100") == canonical_ipv6_address("2001:DB8:0:0::100") == "2001:db8::100"
    assert canonical_address("192.0.2.1") == "192.0.2.1"
    assert canonical_prefix("2001:DB8::100/128") == "2001:db8::100"
    assert canonical_prefix("2001:db8::1/64", strict=False) == "2001:db8::/64"
    with pytest.raises(ValueError, match="has bits set"):
        canonical_prefix("2001:db8::1/64")
    with pytest.raises(ValueError, match="expected an IPv6 address"):
        canonical_ipv6_address("192.0.2.1")


def test_sockets_addresses_are_shown_as_in_urls() -> None:
    shown = [format_endpoint(host, 8080) for host in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1")]
    assert shown == ["192.0.2.1:8080", "[2001:db8::1]:8080", "192.0.2.1:8080"]
