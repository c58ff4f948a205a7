# SPDX-License-Identifier: Apache-2.0
"""IPv4 home addresses of dual-stack mobile nodes (RFC 5555): what they may have, and what is said on the wire."""

from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from hoaflow.home_agent.cache import Acknowledge, BindingCache
from hoaflow.home_agent.ipv4_home_addresses import Ipv4HomeAddresses, load_ipv4_home_addresses
from hoaflow.home_agent.journal import Record, decoded, encoded
from hoaflow.home_agent.prefix_table import PrefixTableError
from hoaflow.home_agent.settings import check, parser
from hoaflow.home_agent.terminal import render
from hoaflow.home_agent.timestamp import Timestamp
from hoaflow.mobility import wire
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.messages import (
    ANY_IPV4,
    BindingAcknowledgement,
    BindingUpdate,
    Ipv4AddressAcknowledgement,
    Ipv4AddressStatus,
)
from hoaflow.mobility.settings import SettingsError
from tests.support.binding_cache import CARE_OF_1, HOME_ADDRESS, HOME_AGENT, POLICY, only, registered, update

OWN, OTHER = "10.99.0.100", "10.99.0.101"
HOME_AGENT_IPV4 = IPv4Interface("10.99.0.1/24")
DUAL = replace(POLICY, ipv4=Ipv4HomeAddresses({HOME_ADDRESS: OWN}))
ACKNOWLEDGEMENT = BindingAcknowledgement(HOME_AGENT, CARE_OF_1, HOME_ADDRESS, 1, 0, 60)


def sent(asked: BindingUpdate) -> bytes:
    """Return a Binding Update's packet."""
    return wire.binding_update_packet(asked, wire.binding_update_header(asked))


@pytest.mark.parametrize("wanted", [OWN, ANY_IPV4], ids=["by name", "whichever it may have"])
def test_a_mobile_node_registers_its_ipv4_home_address(wanted: str) -> None:
    cache = BindingCache(DUAL)
    cache.update(update(ipv4_home_address=wanted), 0.0)
    (install,) = cache.tick(1.0)
    assert only(cache).ipv4_home_address == OWN
    assert install.acknowledge.ipv4 == Ipv4AddressAcknowledgement(Ipv4AddressStatus.ACCEPTED, OWN)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (update(ipv4_home_address=OTHER), Ipv4AddressStatus.INCORRECT_ADDRESS),
        (update(ipv4_home_address=OWN, ipv4_prefix=True), Ipv4AddressStatus.PREFIX_NOT_AUTHORISED),
        (update(home="2001:db8:99::101", ipv4_home_address=OWN), Ipv4AddressStatus.ADMINISTRATIVELY_PROHIBITED),
        (update(home="2001:db8:99::101", ipv4_home_address=ANY_IPV4), Ipv4AddressStatus.NO_DYNAMIC_ASSIGNMENT),
    ],
    ids=["another's", "a prefix", "one that has none", "one that has none, by no name"],
)
def test_what_it_may_not_have_is_refused_and_the_binding_is_made_without(
    asked: BindingUpdate, status: Ipv4AddressStatus
) -> None:
    cache = BindingCache(DUAL)
    cache.update(asked, 0.0)
    (install,) = cache.tick(1.0)
    assert only(cache).ipv4_home_address is None
    assert install.acknowledge.ipv4.status == status  # type: ignore[union-attr]


def test_who_asks_for_no_ipv4_home_address_is_told_of_none() -> None:
    (answer,) = [each for each in registered(DUAL).update(update(sequence=1), 2.0) if isinstance(each, Acknowledge)]
    assert answer.ipv4 is None  # refused, for its sequence number
    cache = BindingCache(DUAL)
    cache.update(update(), 0.0)
    (install,) = cache.tick(1.0)
    assert install.acknowledge.ipv4 is None  # type: ignore[union-attr]


@pytest.mark.parametrize(("address", "prefix"), [(OWN, False), (ANY_IPV4, False), (OWN, True)])
def test_a_binding_update_is_what_rfc_5555_says(address: str, prefix: bool) -> None:
    asked = update(ipv4_home_address=address, ipv4_prefix=prefix)
    # Type 29, length 6, prefix length 32 in six bits, flag P (section 3.1.1).
    option = bytes([29, 6, 32 << 2 | prefix << 1, 0, *map(int, address.split("."))])
    assert option in sent(asked)
    assert wire.parse_binding_update(wire.parse_packet(sent(asked))) == asked


def test_a_binding_acknowledgement_is_what_rfc_5555_says() -> None:
    answered = replace(ACKNOWLEDGEMENT, ipv4=Ipv4AddressAcknowledgement(130, OTHER))
    packet = wire.binding_acknowledgement_packet(answered, wire.binding_acknowledgement_header(answered))
    # Type 30, length 6, status, prefix length 32 in six bits (section 3.2.1).
    assert bytes([30, 6, 130, 32 << 2, 10, 99, 0, 101]) in packet
    assert wire.parse_binding_acknowledgement(wire.parse_packet(packet)) == answered


def test_an_option_of_another_length_is_refused() -> None:
    header = wire.binding_update_header(update(ipv4_home_address=OWN))
    (option,) = [each for each in header.options if each.otype == 29]
    option.olen = 5
    packet = wire.binding_update_packet(update(ipv4_home_address=OWN), header)
    with pytest.raises(MalformedPacketError):
        wire.parse_binding_update(wire.parse_packet(packet))


def test_a_journal_keeps_it_and_says_nothing_of_others() -> None:
    for asked in (update(ipv4_home_address=OWN), update()):
        record = Record(HOME_ADDRESS, 1, asked, 60, Timestamp(1_000_060.125, 160.5, "this boot"))
        assert decoded(encoded(record)) == record
        assert ("ipv4" in encoded(record)) == (asked.ipv4_home_address is not None)


def test_the_terminal_shows_it_behind_what_umip_shows() -> None:
    cache = registered(DUAL, update(ipv4_home_address=OWN))
    assert render(only(cache), HOME_AGENT, "hl", "seg6", 1.0, verbose=False, fancy=False).endswith(
        f" retry 0\n IPv4-HoA: {OWN}\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'"{HOME_ADDRESS}" = "10.98.0.100"', "expected a home address in 10.99.0.0/24, got 10.98.0.100"),
        (f'"{HOME_ADDRESS}" = "10.99.0.1"', "expected a home address in 10.99.0.0/24"),
        (f'"{HOME_ADDRESS}" = "10.99.0.255"', "expected a home address in 10.99.0.0/24"),
        (f'"{HOME_ADDRESS}" = ["{OWN}"]', "expected an IPv4 address, got "),
        (f'"2001:db8:98::100" = "{OWN}"', "not in the home prefix"),
        (f'"{HOME_ADDRESS}" = "{OWN}"\n"2001:db8:99::101" = "{OWN}"', "have the same IPv4 home address 10.99.0.100"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ipv4-home-addresses.toml"
    path.write_text(text)
    with pytest.raises(PrefixTableError, match=said):
        load_ipv4_home_addresses(path, POLICY.home_prefix, HOME_AGENT_IPV4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ipv4-home-agent", "10.99.0.1/24"], "expected both or neither"),
        (["--ipv4-home-addresses", "x"], "expected both or neither"),
        (["--ipv4-home-agent", "10.99.0.0/24", "--ipv4-home-addresses", "x"], "no host address in the prefix"),
        (["--ipv4-home-agent", "10.99.0.1", "--ipv4-home-addresses", "x"], "expected the prefix of a link"),
        (["--ipv4-home-agent", "mn", "--ipv4-home-addresses", "x"], "expected ADDRESS/LENGTH such as"),
        (
            ["--ipv4-home-agent", "10.99.0.1/24", "--ipv4-home-addresses", "x", "--cache", "etcd://127.0.0.1:2379/ha"],
            "--cache: not with --ipv4-home-agent",
        ),
    ],
)
def test_wrong_options_are_refused_in_words(arguments: list[str], said: str) -> None:
    own = ["--home-agent", HOME_AGENT, "--home-prefix", "2001:db8:99::/64", "--home-link", "lo", "--insecure"]
    with pytest.raises(SettingsError, match=said):
        check(parser().parse_args([*own, *arguments]))
