# SPDX-License-Identifier: Apache-2.0
"""The home agent's data plane: tunnels to care-of addresses, and what may come back through them.

Reverse tunnelling (RFC 6275, section 10.4.5): only packets whose outer source is the care-of address and whose inner
source is the home address of one binding pass; nftables drops and counts the rest, whichever way the kernel tunnels.
"""

from __future__ import annotations

from typing import Protocol

from hoaflow.home_agent.declared import AcceptedPairs
from hoaflow.home_agent.ip6tnl_plane import Ip6tnlPlane, usable
from hoaflow.home_agent.routes import CareOfAddressRoutes
from hoaflow.home_agent.seg6_plane import Seg6Plane
from hoaflow.logs import Log
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.objects import NftTable
from hoaflow.tunnel.pairs import Counters, PairFilter

KERNEL_ERRORS = (OSError, TunnelError)
"""What the methods here raise when the kernel refuses."""

LOG = Log("home-agent")


class Plane(Protocol):
    """One way the kernel tunnels. All calls are idempotent and raise one of KERNEL_ERRORS."""

    name: str
    relays_errors: bool
    """Whether the kernel tells correspondent nodes what it hears of their tunnelled packets (RFC 2473, section 8)."""

    def declaration(self) -> list[Declared]:
        """Return what the kernel has to have, in the order in which it is made."""

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """Tunnel what comes for a home address; replaces."""

    def untunnel(self, home_address: str) -> None:
        """Tunnel it no longer. Fine when it was not."""

    def device(self, home_address: str) -> str:
        """Return what the terminal names as the tunnel."""

    @property
    def ports(self) -> frozenset[int]:
        """The netlink ports of its changes to routes."""

    def close(self) -> None:
        """Close its sockets; what is declared stays."""


class Tunnels:
    """The plane and the pair filter together, and what they are wanted to hold."""

    def __init__(self, home_agent: str) -> None:
        """Choose the plane: ip6tnl where the kernel has it, else seg6. Raises one of KERNEL_ERRORS."""
        self._home_agent = home_agent
        self._wanted: dict[str, str] = {}  # home address → care-of address
        self._pairs = PairFilter(destination=home_agent)
        lacks = usable(home_agent)
        self._plane: Plane
        if lacks is None:
            self._plane = Ip6tnlPlane(home_agent, self._wanted)
            LOG.info("data-plane", chosen="ip6tnl", reason="the kernel has ip6_tunnel")
        else:
            LOG.info("data-plane-probe", plane="ip6tnl", usable=False, reason=lacks)
            self._plane = Seg6Plane(home_agent, self._wanted)
            LOG.info("data-plane", chosen="seg6", reason="the kernel has no ip6_tunnel, but seg6 reduced encapsulation")

    def declaration(self) -> list[Declared]:
        """Return what the kernel has to have. The filter comes first: nothing is decapsulated without it."""
        return [
            NftTable(None, self._pairs.table),
            AcceptedPairs(self._pairs, self._wanted),
            *self._plane.declaration(),
        ]

    def care_of_address_routes(self) -> Declared:
        """Return that tunnelled packets have a way out of the host."""
        return CareOfAddressRoutes(self._home_agent, self._wanted)

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """Carries a home address's traffic to and from a care-of address; replaces.

        Raises one of KERNEL_ERRORS: it is wanted all the same, so mending the declaration makes it.
        """
        before = self._wanted.get(home_address)
        if before == care_of_address:
            return
        self._wanted[home_address] = care_of_address
        self._plane.tunnel(home_address, care_of_address)
        self._pairs.change(
            add=[(care_of_address, home_address)], remove=[] if before is None else [(before, home_address)]
        )

    def untunnel(self, home_address: str) -> None:
        """Carries it no longer. Fine when it did not. Raises one of KERNEL_ERRORS, as `tunnel`."""
        before = self._wanted.pop(home_address, None)
        if before is None:
            return
        self._plane.untunnel(home_address)
        self._pairs.remove([(before, home_address)])

    @property
    def relays_errors(self) -> bool:
        """Whether the kernel itself tells correspondent nodes of ICMPv6 errors for their tunnelled packets."""
        return self._plane.relays_errors

    def carries(self, home_address: str, care_of_address: str) -> bool:
        """Whether a home address's traffic goes to and from this care-of address."""
        return self._wanted.get(home_address) == care_of_address

    def device(self, home_address: str) -> str:
        """What the terminal names as the tunnel of a home address."""
        return self._plane.device(home_address)

    def counters(self) -> Counters:
        """Reverse-tunnelled packets (accepted, dropped)."""
        return self._pairs.counters()

    @property
    def ports(self) -> frozenset[int]:
        """The netlink ports of changes made by `tunnel` and `untunnel`, as far as they are known."""
        return self._plane.ports | {self._pairs.port}

    def close(self) -> None:
        """Close its sockets."""
        self._plane.close()
        self._pairs.close()
