# SPDX-License-Identifier: Apache-2.0
"""Build and parse Home Agent Switch messages, by which a home agent sends mobile nodes to others (RFC 5142).

RFC 5142 has IPsec authenticate them. Where RFC 4285 is used instead, they end with the option that ends Binding
Acknowledgements, computed alike.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address

from scapy.fields import ByteEnumField, ByteField, FieldLenField, XShortField
from scapy.layers.inet6 import (
    IP6ListField,
    IPv6,
    IPv6ExtHdrRouting,
    MIP6OptUnknown,
    _MobilityHeader,
    _OptionsField,
    _PhantomAutoPadField,
    ipv6nh,
)

from hoaflow.mobility import wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.messages import MnHaAuthentication

HOME_AGENT_SWITCH = 12
"""MH Type."""
MOST_ADDRESSES = 16
"""Home agents that are named at most: the most preferred ones."""


class HomeAgentSwitchHeader(_MobilityHeader):
    """RFC 5142, section 4."""

    name = "IPv6 Mobility Header - Home Agent Switch"
    fields_desc = [
        ByteEnumField("nh", 59, ipv6nh),
        ByteField("len", None),
        ByteField("mhtype", HOME_AGENT_SWITCH),
        ByteField("res", 0),
        XShortField("cksum", None),
        FieldLenField("count", None, fmt="B", count_of="addresses"),
        ByteField("reserved", 0),
        IP6ListField("addresses", [], count_from=lambda header: header.count),
        _PhantomAutoPadField("autopad", 1),
        _OptionsField("options", [], MIP6OptUnknown, 8, length_from=lambda header: 8 * header.len - 16 * header.count),
    ]
    overload_fields = {IPv6: {"nh": wire.MOBILITY_HEADER}}


@dataclass(frozen=True, slots=True)
class HomeAgentSwitch:
    """A Home Agent Switch message to the mobile node of `home_address`, sent to `destination`.

    `home_agents`: addresses of others to register at, the most preferred first; none if the sender knows none.
    """

    source: str
    destination: str
    home_address: str
    home_agents: tuple[str, ...]
    authentication: MnHaAuthentication | None = None


def build(message: HomeAgentSwitch, association: SecurityAssociation | None) -> bytes:
    """Build the packet of a message to a mobile node away from home, authenticated if there is an association."""
    header = _header(message, None, b"")
    if association is not None:
        covered = wire.authenticated_part(_header(message, association.spi, b""))
        authenticator = association.authenticator(message.destination, message.home_address, covered)
        header = _header(message, association.spi, authenticator)
    packet = IPv6(src=message.source, dst=message.destination, hlim=wire.HOP_LIMIT)
    packet /= IPv6ExtHdrRouting(nh=wire.MOBILITY_HEADER, type=2, segleft=1, addresses=[message.home_address])
    return wire.with_checksum(packet / header, message.source, message.home_address)


def parse(packet: wire.MobilityPacket) -> HomeAgentSwitch:
    """Parse the message in a packet. Raises MalformedPacketError."""
    if packet.mobility_type == HOME_AGENT_SWITCH and 16 * packet.payload[6] > len(packet.payload) - 8:
        raise MalformedPacketError(f"no room for {packet.payload[6]} home agents in {len(packet.payload)} bytes")
    message = wire.dissect(packet, HomeAgentSwitchHeader, HOME_AGENT_SWITCH)
    return HomeAgentSwitch(
        packet.source,
        packet.destination,
        packet.routed_to or packet.destination,
        tuple(str(IPv6Address(address)) for address in message.addresses),
        wire.authentication(message, packet.payload),
    )


def _header(message: HomeAgentSwitch, spi: int | None, authenticator: bytes) -> HomeAgentSwitchHeader:
    options = wire.authentication_option(spi, authenticator)
    return HomeAgentSwitchHeader(cksum=0, addresses=list(message.home_agents), options=options)
