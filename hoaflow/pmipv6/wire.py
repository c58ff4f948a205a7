# SPDX-License-Identifier: Apache-2.0
"""Parse and build the packets of Proxy Mobile IPv6; the messages' layers are in `options`.

Both ends authenticate every message with RFC 4285's option, over source, destination and the Mobility Header: in place
of care-of address and home address, which these messages do not have.
"""

from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from scapy.layers.inet6 import MIP6MH_BA, MIP6MH_BU, IPv6, MIP6OptMNID
from scapy.packet import Packet

from hoaflow.mobility import wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.messages import LIFETIME_UNIT
from hoaflow.mobility.wire import HOP_LIMIT, MobilityPacket
from hoaflow.pmipv6 import options as layers
from hoaflow.pmipv6.messages import (
    ANY_PREFIX,
    Heartbeat,
    Message,
    ProxyBindingAcknowledgement,
    ProxyBindingUpdate,
    Revocation,
    RevocationAcknowledgement,
)
from hoaflow.pmipv6.mobile_nodes import MOST_PREFIXES

# Bits of scapy's FlagsField.
_ACKNOWLEDGE, _PROXY_UPDATE, _PROXY_ACKNOWLEDGEMENT = 0x40, 0x01, 0x01
# Flag B, among what scapy calls reserved (RFC 6602, sections 4.1 and 4.2).
_BULK_UPDATE, _BULK_ACKNOWLEDGEMENT = 0x40, 0x08
_INDICATION, _ACKNOWLEDGEMENT = 1, 2
_NAI = 1


def parse(packet: MobilityPacket) -> Message | None:
    """Parse the message in a packet; None if it is none of Proxy Mobile IPv6. Raises MalformedPacketError."""
    reader = _READERS.get(packet.mobility_type)
    return None if reader is None else reader(packet)


def build(message: Message, association: SecurityAssociation | None) -> bytes:
    """Build the packet of a message, authenticated by an association if there is one."""
    header = _header(message, [])
    if association is not None:
        unsigned = _header(message, wire.authentication_option(association.spi, b""))
        covered = wire.authenticated_part(unsigned)
        authenticator = association.authenticator(message.source, message.destination, covered)
        header = _header(message, wire.authentication_option(association.spi, authenticator))
    packet = IPv6(src=message.source, dst=message.destination, hlim=HOP_LIMIT)
    return wire.with_checksum(packet / header, message.source, message.destination)


def vouched_for(message: Message, association: SecurityAssociation) -> bool:
    """Tell whether a message is authenticated by an association."""
    option = message.authentication
    return option is not None and association.vouches_for(option, message.source, message.destination)


def _header(message: Message, last: list[Packet]) -> Packet:
    match message:
        case ProxyBindingUpdate():
            return MIP6MH_BU(
                cksum=0,
                seq=message.sequence,
                flags=_ACKNOWLEDGE | _PROXY_UPDATE,
                reserved=0 if message.group is None else _BULK_UPDATE,
                mhtime=message.lifetime // LIFETIME_UNIT,
                options=[*_registration_options(message), *last],
            )
        case ProxyBindingAcknowledgement():
            return MIP6MH_BA(
                cksum=0,
                status=message.status,
                flags=_PROXY_ACKNOWLEDGEMENT,
                res2=0 if message.group is None else _BULK_ACKNOWLEDGEMENT,
                seq=message.sequence,
                mhtime=message.lifetime // LIFETIME_UNIT,
                options=[*_registration_options(message), *last],
            )
        case Heartbeat():
            counter = message.restart_counter
            return layers.HeartbeatHeader(
                cksum=0,
                seq=message.sequence,
                response=message.response,
                unsolicited=message.unsolicited,
                options=[
                    *([] if counter is None else [layers.RestartCounterOption(counter=counter)]),
                    *_timestamp(message.timestamp),
                    *last,
                ],
            )
        case Revocation():
            return layers.RevocationHeader(
                cksum=0,
                kind=_INDICATION,
                code=message.trigger,
                seq=message.sequence,
                everything=message.everything,
                options=[
                    *_identifier(message.identifier),
                    *_prefixes(message.prefixes),
                    *_timestamp(message.timestamp),
                    *last,
                ],
            )
        case RevocationAcknowledgement():
            return layers.RevocationHeader(
                cksum=0,
                kind=_ACKNOWLEDGEMENT,
                code=message.status,
                seq=message.sequence,
                everything=message.everything,
                options=[*_identifier(message.identifier), *_timestamp(message.timestamp), *last],
            )


def _registration_options(message: ProxyBindingUpdate | ProxyBindingAcknowledgement) -> list[Packet]:
    found = [*_identifier(message.identifier), *_prefixes(message.prefixes)]
    if message.handoff is not None:
        found.append(layers.HandoffIndicatorOption(indicator=message.handoff))
    if message.access_technology is not None:
        found.append(layers.AccessTechnologyTypeOption(technology=message.access_technology))
    if message.link_layer:
        found.append(layers.LinkLayerIdentifierOption(identifier=message.link_layer))
    if message.link_local is not None:
        found.append(layers.LinkLocalAddressOption(address=message.link_local))
    found += _timestamp(message.timestamp)
    return found if message.group is None else [*found, layers.GroupIdentifierOption(group=message.group)]


def _identifier(identifier: str) -> list[Packet]:
    return [MIP6OptMNID(subtype=_NAI, id=identifier.encode())] if identifier else []


def _prefixes(prefixes: Iterable[str]) -> list[Packet]:
    networks = map(IPv6Network, prefixes)
    return [layers.HomeNetworkPrefixOption(plen=n.prefixlen, prefix=str(n.network_address)) for n in networks]


def _timestamp(timestamp: int | None) -> list[Packet]:
    return [] if timestamp is None else [layers.TimestampOption(timestamp=timestamp)]


def _read_update(packet: MobilityPacket) -> ProxyBindingUpdate | None:
    header = _dissect(packet, MIP6MH_BU, wire.BINDING_UPDATE)
    if not int(header.flags) & _PROXY_UPDATE:
        return None
    return ProxyBindingUpdate(
        source=packet.source,
        destination=packet.destination,
        sequence=header.seq,
        lifetime=header.mhtime * LIFETIME_UNIT,
        group=_read_group(header) if int(header.reserved) & _BULK_UPDATE else None,
        authentication=wire.authentication(header, packet.payload),
        **_registration(header),
    )


def _read_acknowledgement(packet: MobilityPacket) -> ProxyBindingAcknowledgement | None:
    header = _dissect(packet, MIP6MH_BA, wire.BINDING_ACKNOWLEDGEMENT)
    if not int(header.flags) & _PROXY_ACKNOWLEDGEMENT:
        return None
    return ProxyBindingAcknowledgement(
        source=packet.source,
        destination=packet.destination,
        sequence=header.seq,
        status=header.status,
        lifetime=header.mhtime * LIFETIME_UNIT,
        group=_read_group(header) if int(header.res2) & _BULK_ACKNOWLEDGEMENT else None,
        authentication=wire.authentication(header, packet.payload),
        **_registration(header),
    )


def _read_heartbeat(packet: MobilityPacket) -> Heartbeat:
    header = _dissect(packet, layers.HeartbeatHeader, layers.HEARTBEAT)
    counter = _first(header, layers.RestartCounterOption)
    return Heartbeat(
        source=packet.source,
        destination=packet.destination,
        sequence=header.seq,
        response=bool(header.response),
        unsolicited=bool(header.unsolicited),
        restart_counter=None if counter is None else counter.counter,
        timestamp=_read_timestamp(header),
        authentication=wire.authentication(header, packet.payload),
    )


def _read_revocation(packet: MobilityPacket) -> Revocation | RevocationAcknowledgement:
    header = _dissect(packet, layers.RevocationHeader, layers.BINDING_REVOCATION)
    common: dict[str, Any] = {
        "source": packet.source,
        "destination": packet.destination,
        "sequence": header.seq,
        "identifier": _read_identifier(header),
        "everything": bool(header.everything),
        "timestamp": _read_timestamp(header),
        "authentication": wire.authentication(header, packet.payload),
    }
    if header.kind == _INDICATION:
        return Revocation(**common, trigger=header.code, prefixes=_read_prefixes(header))
    if header.kind == _ACKNOWLEDGEMENT:
        return RevocationAcknowledgement(**common, status=header.code)
    raise MalformedPacketError(f"Binding Revocation type {header.kind}, expected 1 or 2 (RFC 5846)")


def _dissect(packet: MobilityPacket, layer: type[Packet], expected: int) -> Any:
    header = wire.dissect(packet, layer, expected)
    for option in header.options:
        if option.otype in layers.LENGTHS and option.olen != layers.LENGTHS[option.otype]:
            raise MalformedPacketError(f"option {option.otype} has length {option.olen}")
    return header


_READERS = {
    wire.BINDING_UPDATE: _read_update,
    wire.BINDING_ACKNOWLEDGEMENT: _read_acknowledgement,
    layers.HEARTBEAT: _read_heartbeat,
    layers.BINDING_REVOCATION: _read_revocation,
}


def _registration(header: Any) -> dict[str, Any]:
    handoff = _first(header, layers.HandoffIndicatorOption)
    technology = _first(header, layers.AccessTechnologyTypeOption)
    link_layer = _first(header, layers.LinkLayerIdentifierOption)
    link_local = _first(header, layers.LinkLocalAddressOption)
    return {
        "identifier": _read_identifier(header),
        "prefixes": _read_prefixes(header),
        "handoff": None if handoff is None else handoff.indicator,
        "access_technology": None if technology is None else technology.technology,
        "link_layer": b"" if link_layer is None else bytes(link_layer.identifier),
        "link_local": None if link_local is None else str(IPv6Address(link_local.address)),
        "timestamp": _read_timestamp(header),
    }


def _read_prefixes(header: Any) -> tuple[str, ...]:
    """Return the home network prefixes. ALL_ZERO asks for some whatever its length (RFC 5213, section 6.9.1.1)."""
    found = [option for option in header.options if isinstance(option, layers.HomeNetworkPrefixOption)]
    if len(found) > MOST_PREFIXES:
        raise MalformedPacketError(f"{len(found)} home network prefixes, expected at most {MOST_PREFIXES}")
    try:
        prefixes = [IPv6Network((option.prefix, option.plen), strict=False) for option in found]
    except ValueError as error:
        raise MalformedPacketError(f"unreadable home network prefix: {error}") from error
    return tuple(str(each) if int(each.network_address) else ANY_PREFIX for each in prefixes)


def _read_identifier(header: Any) -> str:
    """Return the identifier, empty if there is none that is a NAI, which is UTF-8 (RFC 4283; RFC 7542, section 2.1)."""
    found = (option for option in header.options if isinstance(option, MIP6OptMNID) and option.subtype == _NAI)
    option = next(found, None)
    try:
        return "" if option is None else bytes(option.id).decode()
    except UnicodeDecodeError as error:
        raise MalformedPacketError(f"the mobile node identifier is not UTF-8: {error}") from error


def _read_timestamp(header: Any) -> int | None:
    option = _first(header, layers.TimestampOption)
    return None if option is None else int(option.timestamp)


def _read_group(header: Any) -> int | None:
    option = _first(header, layers.GroupIdentifierOption)
    return None if option is None or option.subtype != layers.BULK_GROUP else int(option.group)


def _first(header: Any, layer: type[Packet]) -> Any:
    return next((option for option in header.options if isinstance(option, layer)), None)
