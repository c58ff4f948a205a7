# SPDX-License-Identifier: Apache-2.0
"""Objects of a declaration: namespaces, links, addresses, neighbours, settings, nftables tables.

Each states one fact, so that a difference can be named precisely. `hoaflow.tunnel.routing` has routes and rules.
"""

from dataclasses import dataclass

from pyroute2 import config, netns

from hoaflow.linux import AF_INET, AF_INET6, NUD_PERMANENT, RT_SCOPE_UNIVERSE
from hoaflow.tunnel import links, nft
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.links import DEPRECATED, LINK_SCOPE
from hoaflow.tunnel.namespace import Namespace, exists
from hoaflow.tunnel.nft_table import Table

TENTATIVE_OR_DUPLICATE = 0x40 | 0x08

# Seconds that the process has which makes a namespace. pyroute2 kills it after 2, by when it may not have begun on a
# busy router, and what it has done by half is a name without a namespace.
config.default_communicate_timeout = 60


def place(namespace: Namespace) -> str:
    """Return " in NAMESPACE" for messages, or nothing for the current one."""
    return f" in {namespace}" if namespace else ""


@dataclass(frozen=True)
class NamedNamespace:
    """A named network namespace (`ip netns`). Everything in it goes with it."""

    name: str

    def __str__(self) -> str:
        return f"namespace {self.name} created"

    def difference(self, actual: ActualState) -> str | None:
        return None if exists(self.name) else f"namespace {self.name} is missing"

    def make(self) -> None:
        if not exists(self.name):
            netns.create(self.name)

    def remove(self) -> bool:
        if not exists(self.name):
            return False
        # The kernel would remove the links some time later. By kind, as somebody may have renamed them.
        links.remove_veths(self.name)
        netns.remove(self.name)
        return True


@dataclass(frozen=True)
class Veth:
    """A veth pair whose ends lead to each other.

    MAC addresses are given at creation: link policies (systemd.link(5)) change only those that the kernel chose.
    """

    namespace: Namespace
    name: str
    mac: str
    peer_namespace: Namespace
    peer: str
    peer_mac: str
    mtu: int

    def __str__(self) -> str:
        return f"link {self.name} - {self.peer} added"

    def difference(self, actual: ActualState) -> str | None:
        ends = actual.links(self.namespace).get(self.name), actual.links(self.peer_namespace).get(self.peer)
        for end, name in zip(ends, (self.name, self.peer), strict=True):
            if end is None:
                return f"link {name} is missing"
        outer, inner = ends
        assert outer is not None
        assert inner is not None
        if outer.kind != "veth" or (outer.peer, inner.peer) != (inner.number, outer.number):
            return f"link {self.name} does not lead to {self.peer}"
        return None

    def make(self) -> None:
        self.remove()
        links.add_veth(self.namespace, self.name, self.peer_namespace, self.peer, self.mtu, self.mac, self.peer_mac)

    def remove(self) -> bool:
        # Removing either end removes the other, even if it was moved or renamed.
        ends = ((self.peer_namespace, self.peer), (self.namespace, self.name))
        removed = [links.remove_link(*end) for end in ends if end[0] is None or exists(end[0])]
        return any(removed)


@dataclass(frozen=True)
class Mac:
    """An interface's MAC address."""

    namespace: Namespace
    name: str
    mac: str

    def __str__(self) -> str:
        return f"MAC address of {self.name} set to {self.mac}"

    def difference(self, actual: ActualState) -> str | None:
        found = actual.link(self.namespace, self.name).mac
        return None if found == self.mac else f"the MAC address of {self.name} is {found}, not {self.mac}"

    def make(self) -> None:
        links.change(self.namespace, self.name, address=self.mac)

    def remove(self) -> None:
        """Do nothing: it goes with the interface."""


@dataclass(frozen=True)
class Mtu:
    """An interface's MTU, in octets."""

    namespace: Namespace
    name: str
    mtu: int

    def __str__(self) -> str:
        return f"MTU of {self.name} set to {self.mtu}"

    def difference(self, actual: ActualState) -> str | None:
        found = actual.link(self.namespace, self.name).mtu
        return None if found == self.mtu else f"the MTU of {self.name} is {found}, not {self.mtu}"

    def make(self) -> None:
        links.change(self.namespace, self.name, mtu=self.mtu)

    def remove(self) -> None:
        """Do nothing: it goes with the interface."""


@dataclass(frozen=True)
class Free:
    """An interface without a master: a bridge, bond or VRF would take its packets."""

    namespace: Namespace
    name: str

    def __str__(self) -> str:
        return f"link {self.name} released"

    def difference(self, actual: ActualState) -> str | None:
        return f"link {self.name} is enslaved" if actual.link(self.namespace, self.name).master else None

    def make(self) -> None:
        links.change(self.namespace, self.name, master=0)

    def remove(self) -> None:
        """Do nothing: it goes with the interface."""


@dataclass(frozen=True)
class Up:
    """An interface that is up."""

    namespace: Namespace
    name: str

    def __str__(self) -> str:
        return f"link {self.name} up"

    def difference(self, actual: ActualState) -> str | None:
        return None if actual.link(self.namespace, self.name).up else f"link {self.name} is down"

    def make(self) -> None:
        links.change(self.namespace, self.name, state="up")

    def remove(self) -> None:
        if links.link(self.namespace, self.name) is not None:
            links.change(self.namespace, self.name, state="down")


@dataclass(frozen=True)
class NoOffloads:
    """An interface without checksum and segmentation offloads, which what it is linked to would have to complete."""

    namespace: Namespace
    name: str

    def __str__(self) -> str:
        return f"checksum and segmentation offloads of {self.name} off"

    def difference(self, actual: ActualState) -> str | None:
        actual.link(self.namespace, self.name)
        return f"offloads of {self.name} are on" if links.offloads_on(self.namespace, self.name) else None

    def make(self) -> None:
        links.offloads_off(self.namespace, self.name)

    def remove(self) -> None:
        """Do nothing: it goes with the interface."""


@dataclass(frozen=True)
class IpAddress:
    """An address on an interface, usable at once.

    `no_source`: it is chosen as a source only if there is no other one, as it is of link scope (IPv4) or deprecated
    (IPv6; RFC 6724, rule 3).
    """

    namespace: Namespace
    name: str
    address: str
    length: int
    no_source: bool = False

    def __str__(self) -> str:
        return f"address {self.address}/{self.length} on {self.name}"

    def difference(self, actual: ActualState) -> str | None:
        number = actual.link(self.namespace, self.name).number
        for found in actual.addresses(self.namespace):
            if (found.interface, found.address, found.length) == (number, self.address, self.length):
                if found.flags & TENTATIVE_OR_DUPLICATE:
                    return f"address {self.address} on {self.name} is tentative"
                marked = found.flags & DEPRECATED if ":" in self.address else found.scope == LINK_SCOPE
                if bool(marked) != self.no_source:
                    return f"address {self.address} on {self.name} {'may' if self.no_source else 'cannot'} be a source"
                return None
        return f"address {self.address}/{self.length} on {self.name} is missing"

    def make(self) -> None:
        self.remove()
        links.add_address(self.namespace, self.name, self.address, self.length, self.no_source)

    def remove(self) -> None:
        links.remove_address(self.namespace, self.name, self.address, self.length)


@dataclass(frozen=True)
class OnlyAddresses:
    """An interface, in a namespace of our own, with no other addresses of global scope than these."""

    namespace: Namespace
    name: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"no other addresses on {self.name}"

    def difference(self, actual: ActualState) -> str | None:
        number = actual.link(self.namespace, self.name).number
        others = [
            found.address
            for found in actual.addresses(self.namespace)
            if (found.interface, found.scope) == (number, RT_SCOPE_UNIVERSE) and found.address not in self.addresses
        ]
        return f"{self.name} has {' and '.join(others)}, too" if others else None

    def make(self) -> None:
        for family in (AF_INET6, AF_INET):
            for address in links.global_addresses(self.namespace, self.name, family):
                if address not in self.addresses:
                    links.remove_address(self.namespace, self.name, address)

    def remove(self) -> None:
        """Do nothing: there is nothing to remove."""


@dataclass(frozen=True)
class FixedNeighbour:
    """A permanent neighbour entry: no solicitation is needed, and no advertisement changes it."""

    namespace: Namespace
    dev: str
    address: str
    mac: str

    def __str__(self) -> str:
        return f"neighbour {self.address} on {self.dev} is {self.mac}"

    def difference(self, actual: ActualState) -> str | None:
        number = actual.link(self.namespace, self.dev).number
        for found in actual.neighbours(self.namespace, links.family_of(self.address)):
            if (found.interface, found.address) == (number, self.address):
                if found.mac == self.mac and found.state & NUD_PERMANENT:
                    return None
                return f"neighbour {self.address} on {self.dev} is {found.mac or 'unknown'}, not {self.mac} for good"
        return f"neighbour {self.address} on {self.dev} is missing"

    def make(self) -> None:
        links.add_neighbour(self.namespace, self.dev, self.address, self.mac)

    def remove(self) -> None:
        links.remove_neighbour(self.namespace, self.dev, self.address)


@dataclass(frozen=True)
class Setting:
    """net.PROTOCOL.conf.KEY of a namespace (`all.forwarding`)."""

    namespace: Namespace
    protocol: str
    key: str
    value: str

    def __str__(self) -> str:
        return f"net.{self.protocol}.conf.{self.key} = {self.value}{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        found = actual.setting(self.namespace, links.setting_path(self.key, self.protocol))
        if found == self.value:
            return None
        if (interface := self.key.rpartition(".")[0]) not in ("all", "default"):
            actual.link(self.namespace, interface)
        return f"net.{self.protocol}.conf.{self.key} is {found}, not {self.value}{place(self.namespace)}"

    def make(self) -> None:
        links.set_sysctl(self.namespace, self.key, self.value, self.protocol)

    def remove(self) -> None:
        """Do nothing: it goes with the namespace, or with the interface."""


@dataclass(frozen=True)
class HostSetting(Setting):
    """A setting that only the operator may change: compared, not mended. `consequence`: what is lost without it."""

    consequence: str = ""

    def difference(self, actual: ActualState) -> str | None:
        return None if super().difference(actual) is None else self._advice

    def make(self) -> None:
        raise TunnelError(self._advice)

    @property
    def _advice(self) -> str:
        inside = f" (network namespace {self.namespace})" if self.namespace else ""
        command = f"sysctl -w net.{self.protocol}.conf.{self.key}={self.value}"
        return f"{self.consequence}{inside}: {command}"


@dataclass(frozen=True)
class NftTable:
    """An nftables table that says exactly what is declared (`hoaflow.tunnel.nft_table`)."""

    namespace: Namespace
    table: Table

    def __str__(self) -> str:
        return f"{self.table} set up{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        state = self.table.difference(self.namespace, actual)
        return state and f"{self.table} is {state}{place(self.namespace)}"

    def make(self) -> None:
        self.table.put(self.namespace)

    def remove(self) -> bool:
        return self.table.remove(self.namespace)


@dataclass(frozen=True)
class OnlyTables:
    """A namespace of our own with no other nftables tables than these (family, name), as others could drop packets."""

    namespace: Namespace
    tables: frozenset[tuple[str, str]]

    def __str__(self) -> str:
        return f"no other nftables tables{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        others = [" ".join(table) for table in sorted(actual.tables(self.namespace) - self.tables)]
        return f"nftables has {' and '.join(others)}, too{place(self.namespace)}" if others else None

    def make(self) -> None:
        for family, table in nft.tables(self.namespace) - self.tables:
            nft.load(self.namespace, f"delete table {family} {table}\n")

    def remove(self) -> None:
        """Do nothing: there is nothing to remove."""
