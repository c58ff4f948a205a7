# SPDX-License-Identifier: Apache-2.0
"""Check Registration Requests before they are relayed (RFC 5944, section 3.7.2.1; RFC 3024, section 4.1). Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from hoaflow.addresses import host, parse_address, why_not_global_unicast
from hoaflow.mobile_ipv4.messages import RESERVED, Code, Flag, RegistrationRequest

DIRECT_TTL = 255
"""The hop limit of a request for a reverse tunnel that comes from the link itself (RFC 3024, section 4.1)."""


class ReverseTunnels(StrEnum):
    """Whether visitors may have, must have or cannot have a reverse tunnel."""

    OFFERED = "offered"
    REQUIRED = "required"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the foreign agent grants. `max_lifetime` is in seconds, FOREVER for any."""

    care_of_address: str
    max_lifetime: int
    max_visitors: int
    reverse_tunnels: ReverseTunnels


class Station(NamedTuple):
    """Where a mobile node is heard: a link and its link-layer address there."""

    link: str
    mac: bytes


class Visit(NamedTuple):
    """A Registration Request as it has come. `to`: the address that it was sent to. `ttl`: its hop limit."""

    request: RegistrationRequest
    station: Station
    to: str
    ttl: int

    @property
    def home_address(self) -> str:
        """The key of the pending and of the visitor list."""
        return self.request.home_address


def refusal(policy: Policy, visit: Visit) -> Code | None:
    """Return the code with which the foreign agent itself refuses a request, None to relay it."""
    request = visit.request
    own = request.care_of_address == policy.care_of_address
    co_located = Flag.DECAPSULATION in request.flags
    if _is_malformed(request, policy.care_of_address):
        return Code.POORLY_FORMED_REQUEST
    if not _is_host(request.home_agent) or request.home_agent in (policy.care_of_address, request.home_address):
        return Code.INVALID_HOME_AGENT
    if request.deregistration:
        return None
    if own is co_located:  # a care-of address of nobody's here, or ours with D: the mobile node is not to decapsulate
        return Code.INVALID_CARE_OF_ADDRESS
    if request.lifetime > policy.max_lifetime:
        return Code.LIFETIME_TOO_LONG
    if request.flags & (Flag.MINIMAL | Flag.GRE):
        return Code.FOREIGN_AGENT_ENCAPSULATION_UNAVAILABLE
    return None if co_located else _of_reverse_tunnel(policy.reverse_tunnels, visit)


def _of_reverse_tunnel(tunnels: ReverseTunnels, visit: Visit) -> Code | None:
    if not visit.request.reverse_tunnel:
        return Code.REVERSE_TUNNEL_MANDATORY if tunnels is ReverseTunnels.REQUIRED else None
    if tunnels is ReverseTunnels.UNAVAILABLE:
        return Code.REVERSE_TUNNEL_UNAVAILABLE
    if visit.ttl != DIRECT_TTL:
        return Code.MOBILE_NODE_TOO_DISTANT
    return Code.DELIVERY_STYLE_UNSUPPORTED if visit.request.encapsulating_delivery else None


def _is_malformed(request: RegistrationRequest, care_of_address: str) -> bool:
    unfit = not _is_host(request.home_address) or request.home_address == care_of_address
    return bool(request.flags & RESERVED) or request.authentication is None or unfit


def _is_host(address: str) -> bool:
    """Tell whether an address can be that of one node."""
    return why_not_global_unicast(host(parse_address(address))) is None
