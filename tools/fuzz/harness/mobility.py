# SPDX-License-Identifier: Apache-2.0
"""Read packets from the network: Mobile IPv6 signalling and discovery, ICMPv6 errors about tunnel packets."""

from dataclasses import replace
from unittest import mock

from hoaflow.mobility import home_agent_discovery, home_agent_switch, wire
from hoaflow.mobility.messages import BindingUpdate
from hoaflow.mobility.router_advertisements import parse_router_advertisement, router_advertisement_packet
from hoaflow.mobility.wire import (
    BINDING_ACKNOWLEDGEMENT,
    BINDING_ERROR,
    BINDING_UPDATE,
    MobilityPacket,
    binding_update_header,
    binding_update_packet,
    parse_binding_acknowledgement,
    parse_binding_error,
    parse_binding_update,
    parse_packet,
)
from hoaflow.pmipv6 import wire as pmipv6
from hoaflow.tunnel import icmp_errors
from hoaflow.tunnel.checksum import checksum

PARSERS = {
    BINDING_UPDATE: parse_binding_update,
    BINDING_ACKNOWLEDGEMENT: parse_binding_acknowledgement,
    BINDING_ERROR: parse_binding_error,
    home_agent_switch.HOME_AGENT_SWITCH: home_agent_switch.parse,
}


def packet(data: bytes) -> None:
    """Read a packet and its Mobility Header, whatever its checksum, which mutations would hardly ever get right.

    A Binding Update or Home Agent Switch that is accepted can be built again, and is then read as the same.
    """
    with mock.patch.object(wire, "checksum", return_value=0):
        found = parse_packet(data)
    parser = PARSERS.get(found.mobility_type)
    if parser is None:
        return
    message = parser(found)
    if isinstance(message, BindingUpdate) and not message.from_home:
        _check_rebuilt(found, message)
    elif isinstance(message, home_agent_switch.HomeAgentSwitch):
        switch = replace(message, authentication=None)
        again = home_agent_switch.parse(parse_packet(home_agent_switch.build(switch, None)))
        assert again == switch, f"{switch} is read back as {again}"


def _check_rebuilt(found: MobilityPacket, update: BindingUpdate) -> None:
    update = replace(update, source=found.source, authentication=None)
    again = parse_binding_update(parse_packet(binding_update_packet(update, binding_update_header(update))))
    assert again == update, f"{update} is read back as {again}"


def proxy_mobility(data: bytes) -> None:
    """Read a packet of Proxy Mobile IPv6, with any checksum; what is accepted is built again and read as the same."""
    with mock.patch.object(wire, "checksum", return_value=0):
        found = pmipv6.parse(parse_packet(data))
    if found is None:
        return
    found = replace(found, authentication=None)
    again = pmipv6.parse(parse_packet(pmipv6.build(found, None)))
    assert again == found, f"{found} is read back as {again}"


def router_advertisement(data: bytes) -> None:
    """Read a Router Advertisement; what is accepted can be built again, and is then read as the same."""
    found = parse_router_advertisement("fe80::1", data)
    again = parse_router_advertisement("fe80::1", router_advertisement_packet(found, bytes(6))[40:])
    assert again == found, f"{found} is read back as {again}"


def home_agent_address_discovery(data: bytes) -> None:
    """Read a request or reply of discovery; what is accepted can be built again, and is then read as the same."""
    if data[:1] == bytes([home_agent_discovery.DISCOVERY_REQUEST]):
        asked = home_agent_discovery.parse_discovery_request(data).identifier
        request = home_agent_discovery.discovery_request_packet("2001:db8:2::2", "2001:db8:99::fffe", asked)
        assert home_agent_discovery.parse_discovery_request(request[40:]).identifier == asked
        return
    identifier, addresses = home_agent_discovery.parse_discovery_reply(data)
    addresses = addresses[: home_agent_discovery.MOST_ADDRESSES]
    reply = home_agent_discovery.discovery_reply_packet("2001:db8:99::1", "2001:db8:2::2", identifier, addresses)
    again = home_agent_discovery.parse_discovery_reply(reply[40:])
    assert again == (identifier, addresses), f"{addresses} are read back as {again}"


def prefix_solicitation(data: bytes) -> None:
    """Read a packet with a Mobile Prefix Solicitation, with any checksum; its answer can be built."""
    found = parse_packet(data)
    if not home_agent_discovery.is_prefix_solicitation(found):
        return
    with mock.patch.object(home_agent_discovery, "in6_chksum", return_value=0):
        identifier = home_agent_discovery.parse_prefix_solicitation(found)
    home_address = found.home_address or found.source
    home_agent_discovery.prefix_advertisement_packet(found.destination, found.source, home_address, identifier, [])


def icmp_error(data: bytes) -> None:
    """Read an ICMPv6 error; the answer to the sender is no longer than may be sent, and only for who may be told."""
    error = icmp_errors.parse(data)
    if error is None:
        return
    icmp_errors.cannot_shrink(error)
    answer = icmp_errors.answer(error)
    if answer is None:
        return
    assert answer.destination == error.inner_source
    if answer.ipv4:
        assert len(answer.message) <= 576 - 20
        assert checksum(answer.message) == 0
    else:
        assert len(answer.message) <= icmp_errors.MINIMUM_MTU - icmp_errors.IPV6_HEADER
