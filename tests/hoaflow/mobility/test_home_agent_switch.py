# SPDX-License-Identifier: Apache-2.0
"""Home Agent Switch messages (RFC 5142, section 4)."""

from dataclasses import replace

import pytest

from hoaflow.mobility import wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.home_agent_switch import HomeAgentSwitch, build, parse

HOME_AGENT, HOME_ADDRESS, CARE_OF = "2001:db8:99::1", "2001:db8:99::100", "2001:db8:2::2"
OTHERS = ("2001:db8:99::200", "2001:db8:99::300")
ASSOCIATION = SecurityAssociation(1000, bytes(range(16)))


@pytest.mark.parametrize("home_agents", [(), OTHERS[:1], OTHERS])
@pytest.mark.parametrize("association", [None, ASSOCIATION])
def test_what_is_built_is_read_as_the_same(
    home_agents: tuple[str, ...], association: SecurityAssociation | None
) -> None:
    message = HomeAgentSwitch(HOME_AGENT, CARE_OF, HOME_ADDRESS, home_agents)
    found = parse(wire.parse_packet(build(message, association)))
    assert replace(found, authentication=None) == message
    assert (found.authentication is None) is (association is None)
    if association is not None and found.authentication is not None:
        assert association.vouches_for(found.authentication, CARE_OF, HOME_ADDRESS)
        other = parse(wire.parse_packet(build(replace(message, home_agents=("2001:db8:bad::1",)), None)))
        assert other.authentication is None


def test_each_octet_is_where_rfc_5142_has_it() -> None:
    data = build(HomeAgentSwitch(HOME_AGENT, CARE_OF, HOME_ADDRESS, OTHERS[:1]), None)
    routing, header = data[40:64], data[64:]
    assert routing.hex() == "8702020100000000" + "20010db8009900000000000000000100"
    assert header[:4].hex() == "3b020c00"
    assert header[6:].hex() == "0100" + "20010db8009900000000000000000200"


def test_more_home_agents_than_there_is_room_for_are_refused() -> None:
    packet = wire.parse_packet(build(HomeAgentSwitch(HOME_AGENT, CARE_OF, HOME_ADDRESS, OTHERS), None))
    payload = packet.payload[:6] + b"\x03" + packet.payload[7:]
    with pytest.raises(MalformedPacketError, match="no room for 3 home agents in 40 bytes"):
        parse(replace(packet, payload=payload))
