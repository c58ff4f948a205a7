# SPDX-License-Identifier: Apache-2.0
"""A tunnel endpoint: the namespace where a router's packets for one home agent enter and leave their tunnels.

One per bridge and home agent, because the outer source address of seg6 encapsulation is set per namespace::

    OVS ──hft-…  tin ┐                              ┌ tout  hfk-…── the router's kernel
                     │  enc0 ── enc1               │
    for a home address: tin → enc0 → enc1, encapsulated → tout
    from a care-of address: tin, pair checked, decapsulated → tout
    from a care-of address, with what is the home agent's in it: tin → tout, as it is

The link enc0-enc1 leads back into the same namespace. seg6 neither decrements the hop limit nor answers
Packet Too Big where it encapsulates, so the packet is forwarded by ordinary routing first, over a link
whose MTU is the tunnel's: that hop does both. The links tin and tout carry whatever the bridge's ports may: a
packet that is too long has to get as far as that hop to be answered. Routing tables keep the ways apart:

- INGRESS, for what comes from tin: it goes to enc0.
- main, for what comes from enc1 and for the ICMPv6 errors made here: one encapsulating route per binding; the
  default route leads to the router's kernel and so to the home agent: the fallback.
- PLAIN, for packets that are in a tunnel already or come out of one, and for tunnel packets that the pair filter leaves
  to the home agent (signalling, multicast, link-local): to the router's kernel, never into
  another tunnel from here. A care-of address that is a home address, too, cannot make a loop.
- IPV6_PAYLOAD and IPV4_PAYLOAD, for tunnel packets that the pair filter has accepted and marked by their payload:
  decapsulated and handed to the router's kernel. Without the filter nothing has a mark: all goes to the home agent.
- ERRORS, for ICMPv6 errors about tunnel packets that the router's kernel has copied here
  (`hoaflow.router.packet_filter`): delivered, to the agent's socket.

IPv4 packets take the same ways by IPv4 tables of the same numbers. The links need no IPv4 addresses for that:
IPv4 routes have IPv6 gateways (RFC 8950). Only End.DX4 asks for an IPv4 next hop: the router's kernel's end is
192.0.0.8, the dummy address of nodes that have none (RFC 7600).
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

from hoaflow.router.errors import RouterError
from hoaflow.router.ovsdb import EndpointRecord
from hoaflow.tunnel.namespace import NETNS_DIRECTORY, Namespace

INGRESS_TABLE, PLAIN_TABLE, IPV4_PAYLOAD_TABLE, ERRORS_TABLE, IPV6_PAYLOAD_TABLE = 100, 101, 102, 103, 104
# Preferences
PLAIN_RULE, PLAIN_IPV4_RULE, KEPT_BACK_RULE, ERRORS_RULE, LEFT_RULE = 90, 91, 92, 93, 94
IPV4_PAYLOAD_RULE, IPV6_PAYLOAD_RULE, INGRESS_RULE = 95, 96, 100
KEPT_BACK_MARK = 5  # on packets for the home agent's path

TIN, TOUT, ENC_IN, ENC_OUT = "tin", "tout", "enc0", "enc1"
KERNEL_SIDE, TOUT_SIDE, ENC_IN_SIDE, ENC_OUT_SIDE = "fe80::1", "fe80::2", "fe80::3", "fe80::4"
KERNEL_SIDE_IPV4 = "192.0.0.8"

OUTER_HEADER = 40  # bytes, an IPv6 header
ENDS_MTU = 65535  # bytes, the most that a veth link takes
MINIMUM_MTU = 1280  # RFC 8200 §5


@dataclass(frozen=True)
class Endpoint:
    """What setup was asked for, and the names that follow from it: always the same ones, unique on a host.

    `home_agent` in RFC 5952 form; `mtu` in bytes, of the router's links that the encapsulated packets take.
    """

    bridge: str
    home_agent: str
    kernel_namespace: Namespace = None
    mtu: int = 1500
    icmp_sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, bridge: str, record: EndpointRecord) -> Endpoint:
        """The endpoint that a bridge's port stands for."""
        return cls(bridge, record.home_agent, record.kernel_namespace or None, record.mtu, record.icmp_sources)

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
        """The MAC address of another veth end: always the same one, so that neighbours can be fixed."""
        digest = hashlib.sha256(self._digest + end.encode()).digest()
        return ":".join(f"{octet:02x}" for octet in b"\x02" + digest[:5])

    @property
    def record(self) -> EndpointRecord:
        """The endpoint as the OVS database has it; a namespace's name and its path are the same there."""
        kernel = self.kernel_namespace or ""
        if kernel and "/" not in kernel:
            kernel = str(NETNS_DIRECTORY / kernel)
        return EndpointRecord(self.home_agent, self.port, self.mac, self.namespace, kernel, self.mtu, self.icmp_sources)


def tunnel_mtu(link_mtu: int) -> int:
    """What fits into a tunnel packet, in octets, where the links have LINK_MTU. Raises RouterError."""
    if link_mtu < MINIMUM_MTU:
        raise RouterError(f"--mtu {link_mtu}: IPv6 needs links of {MINIMUM_MTU} octets (RFC 8200 section 5)")
    return link_mtu - OUTER_HEADER


def home_agent_address(text: str) -> str:
    """A home agent's address in RFC 5952 form. Raises ValueError unless it is a global unicast IPv6
    address.
    """
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise ValueError(f"expected an IPv6 address, got {text!r}") from error
    if address.is_multicast or address.is_link_local or address.is_loopback or address.is_unspecified:
        raise ValueError(f"expected a global unicast address, got {text!r}")
    if address.scope_id is not None:
        raise ValueError(f"expected an address without zone, got {text!r}")
    return str(address)
