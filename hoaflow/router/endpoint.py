# SPDX-License-Identifier: Apache-2.0
"""Describe a tunnel endpoint: the namespace where a router's packets for one home agent enter and leave their tunnels.

There is one per bridge and home agent, because seg6's outer source address is set per namespace::

    OVS ──hft-…  tin ┐                              ┌ tout  hfk-…── the router's kernel
                     │  enc0 ── enc1               │
    for a home address: tin → enc0 → enc1, encapsulated → tout
    from a care-of address: tin, pair checked, decapsulated → tout
    from a care-of address, with what is the home agent's in it: tin → tout, as it is

The link enc0-enc1 leads back into the same namespace. seg6 neither decrements the hop limit nor answers Packet Too Big
when it encapsulates. So ordinary routing forwards the packet over this link first, whose MTU is the tunnel's: that hop
does both. The links tin and tout carry packets of any size, so that those that are too long get as far as that hop.
Routing tables separate the ways:

- INGRESS, for packets from tin: to enc0.
- main, for packets from enc1, and for the ICMPv6 errors made here: one encapsulating route per binding. The default
  route is the fallback: to the router's kernel, and so to the home agent.
- PLAIN, for packets that are in a tunnel already or have left one, and for tunnel packets that the spoofing filter
  leaves to the home agent (signalling, multicast, link-local): to the router's kernel, never into another tunnel. So a
  care-of address that is also a home address cannot make a loop.
- IPV6_PAYLOAD and IPV4_PAYLOAD, for tunnel packets that the spoofing filter has accepted and marked by their payload:
  decapsulated, and to the router's kernel. Without the filter there are no marks, and all go to the home agent.
- ERRORS, for ICMPv6 errors about tunnel packets, which the router's kernel copies here
  (`hoaflow.router.packet_filter`): delivered to the agent's socket.

IPv4 packets take the same ways by IPv4 tables of the same numbers. The links need no IPv4 addresses, as IPv4 routes may
have IPv6 gateways (RFC 8950). Only End.DX4 asks for an IPv4 next hop: the end in the router's kernel has 192.0.0.8, the
dummy address of nodes without one (RFC 7600).

The endpoint of a home agent with an IPv4 address has the same links and ways, but no routes per binding: seg6 writes
IPv6 headers only. A BPF program at tout encapsulates what the home addresses in its maps are the destination of, and
decapsulates what the filter has accepted, on its way by PLAIN (`hoaflow.tunnel.tunnel_program`).
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from hoaflow.addresses import format_address, host, parse_address, why_not_global_unicast
from hoaflow.router.errors import RouterError
from hoaflow.router.ovsdb import EndpointRecord
from hoaflow.tunnel.namespace import NETNS_DIRECTORY, Namespace

INGRESS_TABLE, PLAIN_TABLE, IPV4_PAYLOAD_TABLE, ERRORS_TABLE, IPV6_PAYLOAD_TABLE = 100, 101, 102, 103, 104
# Preferences
NESTED_RULE = 89
PLAIN_RULE, PLAIN_IPV4_RULE, KEPT_BACK_RULE, ERRORS_RULE, LEFT_RULE = 90, 91, 92, 93, 94
IPV4_PAYLOAD_RULE, IPV6_PAYLOAD_RULE, INGRESS_RULE = 95, 96, 100
KEPT_BACK_MARK = 5  # of packets that take the home agent's path
NESTED_MARK = 6  # of packets that have a tunnel header of the home agent's already when they come in

TIN, TOUT, ENC_IN, ENC_OUT = "tin", "tout", "enc0", "enc1"
KERNEL_SIDE, TOUT_SIDE, ENC_IN_SIDE, ENC_OUT_SIDE = "fe80::1", "fe80::2", "fe80::3", "fe80::4"
# The second is nobody's: what the router's kernel copies into an IPv4 endpoint has no route, so it is sent as if its
# destination, the home agent, were on the link.
KERNEL_SIDE_IPV4, TOUT_SIDE_IPV4 = "192.0.0.8", "192.0.0.9"

OUTER_HEADER, OUTER_HEADER_IPV4 = 40, 20  # bytes
ENDS_MTU = 65535  # bytes, the largest MTU of a veth link
MINIMUM_MTU = 1280  # RFC 8200 §5


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as set up, with names that follow from bridge and home agent and are unique on a host.

    `home_agent`: IPv4, or IPv6 in RFC 5952 form; the tunnels' outer headers are of its family. `mtu`: that of the
    router's links that encapsulated packets take, in octets.
    """

    bridge: str
    home_agent: str
    kernel_namespace: Namespace = None
    mtu: int = 1500
    icmp_sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, bridge: str, record: EndpointRecord) -> Self:
        """Return the endpoint that is recorded for a bridge."""
        return cls(bridge, record.home_agent, record.kernel_namespace or None, record.mtu, record.icmp_sources)

    @property
    def is_ipv4(self) -> bool:
        """Whether the outer headers are IPv4."""
        return ":" not in self.home_agent

    @property
    def tunnel_mtu(self) -> int:
        """The octets that fit into a tunnel packet. Raises RouterError if the links' MTU is below 1280."""
        return tunnel_mtu(self.mtu, OUTER_HEADER_IPV4 if self.is_ipv4 else OUTER_HEADER)

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(f"{self.bridge} {self.home_agent}".encode()).digest()

    @property
    def _id(self) -> str:
        return self._digest[:5].hex()

    @property
    def namespace(self) -> str:
        """The name of the endpoint's network namespace."""
        return f"hoaflow-{self._id}"

    @property
    def port(self) -> str:
        """The veth end that is the OVS port; its peer is TIN."""
        return f"hft-{self._id}"

    @property
    def kernel_port(self) -> str:
        """The veth end in the router's kernel namespace; its peer is TOUT."""
        return f"hfk-{self._id}"

    @property
    def mac(self) -> str:
        """The MAC address of TIN: locally administered, unicast."""
        return ":".join(f"{octet:02x}" for octet in b"\x02" + self._digest[5:10])

    def mac_of(self, end: str) -> str:
        """Return the MAC address of another veth end, which is constant, so that neighbours can be fixed."""
        return mac_of(self._digest, end)

    @property
    def record(self) -> EndpointRecord:
        """The endpoint's record in the OVS database, with the kernel namespace as a path."""
        kernel = self.kernel_namespace or ""
        if kernel and "/" not in kernel:
            kernel = str(NETNS_DIRECTORY / kernel)
        return EndpointRecord(self.home_agent, self.port, self.mac, self.namespace, kernel, self.mtu, self.icmp_sources)


def mac_of(whose: bytes, end: str) -> str:
    """Return the MAC address of a veth end of `whose`: locally administered, unicast, always the same."""
    digest = hashlib.sha256(whose + end.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in b"\x02" + digest[:5])


def tunnel_mtu(link_mtu: int, outer_header: int = OUTER_HEADER) -> int:
    """Return the octets that fit into a tunnel packet on links of MTU `link_mtu`. Raises RouterError below 1280."""
    if link_mtu < MINIMUM_MTU:
        raise RouterError(f"--mtu {link_mtu}: IPv6 needs links of {MINIMUM_MTU} octets (RFC 8200 section 5)")
    return link_mtu - outer_header


def home_agent_address(text: str) -> str:
    """Return a home agent's address, IPv6 in RFC 5952 form. Raises ValueError unless it is global unicast."""
    packed = parse_address(text)
    if (reason := why_not_global_unicast(host(packed))) is not None:
        raise ValueError(f"expected a global unicast address, but {reason}")
    return format_address(packed)
