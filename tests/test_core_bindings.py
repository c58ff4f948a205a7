# SPDX-License-Identifier: Apache-2.0
"""Addresses, sequence order, lifetimes and leases: the rules of RFC 6275 that the controller keeps."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import addresses
from controller.core.addresses import (
    Prefix,
    host,
    parse_address,
    parse_ipv6_address,
    parse_prefix,
    why_not_global_unicast,
)
from controller.core.bindings import Binding, BindingTable, Change, StaleSequence, is_newer
from controller.core.home_agents import HomeAgents, PrefixesOverlap, Status

HOME_AGENT = parse_address("2001:db8:99::1")
HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESS = parse_prefix("2001:db8:99::100")
FIRST = parse_address("2001:db8:2::2")
SECOND = parse_address("2001:db8:3::2")

sequences = st.integers(0, 0xFFFF)


def binding(
    care_of_address: bytes = FIRST, lifetime: int | None = 60, sequence: int | None = None, now: float = 0.0
) -> Binding:
    """A binding of HOME_ADDRESS."""
    ends = None if lifetime is None else now + lifetime
    return Binding(HOME_ADDRESS, care_of_address, HOME_AGENT, lifetime, ends, sequence)


@given(st.integers(0, 2**128 - 1))
def test_addresses_are_shown_as_rfc_5952_has_it(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    assert str(host(parse_address(address.exploded))) == str(address)


@pytest.mark.parametrize("text", ["", "::g", "192.0.2", "fe80::1%eth0", "2001:db8::1/64", "1:2:3:4:5:6:7", " ::1"])
def test_what_is_no_ipv6_address_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected an IPv6 address"):
        parse_address(text)


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


def test_a_tunnel_runs_between_ipv6_addresses() -> None:
    assert parse_address("192.0.2.1") == bytes([192, 0, 2, 1])
    with pytest.raises(ValueError, match="IPv4 outer headers are not supported"):
        parse_ipv6_address("192.0.2.1")


@pytest.mark.parametrize(
    "text", ["192.0.2.0/33", "2001:db8::/129", "2001:db8::/", "2001:db8::/-1", "2001:db8::1/64", "2001:db8::/٣"]
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


@given(sequences, sequences)
def test_of_two_sequence_numbers_at_most_one_is_newer(a: int, b: int) -> None:
    assert not (is_newer(a, b) and is_newer(b, a))
    assert not is_newer(a, a)


@given(sequences, st.integers(1, 0x7FFF))
def test_the_next_32767_sequence_numbers_are_newer(held: int, ahead: int) -> None:
    newer = (held + ahead) % 0x10000
    assert is_newer(newer, held)
    assert not is_newer(held, newer)


@given(sequences, sequences)
def test_an_older_update_is_refused_and_a_deregistration_lets_any_number_in(held: int, offered: int) -> None:
    table = BindingTable()
    table.put(binding(sequence=held))
    if is_newer(offered, held):
        table.check_sequence(HOME_ADDRESS, offered, SECOND)
    else:
        with pytest.raises(StaleSequence):
            table.check_sequence(HOME_ADDRESS, offered, SECOND)
    table.remove(HOME_ADDRESS)
    table.check_sequence(HOME_ADDRESS, offered, SECOND)


def test_the_same_report_may_come_twice() -> None:
    table = BindingTable()
    assert table.put(binding(sequence=7)) is Change.ADDED
    table.check_sequence(HOME_ADDRESS, 7, FIRST)
    assert table.put(binding(sequence=7)) is Change.UNCHANGED
    with pytest.raises(StaleSequence):
        table.check_sequence(HOME_ADDRESS, 7, SECOND)
    table.check_sequence(HOME_ADDRESS, 7, None)


def test_whole_seconds_do_not_make_a_binding_change() -> None:
    table = BindingTable()
    table.put(binding(lifetime=60, now=0.0))
    assert table.put(binding(lifetime=48, now=10.9)) is Change.UNCHANGED
    assert table.put(binding(lifetime=60, now=10.9)) is Change.REFRESHED
    assert table.put(binding(SECOND, now=11.0)) is Change.CHANGED


def test_a_refresh_moves_the_end_and_the_end_comes_once() -> None:
    table = BindingTable()
    table.put(binding(now=0.0))
    table.put(binding(now=30.0))
    assert table.expired(60.0) == []
    assert [ended.home_address for ended in table.expired(90.0)] == [HOME_ADDRESS]
    assert table.expired(1000.0) == []
    assert table.next_expiry() is None


def test_many_refreshes_do_not_pile_up() -> None:
    table = BindingTable()
    for second in range(10_000):
        table.put(binding(now=float(3 * second)))
    assert len(table._ends) < 200


def announce(agents: HomeAgents, now: float, lease: int = 10) -> None:
    """Announces HOME_AGENT."""
    agents.announce(HOME_AGENT, (HOME_PREFIX,), lease, Status.UP, now)


@given(st.lists(st.floats(0.1, 20.0), max_size=20))
def test_a_lease_holds_exactly_as_long_as_it_is_renewed(gaps: list[float]) -> None:
    agents, now = HomeAgents(), 0.0
    announce(agents, now)
    agents.get(HOME_AGENT).synced = True  # type: ignore[union-attr]
    unbroken = True
    for gap in gaps:
        now += gap
        unbroken = unbroken and gap < 10
        announce(agents, now)
        agent = agents.get(HOME_AGENT)
        assert agent is not None
        assert agent.lease_held(now + 9.99)
        assert not agent.lease_held(now + 10)
        assert agent.may_offload(now) == unbroken


def test_a_home_prefix_belongs_to_one_home_agent_while_its_lease_holds() -> None:
    agents, other = HomeAgents(), parse_address("2001:db8:99::2")
    announce(agents, 0.0)
    with pytest.raises(PrefixesOverlap):
        agents.announce(other, (parse_prefix("2001:db8::/32"),), 10, Status.UP, 9.0)
    assert agents.get(other) is None
    agents.announce(other, (HOME_PREFIX,), 10, Status.UP, 10.0)
