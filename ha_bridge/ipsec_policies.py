# SPDX-License-Identifier: Apache-2.0
"""Find the kernel's IPsec policies that protect a home registration's payload. Pure: bytes are arguments.

Encryption between home agent and mobile node must not be removed silently, so such a binding is never offloaded.
Mobile IPv6's own policies, for home address option and type 2 routing header (templates `hao` and `route2`), protect
nothing. Policies for Mobility Headers or ICMPv6 do not protect payload either: both stay on the home agent's path.
pyroute2 knows no xfrm messages, so the kernel's structures (linux/xfrm.h) are parsed here.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6

XFRM_MSG_NEWPOLICY = 0x13
XFRM_MSG_DELPOLICY = 0x14
XFRM_MSG_GETPOLICY = 0x15
XFRM_MSG_UPDPOLICY = 0x19

_XFRMA_TMPL = 5
_PROTECTING = (50, 51)  # ESP, AH
_NO_PAYLOAD = (135, 58)  # Mobility Header, ICMPv6
_TUNNELS = (0, 4, 41)  # any protocol, IPv4 inside, IPv6 inside
_DIR_OUT = 1  # in and fwd: towards the home agent

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# daddr, saddr, dport, dport_mask, sport, sport_mask, family, prefixlen_d, prefixlen_s, proto, ifindex, user
_SELECTOR = struct.Struct("=16s16s4HHBBB3xiI")
_DIR_AT = _SELECTOR.size + 64 + 32 + 8  # after the lifetime configuration, the current lifetimes, priority and index
_POLICY_SIZE = 168
_TEMPLATE_SIZE = 64
_TEMPLATE_PROTO_AT = 20


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that encrypts or authenticates packets of IP protocol `proto` (0: any)."""

    source: Network
    destination: Network
    proto: int
    direction: int


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a netlink datagram into messages: type and payload."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, position)
        if not _HEADER.size <= length <= len(data) - position:
            room = len(data) - position
            raise ValueError(f"expected a netlink message of {_HEADER.size} to {room} bytes, got {length}")
        yield kind, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def protecting_policy(kind: int, payload: bytes) -> Policy | None:
    """Return the policy of an xfrm message if it is a policy with ESP or AH, else None."""
    if kind not in (XFRM_MSG_NEWPOLICY, XFRM_MSG_UPDPOLICY):
        return None
    fields = _SELECTOR.unpack_from(payload)
    destination, source, family, destination_length, source_length, proto = *fields[:2], *fields[6:10]
    direction = payload[_DIR_AT]
    templates = dict(_attributes(payload[_POLICY_SIZE:])).get(_XFRMA_TMPL, b"")
    protos = templates[_TEMPLATE_PROTO_AT::_TEMPLATE_SIZE]
    if not any(used in _PROTECTING for used in protos):
        return None
    if family not in (AF_INET6, AF_INET, 0):
        return None
    octets = 4 if family == AF_INET else 16
    return Policy(
        ip_network((source[:octets], source_length), strict=False),
        ip_network((destination[:octets], destination_length), strict=False),
        proto,
        direction,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            raise ValueError(f"expected a netlink attribute of at least {_ATTRIBUTE.size} bytes, got {length}")
        yield kind, data[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3


class _Networks:
    """Hold a set of networks, optimised for single hosts."""

    def __init__(self) -> None:
        self._hosts: set[Address] = set()
        self._wide: list[Network] = []

    def __bool__(self) -> bool:
        return bool(self._hosts or self._wide)

    def add(self, network: Network) -> None:
        if _is_host(network):
            self._hosts.add(network.network_address)
        else:
            self._wide.append(network)

    def overlap(self, network: Network) -> bool:
        if _is_host(network):
            hit = network.network_address in self._hosts
        else:
            hit = any(host in network for host in self._hosts)
        return hit or any(wide.overlaps(network) for wide in self._wide)


def _is_host(network: Network) -> bool:
    return network.prefixlen == network.max_prefixlen


class Protection:
    """Hold the policies of a home agent's kernel that protect payload."""

    def __init__(self, policies: Iterable[Policy], home_agent: str) -> None:
        self._agent = ip_address(home_agent)
        self._inner = _Networks()  # home addresses and mobile networks
        self._outer = _Networks()  # far ends of tunnels
        for policy in policies:
            self._take(policy)

    def _take(self, policy: Policy) -> None:
        if policy.proto in _NO_PAYLOAD:
            return
        near, far = policy.source, policy.destination
        if policy.direction != _DIR_OUT:
            near, far = far, near
        if policy.proto in _TUNNELS and self._agent in near:
            self._outer.add(far)  # covers the tunnel itself, home agent to care-of address
        if _is_host(near) and self._agent in near:
            return  # the home agent's own traffic with the mobile node, not forwarded payload
        self._inner.add(far)

    def covers(self, home_address: str, care_of_address: str) -> bool:
        """Tell whether payload to or from `home_address` (address or prefix), or its tunnel, is protected."""
        if not self._inner and not self._outer:
            return False
        return self._inner.overlap(ip_network(home_address)) or self._outer.overlap(ip_network(care_of_address))
