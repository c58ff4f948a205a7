# SPDX-License-Identifier: Apache-2.0
"""Say how a router encapsulates and decapsulates: what its backend makes of a binding's flows.

``docs/backends.md`` explains both backends. The router's agent announces which one it has, and where.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple, Protocol

from controller.core import reasons
from controller.core.bindings import Binding
from controller.core.flows import Action, DecTtl, Local, Output, SetField, Untag
from controller.core.pipeline import TUNNEL_DESTINATION, TUNNEL_SOURCE
from controller.core.reasons import Reason
from controller.core.tunnels import Tunnels
from hoaflow.addresses import host


class Backend(Hashable, Protocol):
    """What the flows of a binding do on a router."""

    def downlink(self, binding: Binding) -> tuple[Action, ...]:
        """Return the actions that encapsulate to the care-of address.

        Bindings differ in the addresses that they set: home agent and care-of address, in this order, or none.
        """

    def uplink(self) -> tuple[Action, ...]:
        """Return the actions that decapsulate."""

    def verified(self) -> tuple[Action, ...] | None:
        """Return the actions for packets that a flow has verified; None where the router's kernel verifies."""


class RouteBackend(NamedTuple):
    """The `route` backend: flows lead into a namespace, where routes encapsulate and a filter verifies.

    ``port`` is the OpenFlow port that leads there, ``mac`` the address behind it.
    """

    port: int
    mac: str

    def downlink(self, binding: Binding) -> tuple[Action, ...]:
        """Return the actions that hand a packet to the namespace, whose route for the home address encapsulates."""
        return self.uplink()

    def uplink(self) -> tuple[Action, ...]:
        """Return the actions that hand a packet to the namespace, which decapsulates."""
        return (Untag(), SetField("eth_dst", self.mac), Output(self.port))

    def verified(self) -> None:
        """Return None: the namespace's filter verifies."""


class FlowBackend(NamedTuple):
    """The `flow` backend of home agents of one family: flows set the tunnel, Open vSwitch's kernel datapath builds it.

    Packets leave by the port ``transmit``; decapsulated ones come in by ``receive`` (OpenFlow numbers). The kernel
    decapsulates what is sent to ``decapsulation_address`` at ``decapsulation_mac``, and routes what is sent to
    ``router_mac``. ``mtu`` is the longest packet in a tunnel, in octets. The kernel's tunnel device answers only longer
    IPv6 packets: ICMP needs a route in the packet, and those from OpenFlow have none.
    """

    transmit: int
    receive: int
    decapsulation_address: bytes
    decapsulation_mac: str
    router_mac: str
    mtu: int

    def downlink(self, binding: Binding) -> tuple[Action, ...]:
        """Return the actions that set the tunnel: from the home agent, as the mobile node expects, to the CoA."""
        return (
            Untag(),
            DecTtl(),
            SetField(TUNNEL_SOURCE[len(binding.home_agent)], binding.home_agent),
            SetField(TUNNEL_DESTINATION[len(binding.care_of_address)], binding.care_of_address),
            Output(self.transmit),
        )

    def uplink(self) -> tuple[Action, ...]:
        """Return the actions that hand a packet to the kernel's tunnel device, by an address of the router's own."""
        destination = "ipv4_dst" if host(self.decapsulation_address).is_ipv4 else "ipv6_dst"
        return (
            Untag(),
            SetField(destination, self.decapsulation_address),
            SetField("eth_dst", self.decapsulation_mac),
            Local(),
        )

    def retunnel(self, home_agent: bytes) -> tuple[Action, ...]:
        """Return the actions that send a decapsulated packet on to the home agent, with the outer source it had."""
        return (SetField(TUNNEL_DESTINATION[len(home_agent)], home_agent), Output(self.transmit))

    def verified(self) -> tuple[Action, ...]:
        """Return the actions that hand a packet to the router's kernel, which routes it."""
        return (SetField("eth_dst", self.router_mac), Local())


def backend_of(tunnels: Tunnels, home_agent: bytes, ports: Mapping[str, int]) -> Backend | Reason:
    """Return what encapsulates for a home agent on a router with these ports (numbers by name), or why nothing does."""
    if tunnels.is_flow:
        names = tunnels.flow.get(len(home_agent))
        if names is None:
            return reasons.no_tunnel_device(home_agent)
        if names.problem is not None:
            return reasons.endpoint_broken(names.problem)
        transmit, receive = ports.get(names.transmit_port), ports.get(names.receive_port)
        if transmit is None or receive is None:
            return reasons.no_port([name for name in (names.transmit_port, names.receive_port) if name not in ports])
        mac, router_mac = names.decapsulation_mac, names.router_mac
        return FlowBackend(transmit, receive, names.decapsulation_address, mac, router_mac, names.mtu)
    endpoint = tunnels.endpoints.get(home_agent)
    if endpoint is None:
        return reasons.no_endpoint(home_agent)
    if endpoint.problem is not None:
        return reasons.endpoint_broken(endpoint.problem)
    port = ports.get(endpoint.port)
    return reasons.no_port([endpoint.port]) if port is None else RouteBackend(port, endpoint.mac)
