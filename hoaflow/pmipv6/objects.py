# SPDX-License-Identifier: Apache-2.0
"""Declare kinds of objects that only anchors and access gateways have; `hoaflow.tunnel` has the others."""

from hoaflow.linux import AF_INET6, MAIN_TABLE
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import netlink
from hoaflow.tunnel.objects import IpAddress
from hoaflow.tunnel.routing import PROTOCOL

LOOPBACK = "lo"
RTN_UNREACHABLE = 7


class OwnAddress:
    """Some interface has the address by which peers know this host; by default, the loopback interface."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._on_loopback = IpAddress(None, LOOPBACK, address, 128)
        self._ours = False

    def __str__(self) -> str:
        return f"address {self._address}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        there = any(found.address == self._address for found in actual.addresses(None))
        return None if there else f"no interface has {self._address}"

    def make(self) -> None:
        """See `Declared`."""
        self._on_loopback.make()
        self._ours = True

    def remove(self) -> None:
        """See `Declared`. An address that was there before stays."""
        if self._ours:
            self._on_loopback.remove()
        self._ours = False


class UnreachablePrefix:
    """What no more specific route of table main covers of a prefix is unreachable."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __str__(self) -> str:
        return f"route unreachable {self._prefix}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        routes = actual.routes(None, AF_INET6, MAIN_TABLE, PROTOCOL)
        there = any((route.prefix, route.kind) == (self._prefix, RTN_UNREACHABLE) for route in routes)
        return None if there else f"route unreachable {self._prefix} is missing"

    def make(self) -> None:
        """See `Declared`."""
        self._change("replace")

    def remove(self) -> None:
        """See `Declared`."""
        with ActualState() as actual:
            there = self.difference(actual) is None
        if there:
            self._change("del")

    def _change(self, verb: str) -> None:
        with netlink(None) as route:
            route.route(verb, dst=self._prefix, type="unreachable", table=MAIN_TABLE, proto=PROTOCOL, family=AF_INET6)
