# SPDX-License-Identifier: Apache-2.0
"""Declare the objects of the `flow` backend alone; `tunnel.objects` and `router.database_objects` have all others."""

import errno
from dataclasses import dataclass

from pyroute2.netlink.exceptions import NetlinkError

from hoaflow.router.errors import RouterError
from hoaflow.router.flow.diversion import Diversion, Ethernet, diversion_by, divert, undivert
from hoaflow.router.flow.kernel import add_tunnel
from hoaflow.tunnel import links
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.objects import Mtu, Up
from hoaflow.tunnel.rtnetlink import attributes
from hoaflow.tunnel.tc import Hook

IFLA_IPTUN_PROTO, IFLA_IPTUN_COLLECT_METADATA = 9, 19  # linux/if_tunnel.h


@dataclass(frozen=True)
class BridgeInterface:
    """The bridge's own interface, between OpenFlow and the router's kernel, which only Open vSwitch can make."""

    name: str

    def __str__(self) -> str:
        return f"the bridge's own interface {self.name}"

    def difference(self, actual: ActualState) -> str | None:
        return None if self.name in actual.links(None) else f"{self} is missing (is ovs-vswitchd running?)"

    def make(self) -> None:
        raise RouterError(f"{self} is missing (is ovs-vswitchd running?)")

    def remove(self) -> None:
        """Do nothing: it is Open vSwitch's."""


@dataclass(frozen=True)
class BridgeUp(Up):
    """The bridge's own interface, up. `ours`: setup found it down, and teardown sets it down again."""

    ours: bool = False

    def remove(self) -> None:
        if self.ours:
            super().remove()


@dataclass(frozen=True)
class Roomy(Mtu):
    """An interface's least MTU: Open vSwitch drops what is too long for a system device before tc sees it."""

    def difference(self, actual: ActualState) -> str | None:
        return None if actual.link(self.namespace, self.name).mtu >= self.mtu else super().difference(actual)


@dataclass(frozen=True)
class TunnelDevice:
    """The collect-metadata ip6tnl device: for each packet, OpenFlow sets or learns the tunnel's ends."""

    name: str

    def __str__(self) -> str:
        return f"link {self.name} added (ip6tnl, collect-metadata)"

    def difference(self, actual: ActualState) -> str | None:
        found = actual.links(None).get(self.name)
        if found is None:
            return f"link {self.name} is missing"
        data = dict(attributes(found.data)) if found.kind == "ip6tnl" else {}
        if IFLA_IPTUN_COLLECT_METADATA in data and data.get(IFLA_IPTUN_PROTO) == b"\0":
            return None
        return f"link {self.name} is no collect-metadata ip6tnl device for IPv6 and IPv4"

    def make(self) -> None:
        self.remove()
        with links.netlink(None) as ipr:
            try:
                add_tunnel(ipr, self.name)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
                raise RouterError(
                    "the kernel has a collect-metadata ip6tnl device already (`ip -d link show type ip6tnl`), and "
                    "room for one only: remove it, or use --backend route"
                ) from error

    def remove(self) -> bool:
        return links.remove_link(None, self.name)


@dataclass(frozen=True)
class Diverted:
    """A tc hook of an interface that diverts all packets to another interface, and has no other filter.

    `receive`: they are received there; otherwise, they are sent there. `header`: the Ethernet header prepended to them.
    """

    name: str
    hook: Hook
    to: str
    receive: bool
    header: Ethernet | None = None

    def __str__(self) -> str:
        if self.receive:
            return f"tc: what {self.name} gets comes in at {self.to}"
        return f"tc: what leaves {self.name} goes to {self.to}"

    def difference(self, actual: ActualState) -> str | None:
        wanted = self._wanted(actual)
        found = actual.filters(None, wanted.interface, self.hook)
        if [diversion_by(filter_, wanted.interface, self.hook) for filter_ in found] == [wanted]:
            return None
        state = "is missing" if not found else "has been changed" if len(found) == 1 else "is not alone"
        return f"the tc {self.hook.name.lower()} diversion of {self.name} to {self.to} {state}"

    def make(self) -> None:
        with ActualState() as actual:
            divert(self._wanted(actual))

    def remove(self) -> bool:
        with ActualState() as actual:
            return undivert(actual.link(None, self.name).number, self.hook)

    def _wanted(self, actual: ActualState) -> Diversion:
        interface, to = actual.link(None, self.name).number, actual.link(None, self.to).number
        return Diversion(interface, self.hook, to, self.receive, self.header)
