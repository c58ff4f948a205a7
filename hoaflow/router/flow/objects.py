# SPDX-License-Identifier: Apache-2.0
"""Declare the objects of the `flow` backend alone; `tunnel.objects` and `router.database_objects` have all others."""

import errno
from dataclasses import dataclass

from pyroute2.netlink.exceptions import NetlinkError

from hoaflow.router.errors import RouterError
from hoaflow.router.flow.diversion import Diversion, Ethernet, diversion_by, divert, undivert
from hoaflow.router.flow.kernel import IP6TNL, IPIP, add_tunnel
from hoaflow.tunnel import links
from hoaflow.tunnel.actual_state import ActualState, Link
from hoaflow.tunnel.namespace import namespace_path
from hoaflow.tunnel.objects import Mtu, Up
from hoaflow.tunnel.rtnetlink import attributes
from hoaflow.tunnel.tc import Hook

IFLA_IPTUN_PROTO, IFLA_IPTUN_COLLECT_METADATA = 9, 19  # linux/if_tunnel.h
# The protocol number of what a kind of tunnel carries; 0: IPv4 and IPv6.
PAYLOAD = {IP6TNL: b"\0", IPIP: b"\4"}


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
class LooseSources:
    """Sources that are checked loosely, if at all, where packets leave the tunnels; only the operator may change that.

    The way back to a mobile node's address is another interface. Of the two settings the higher one counts: 1 is
    strict, 2 is loose (Linux, ip-sysctl).
    """

    bridge: str

    def __str__(self) -> str:
        return f"IPv4 sources not checked strictly on {self.bridge}"

    def difference(self, actual: ActualState) -> str | None:
        names = ("all", self.bridge)
        found = [actual.setting(None, links.setting_path(f"{name}.rp_filter", "ipv4")) for name in names]
        return self._advice if max(int(value or 0) for value in found) == 1 else None

    def make(self) -> None:
        raise RouterError(self._advice)

    def remove(self) -> None:
        """Do nothing: it is the operator's."""

    @property
    def _advice(self) -> str:
        return (
            f"the router's kernel checks IPv4 sources strictly, so what leaves the tunnel is lost: "
            f"sysctl -w net.ipv4.conf.{self.bridge}.rp_filter=2"
        )


@dataclass(frozen=True)
class TunnelDevice:
    """A collect-metadata tunnel device of the router's kernel: for each packet, OpenFlow sets or learns the ends.

    `kind`: `hoaflow.router.flow.kernel.IP6TNL` or `IPIP`.
    """

    name: str
    kind: str = IP6TNL

    def __str__(self) -> str:
        return f"link {self.name} added ({self.kind}, collect-metadata)"

    def difference(self, actual: ActualState) -> str | None:
        found = actual.links(None).get(self.name)
        if found is None:
            return f"link {self.name} is missing"
        return None if self._is_right(found, actual) else f"link {self.name} is no {self._what}"

    def make(self) -> None:
        self.remove()
        with links.netlink(None) as ipr:
            try:
                add_tunnel(ipr, self.name, self.kind)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
                raise RouterError(
                    f"the kernel has a collect-metadata {self.kind} device already (`ip -d link show type "
                    f"{self.kind}`), and room for one only: remove it, or use --backend route"
                ) from error

    def remove(self) -> bool:
        return links.remove_link(None, self.name)

    @property
    def _what(self) -> str:
        return f"collect-metadata {self.kind} device for {'IPv6 and IPv4' if self.kind == IP6TNL else 'IPv4'}"

    def _is_right(self, found: Link, actual: ActualState) -> bool:
        data = dict(attributes(found.data)) if found.kind == self.kind else {}
        right = IFLA_IPTUN_COLLECT_METADATA in data and data.get(IFLA_IPTUN_PROTO) == PAYLOAD[self.kind]
        return right and found.link_namespace == self._made_in(actual)

    def _made_in(self, actual: ActualState) -> int | None:
        """Return the kernel's number here of the namespace where it was made, None for this one."""
        return None


@dataclass(frozen=True)
class SendingDevice(TunnelDevice):
    """A collect-metadata ipip device here whose outer packets are routed in another namespace, where it was made.

    `routed_in`: that namespace, to which the veth end `link` of this one leads.
    """

    kind: str = IPIP
    routed_in: str = ""
    link: str = ""

    def make(self) -> None:
        self.remove()
        links.remove_link(self.routed_in, self.name)  # made, but not moved
        with links.netlink(self.routed_in) as ipr, open(namespace_path(None), "rb") as here:
            add_tunnel(ipr, self.name, self.kind)
            (index,) = ipr.link_lookup(ifname=self.name)
            ipr.link("set", index=index, net_ns_fd=here.fileno())

    @property
    def _what(self) -> str:
        return f"collect-metadata {self.kind} device of network namespace {self.routed_in}"

    def _made_in(self, actual: ActualState) -> int | None:
        return actual.link(None, self.link).link_namespace


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
