# SPDX-License-Identifier: Apache-2.0
"""Tunnel packets to care-of addresses, and check what comes back through the tunnels.

Of reverse-tunnelled packets (RFC 6275, section 10.4.5), only those pass whose outer source is the care-of address and
whose inner source is the home address of the same binding. nftables drops and counts all others, with either plane.
"""

from contextlib import closing
from typing import Protocol

from hoaflow.addresses import longest_match
from hoaflow.linux import MAIN_TABLE
from hoaflow.logs import Log
from hoaflow.mobility.binding_objects import AcceptedPairs
from hoaflow.mobility.ip6tnl_plane import Devices, Ip6tnlPlane, usable
from hoaflow.mobility.routes import CareOfAddressRoutes
from hoaflow.mobility.seg6_plane import Seg6Plane
from hoaflow.mobility.source_check import SourceCheck
from hoaflow.tunnel.declaration import Declared, tear_down
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.icmp_errors import TunnelPacketError
from hoaflow.tunnel.objects import NftTable
from hoaflow.tunnel.spoofing_filter import Counters, SpoofingFilter

KERNEL_ERRORS = (OSError, TunnelError)
"""What methods here raise if the kernel refuses something."""

LOG = Log("mobility")


class Plane(Protocol):
    """A way in which the kernel tunnels. All methods are idempotent and raise one of KERNEL_ERRORS."""

    name: str
    relays_errors: bool
    """Whether the kernel relays ICMPv6 errors about tunnel packets to correspondents (RFC 2473, section 8)."""
    inner_mark: int | None
    """The mark by which it tells tunnel packets that carry a packet to the home agent itself; None if it need not."""

    def declaration(self) -> list[Declared]:
        """Return what the kernel must have, in the order in which it is made."""

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """Tunnel packets to a home address to this care-of address instead of any former one."""

    def untunnel(self, home_address: str) -> None:
        """Stop tunnelling packets to a home address; fine if they were not tunnelled."""

    def device(self, home_address: str) -> str:
        """Return the name of a home address's tunnel, for the terminal."""

    @property
    def ports(self) -> frozenset[int]:
        """Netlink ports over which it changes routes."""

    def close(self) -> None:
        """Close its sockets; the kernel's state stays."""


class Tunnels:
    """The data plane and the spoofing filter, and which bindings they should hold."""

    def __init__(self, home_agent: str, table: int = MAIN_TABLE, ipv4: bool = False, networks: bool = False) -> None:
        """Choose the plane: ip6tnl where the kernel has it, else seg6. Raises one of KERNEL_ERRORS.

        `table` gets the routes into the tunnels. `ipv4`: IPv4 home addresses have tunnels, too, which seg6 carries.
        `networks`: so do mobile networks, in which there may be mobile nodes.
        """
        self._home_agent, self._table, self._ipv4 = home_agent, table, ipv4
        self._wanted: dict[str, str] = {}  # home address → care-of address
        lacks = "its devices carry IPv6 only" if ipv4 else usable(home_agent)
        self._plane: Plane
        if lacks is None:
            self._plane = Ip6tnlPlane(home_agent, self._wanted, table)
            LOG.info("data-plane", chosen="ip6tnl", reason="the kernel has ip6_tunnel")
        else:
            LOG.info("data-plane-probe", plane="ip6tnl", usable=False, reason=lacks)
            self._plane = Seg6Plane(home_agent, self._wanted, table, ipv4, networks)
            reason = "the kernel has no ip6_tunnel, but seg6 reduced encapsulation"
            LOG.info("data-plane", chosen="seg6", reason="it carries IPv4, too" if ipv4 else reason)
        self._pairs = SpoofingFilter(destination=home_agent, inner_mark=self._plane.inner_mark)

    def remove_leftovers(self) -> None:
        """Remove what a killed process left that had another plane, or IPv4 home addresses, by other options.

        What it had in common with this one is compared and mended with the rest. Raises one of KERNEL_ERRORS.
        """
        if isinstance(self._plane, Seg6Plane):
            with closing(Devices(self._home_agent, {})) as devices:
                devices.remove()
        if not self._ipv4:
            with closing(Seg6Plane(self._home_agent, {}, self._table, ipv4=True)) as other:
                tear_down(other.leftovers(only_ipv4=isinstance(self._plane, Seg6Plane)), _say_removed)

    def declaration(self) -> list[Declared]:
        """Return what the kernel must have. The filter comes first, as nothing may be decapsulated without it."""
        return [
            NftTable(None, self._pairs.table),
            AcceptedPairs(self._pairs, self._wanted),
            *self._plane.declaration(),
        ]

    def links(self) -> list[Declared]:
        """Return the declared objects for the links that tunnel packets leave and come in by, which nothing mends."""
        routes = CareOfAddressRoutes(self._home_agent, self._wanted)
        return [routes, SourceCheck(self._home_agent, self._wanted)] if self._ipv4 else [routes]

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """Tunnel a home address's traffic to and from a care-of address instead of any former one.

        Raises one of KERNEL_ERRORS; mending the declaration then makes up for it.
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
        """Stop tunnelling a home address's traffic; fine if it was not tunnelled. Raises as `tunnel` does."""
        before = self._wanted.pop(home_address, None)
        if before is None:
            return
        self._plane.untunnel(home_address)
        self._pairs.remove([(before, home_address)])

    @property
    def relays_errors(self) -> bool:
        """Whether the kernel itself relays ICMPv6 errors about tunnel packets to correspondent nodes."""
        return self._plane.relays_errors

    def carries(self, home_address: str, care_of_address: str | None = None) -> bool:
        """Tell whether a home address's traffic is tunnelled, and to this care-of address if one is given."""
        found = self._wanted.get(home_address)
        return found is not None and care_of_address in (found, None)

    def carries_packet_of(self, error: TunnelPacketError) -> bool:
        """Tell whether an ICMPv6 error is about a packet that is tunnelled here, to a mobile network, for example."""
        to = longest_match(error.inner_destination, self.carries)
        return to is not None and self.carries(to, error.outer_destination)

    def device(self, home_address: str) -> str:
        """Return the name of a home address's tunnel, for the terminal."""
        return self._plane.device(home_address)

    def counters(self) -> Counters:
        """Return the numbers of reverse-tunnelled packets accepted and dropped."""
        return self._pairs.counters()

    @property
    def ports(self) -> frozenset[int]:
        """Netlink ports over which `tunnel` and `untunnel` make changes, as far as known."""
        return self._plane.ports | {self._pairs.port}

    def close(self) -> None:
        """Close its sockets."""
        self._plane.close()
        self._pairs.close()


def _say_removed(what: str) -> None:
    LOG.debug("leftover", removed=what)
