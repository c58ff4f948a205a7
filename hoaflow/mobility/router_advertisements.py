# SPDX-License-Identifier: Apache-2.0
"""Build and parse Router Advertisements (RFC 4861, section 4.2), also those of home agents (RFC 6275, section 7)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Interface

from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptHAInfo,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)

from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.neighbours import ALL_NODES, HOP_LIMIT

ALL_ROUTERS = "ff02::2"
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
LONGEST_ROUTER_LIFETIME = 9000
"""Seconds (RFC 4861, section 6.2.1)."""
HEADER = 16
PREFIX_INFORMATION, HOME_AGENT_INFORMATION = 3, 8
"""Types of options (RFC 4861, section 4.6.2; RFC 6275, section 7.4)."""
_HOME_AGENT = 0x20
_ON_LINK, _AUTONOMOUS, _ROUTER_ADDRESS = 0x80, 0x40, 0x20
_MOBILE_ROUTERS = 0x8000


@dataclass(frozen=True, slots=True)
class PrefixInformation:
    """A Prefix Information option (RFC 4861, section 4.6.2; RFC 6275, section 7.2). Lifetimes are in seconds.

    `prefix` has the router's own address if `router_address` (flag R) is set. Hosts form addresses if `autonomous`
    (flag A) is set.
    """

    prefix: IPv6Interface
    valid_lifetime: int
    preferred_lifetime: int
    on_link: bool = True
    autonomous: bool = True
    router_address: bool = False


@dataclass(frozen=True, slots=True)
class HomeAgentInformation:
    """A Home Agent Information option (RFC 6275, section 7.4). `lifetime` is in seconds; more preference is better.

    `mobile_routers`: the home agent takes mobile routers (flag R, RFC 3963, section 7.3).
    """

    preference: int
    lifetime: int
    mobile_routers: bool = False


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """A Router Advertisement, without what is of no concern here. Its source is a link-local address.

    `router_lifetime` is in seconds, 0 for a router that is no default router. `home_agent` is flag H.
    """

    source: str
    router_lifetime: int
    prefixes: tuple[PrefixInformation, ...] = ()
    home_agent: bool = False
    information: HomeAgentInformation | None = None


def router_solicitation_packet() -> bytes:
    """Build the packet by which a host that has no address yet asks for advertisements (RFC 4861, section 4.1)."""
    return bytes(IPv6(src="::", dst=ALL_ROUTERS, hlim=HOP_LIMIT) / ICMPv6ND_RS())


def router_advertisement_packet(
    advertisement: RouterAdvertisement, link_layer: bytes, destination: str = ALL_NODES, mtu: int | None = None
) -> bytes:
    """Build the packet of an advertisement; `link_layer` is its sender's address on the link, `mtu` the link's."""
    # A router that is no default router has no say on its hosts' hop limit.
    hop_limit = 64 if advertisement.router_lifetime else 0
    packet = IPv6(src=advertisement.source, dst=destination, hlim=HOP_LIMIT) / ICMPv6ND_RA(
        routerlifetime=advertisement.router_lifetime, chlim=hop_limit, M=0, O=0, H=advertisement.home_agent, prf=0
    )
    packet /= ICMPv6NDOptSrcLLAddr(lladdr=link_layer.hex(":"))
    if mtu is not None:
        packet /= ICMPv6NDOptMTU(mtu=mtu)
    for prefix in advertisement.prefixes:
        packet /= prefix_information_option(prefix)
    if (information := advertisement.information) is not None:
        flags = _MOBILE_ROUTERS if information.mobile_routers else 0
        packet /= ICMPv6NDOptHAInfo(res=flags, pref=information.preference, lifetime=information.lifetime)
    return bytes(packet)


def prefix_information_option(prefix: PrefixInformation) -> ICMPv6NDOptPrefixInfo:
    """Build the option."""
    return ICMPv6NDOptPrefixInfo(
        prefix=str(prefix.prefix.ip),
        prefixlen=prefix.prefix.network.prefixlen,
        L=prefix.on_link,
        A=prefix.autonomous,
        R=prefix.router_address,
        validlifetime=prefix.valid_lifetime,
        preferredlifetime=prefix.preferred_lifetime,
    )


def parse_router_advertisement(source: str, message: bytes) -> RouterAdvertisement:
    """Parse an advertisement from its ICMPv6 header on. Raises MalformedPacketError."""
    if len(message) < HEADER or message[:2] != bytes([ROUTER_ADVERTISEMENT, 0]):
        raise MalformedPacketError("not a Router Advertisement")
    prefixes, information = [], None
    for kind, option in _options(message[HEADER:]):
        if kind == PREFIX_INFORMATION:
            prefixes.append(_prefix_information(option))
        elif kind == HOME_AGENT_INFORMATION and information is None:
            information = _home_agent_information(option)
    return RouterAdvertisement(
        source,
        router_lifetime=struct.unpack_from("!H", message, 6)[0],
        prefixes=tuple(prefixes),
        home_agent=bool(message[5] & _HOME_AGENT),
        information=information,
    )


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and bytes of each option (RFC 4861, section 4.6). Raises MalformedPacketError."""
    while data:
        length = 8 * data[1] if len(data) > 1 else 0
        if not 0 < length <= len(data):
            raise MalformedPacketError(f"an option has length {length}, expected 8 to {len(data)}")
        yield data[0], data[:length]
        data = data[length:]


def _prefix_information(option: bytes) -> PrefixInformation:
    if len(option) != 32 or option[2] > 128:
        raise MalformedPacketError(f"a Prefix Information option has {len(option)} bytes and prefix length {option[2]}")
    length, flags, valid, preferred = struct.unpack_from("!BBII", option, 2)
    return PrefixInformation(
        IPv6Interface((option[16:], length)),
        valid,
        preferred,
        on_link=bool(flags & _ON_LINK),
        autonomous=bool(flags & _AUTONOMOUS),
        router_address=bool(flags & _ROUTER_ADDRESS),
    )


def _home_agent_information(option: bytes) -> HomeAgentInformation:
    if len(option) != 8:
        raise MalformedPacketError(f"a Home Agent Information option has {len(option)} bytes, expected 8")
    flags, preference, lifetime = struct.unpack_from("!HHH", option, 2)
    return HomeAgentInformation(preference, lifetime, mobile_routers=bool(flags & _MOBILE_ROUTERS))
