# SPDX-License-Identifier: Apache-2.0
"""Objects of a declaration: routes, routing rules, and what seg6 needs."""

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hoaflow.addresses import parse_prefix
from hoaflow.linux import (
    AF_INET6,
    LOCAL_TABLE,
    MAIN_TABLE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RT_SCOPE_HOST,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWRULE,
    RTN_LOCAL,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from hoaflow.tunnel.actual_state import (
    FRA_DST,
    FRA_FWMARK,
    FRA_IIFNAME,
    FRA_IP_PROTO,
    FRA_PRIORITY,
    FRA_SRC,
    FRA_TABLE,
    RULE,
    ActualState,
    FoundRoute,
    FoundRule,
    found_rule,
)
from hoaflow.tunnel.links import LinkError, family_of, netlink
from hoaflow.tunnel.namespace import Namespace
from hoaflow.tunnel.objects import place
from hoaflow.tunnel.rtnetlink import RouteSocket, attribute
from hoaflow.tunnel.seg6 import PROTOCOL as SEG6_PROTOCOL
from hoaflow.tunnel.seg6 import Seg6Routes

PROTOCOL = 105  # of the routes that are declared: what has it is ours
FR_ACT_TO_TBL, FIB_RULE_INVERT = 1, 0x2
# Protocols of routes that administrators and hosts make: redirect, boot, static, router advertisement. They are listed
# one by one, as the main table may hold the routes of 100,000 bindings besides.
FOREIGN = (1, 3, 4, 9)
MAIN_RULE, DEFAULT_RULE = 32766, 32767
# The tables of the kernel's own rules by preference. IPv4 also has DEFAULT_RULE, whose table is empty. `ip rule flush`
# removes them.
KERNELS_RULES = {0: LOCAL_TABLE, MAIN_RULE: MAIN_TABLE}


@dataclass(frozen=True)
class Route:
    """A route through an IPv6 gateway, also for IPv4 (`via inet6`, RFC 8950; Linux >= 5.2)."""

    namespace: Namespace
    destination: str
    via: str
    dev: str
    table: int = MAIN_TABLE

    def __str__(self) -> str:
        return f"route {self.destination} of table {self.table} via {self.via} dev {self.dev}{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        number = actual.link(self.namespace, self.dev).number
        for found in actual.routes(self.namespace, self._family, self.table, PROTOCOL):
            if (found.prefix, found.kind, found.interface, found.hop) == (
                self.destination,
                RTN_UNICAST,
                number,
                self.via,
            ):
                return None
        return f"route {self.destination} of table {self.table} via {self.via} is missing{place(self.namespace)}"

    def make(self) -> None:
        self.remove()
        gateway = {"gateway": self.via} if self._family == AF_INET6 else {"via": {"family": AF_INET6, "addr": self.via}}
        with netlink(self.namespace) as ipr:
            index = next(iter(ipr.link_lookup(ifname=self.dev)), None)
            if index is None:
                raise LinkError(f"interface {self.dev} is missing")
            route = {"family": self._family, "dst": self.destination, "oif": index, "table": self.table}
            ipr.route("replace", proto=PROTOCOL, **route, **gateway)

    def remove(self) -> None:
        with ActualState() as actual:
            ours = [
                found
                for found in actual.routes(self.namespace, self._family, self.table, PROTOCOL)
                # What is unreachable is so by an object of its own, where no other route leads.
                if found.prefix == self.destination and found.kind != RTN_UNREACHABLE
            ]
        _remove_routes(self.namespace, self._family, ours)

    @property
    def _family(self) -> int:
        return family_of(self.destination)


@dataclass(frozen=True)
class LocalRoute:
    """A route in `table` that delivers packets for an address or prefix locally, though no interface has it."""

    namespace: Namespace
    address: str
    table: int

    def __str__(self) -> str:
        return f"route {self.address} of table {self.table}: delivered{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        found = actual.routes(self.namespace, self._family, self.table, PROTOCOL)
        if [(route.prefix, route.kind) for route in found] == [(self._prefix, RTN_LOCAL)]:
            return None
        return f"route {self.address} of table {self.table} is missing{place(self.namespace)}"

    def make(self) -> None:
        self.remove()
        destination = {"family": self._family, "dst": self._prefix, "table": self.table}
        if self._family != AF_INET6:
            destination["scope"] = RT_SCOPE_HOST  # of IPv4 only that is delivered
        with netlink(self.namespace) as ipr:
            (lo,) = ipr.link_lookup(ifname="lo")
            ipr.route("replace", oif=lo, type="local", proto=PROTOCOL, **destination)

    def remove(self) -> None:
        with ActualState() as actual:
            found = actual.routes(self.namespace, self._family, self.table, PROTOCOL)
        _remove_routes(self.namespace, self._family, found)

    @property
    def _family(self) -> int:
        return family_of(self.address)

    @property
    def _prefix(self) -> str:
        return self.address if "/" in self.address else f"{self.address}/{128 if self._family == AF_INET6 else 32}"


@dataclass(frozen=True)
class OnlyRoutes:
    """A routing table of our own with no other routes than those declared, the bindings' and the kernel's."""

    namespace: Namespace
    family: int
    table: int = MAIN_TABLE

    def __str__(self) -> str:
        return f"no other routes of table {self.table}{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        others = self._others(actual)
        if not others:
            return None
        said = " and ".join(f"{found.prefix}" for found in others[:3])
        return f"table {self.table} has another route for {said}{place(self.namespace)}"

    def make(self) -> None:
        with ActualState() as actual:
            others = self._others(actual)
        _remove_routes(self.namespace, self.family, others)

    def remove(self) -> None:
        """Do nothing: there is nothing to remove."""

    def _others(self, actual: ActualState) -> list[FoundRoute]:
        if self.table == MAIN_TABLE:
            return [
                route
                for protocol in FOREIGN
                for route in actual.routes(self.namespace, self.family, self.table, protocol)
            ]
        found = actual.routes(self.namespace, self.family, self.table, 0)
        return [route for route in found if route.protocol not in (PROTOCOL, SEG6_PROTOCOL)]


@dataclass(frozen=True)
class Rule:
    """A routing rule, the only one of its preference. Selectors that are not given match everything."""

    namespace: Namespace
    preference: int
    table: int
    family: int = AF_INET6
    iifname: str = ""
    src: str = ""
    dst: str = ""
    fwmark: int = 0
    ip_proto: int = 0
    invert: bool = False

    def __str__(self) -> str:
        version = "6" if self.family == AF_INET6 else "4"
        return f"rule {self.preference} (IPv{version}) looks into table {self.table}{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        found = [rule.facts for rule in actual.rules(self.namespace, self.family) if rule.preference == self.preference]
        if found == [self.facts]:
            return None
        state = "has been changed" if len(found) == 1 else "is there more than once" if found else "is missing"
        return f"rule {self.preference} to table {self.table} {state}{place(self.namespace)}"

    def make(self) -> None:
        wanted, found = self.facts, self._found()
        # Added before others are taken away: no packet is without a rule. One of the same content cannot be added.
        if wanted not in [rule.facts for rule in found]:
            with _socket(self.namespace) as opened:
                _check(opened.request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, [self._message]), str(self))
        _remove_rules(self.namespace, [rule for rule in found if rule.facts != wanted])

    def remove(self) -> None:
        _remove_rules(self.namespace, self._found())

    @property
    def facts(self) -> tuple[tuple[int, bytes], ...]:
        """Return all that the rule says but its preference, comparable with `FoundRule`."""
        return found_rule(self._message).facts

    def _found(self) -> list[FoundRule]:
        with ActualState() as actual:
            return [rule for rule in actual.rules(self.namespace, self.family) if rule.preference == self.preference]

    @property
    def _message(self) -> bytes:
        source, destination = (parse_prefix(text) if text else None for text in (self.src, self.dst))
        message = RULE.pack(
            self.family,
            destination.length if destination else 0,
            source.length if source else 0,
            0,
            self.table if self.table < 256 else 0,
            FR_ACT_TO_TBL,
            FIB_RULE_INVERT * self.invert,
        )
        numbers = ((FRA_PRIORITY, self.preference), (FRA_TABLE, self.table), (FRA_FWMARK, self.fwmark))
        message += b"".join(
            attribute(kind, struct.pack("=I", number)) for kind, number in numbers if number or kind == FRA_PRIORITY
        )
        if self.iifname:
            message += attribute(FRA_IIFNAME, self.iifname.encode() + b"\0")
        for kind, prefix in ((FRA_SRC, source), (FRA_DST, destination)):
            if prefix is not None:
                message += attribute(kind, prefix.packed)
        if self.ip_proto:
            message += attribute(FRA_IP_PROTO, bytes((self.ip_proto,)))
        return message


@dataclass(frozen=True)
class OnlyRules:
    """A namespace of our own with no other routing rules than those of these preferences, and of `kernels` ones."""

    namespace: Namespace
    family: int
    preferences: frozenset[int]
    kernels: frozenset[int] = frozenset({*KERNELS_RULES, DEFAULT_RULE})

    def __str__(self) -> str:
        return f"no other rules{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        others = self._others(actual)
        return f"there is another rule {others[0].preference}{place(self.namespace)}" if others else None

    def make(self) -> None:
        with ActualState() as actual:
            others = self._others(actual)
        _remove_rules(self.namespace, others)

    def remove(self) -> None:
        """Do nothing: there is nothing to remove."""

    def _others(self, actual: ActualState) -> list[FoundRule]:
        allowed = self.preferences | self.kernels
        return [rule for rule in actual.rules(self.namespace, self.family) if rule.preference not in allowed]


@dataclass(frozen=True)
class TunnelSource:
    """The outer source address of all seg6 encapsulation in a namespace."""

    namespace: Namespace
    address: str

    def __str__(self) -> str:
        return f"tunnel source {self.address}{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        with Seg6Routes(self.namespace) as routes:
            found = routes.source()
        return None if found == self.address else f"the tunnel source is {found}, not {self.address}"

    def make(self) -> None:
        with Seg6Routes(self.namespace) as routes:
            routes.set_source(self.address)

    def remove(self) -> None:
        with Seg6Routes(self.namespace) as routes:
            routes.set_source("::")


@dataclass(frozen=True)
class Decapsulation:
    """A seg6local route in `table` that decapsulates packets for `address`.

    `to`: the table that routes IPv6 payload (End.DT6), or the IPv4 next hop that IPv4 payload is handed to (End.DX4).
    """

    namespace: Namespace
    address: str
    dev: str
    to: int | str
    table: int

    def __str__(self) -> str:
        return f"decapsulation for {self.address} to {self.to}{place(self.namespace)}"

    def difference(self, actual: ActualState) -> str | None:
        number = actual.link(self.namespace, self.dev).number
        with Seg6Routes(self.namespace) as routes:
            found = actual.once(("decapsulated", self.namespace, self.table), lambda: routes.decapsulated(self.table))
        at = [
            route.interface
            for route in actual.routes(self.namespace, AF_INET6, self.table, SEG6_PROTOCOL)
            if route.prefix == f"{self.address}/128"
        ]
        if found.get(self.address) == self.to and at == [number]:
            return None
        return f"decapsulation for {self.address} to {self.to} is missing{place(self.namespace)}"

    def make(self) -> None:
        self.remove()
        with Seg6Routes(self.namespace) as routes:
            if isinstance(self.to, int):
                routes.decapsulate(self.address, self.dev, self.to, self.table)
            else:
                routes.decapsulate_ipv4(self.address, self.to, self.dev, self.table)

    def remove(self) -> None:
        with Seg6Routes(self.namespace) as routes:
            routes.remove(self.address, self.table)


@contextlib.contextmanager
def _socket(namespace: Namespace) -> Iterator[RouteSocket]:
    with contextlib.closing(RouteSocket(namespace)) as opened:
        yield opened


def _check(codes: list[int], what: str) -> None:
    for code in codes:
        if code:
            raise LinkError(f"{what}: {os.strerror(code)}")


def _remove_rules(namespace: Namespace, rules: list[FoundRule]) -> None:
    if rules:
        with _socket(namespace) as opened:
            codes = opened.request(RTM_DELRULE, 0, [rule.message for rule in rules])
        _check([0 if code == errno.ENOENT else code for code in codes], "removing a routing rule")


def _remove_routes(namespace: Namespace, family: int, routes: list[FoundRoute]) -> None:
    if not routes:
        return
    with _socket(namespace) as opened:
        codes = opened.request(RTM_DELROUTE, 0, [route.message for route in routes])
    _check([0 if code == errno.ESRCH else code for code in codes], "removing a route")
