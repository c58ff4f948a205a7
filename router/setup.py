# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router setup` and `teardown`: make a tunnel endpoint, and leave nothing of it.

Setup looks at each thing and makes what is missing, so it may be run again at any time; it says what it
did. If it fails it undoes what it did itself. The OVS port comes last: what the database names is ready for
use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType

from pyroute2 import netns

from router.declaration import FAMILIES, declaration
from router.endpoint import TOUT, Endpoint, tunnel_mtu
from router.errors import RouterError
from router.lock import alone
from router.ovsdb import Bridge, EndpointRecord, Ovsdb
from router.packet_filter import kernel_tables
from tunnel import links, namespace
from tunnel.declaration import Say, set_up


class Changes:
    """What setup changed, in order, with how to undo it. Leaving the context by an exception undoes it all."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.count = 0
        self._undo: list[tuple[str, Callable[[], object]]] = []

    def __enter__(self) -> Changes:
        return self

    def did(self, what: str, undo: Callable[[], object] | None = None) -> None:
        """Say what was done; `undo` None where another change's undo covers it."""
        self.say(what)
        self.count += 1
        if undo is not None:
            self._undo.append((what, undo))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        for what, undo in reversed(self._undo):
            try:
                undo()
                self.say(f"undone: {what}")
            except Exception as failure:  # undo the rest all the same; the operator must know what is left
                self.say(f"could not undo: {what}: {failure}")


def setup(endpoint: Endpoint, ovsdb: Ovsdb, icmp_sources: Sequence[str], say: Say) -> bool:
    """Make the endpoint; False when all was there already.

    `icmp_sources`: the source addresses of the ICMPv6 and ICMP errors it sends, the router's own, one of a family;
    of a family without: keep the present one, or take the first lasting global address of the router's kernel
    namespace. Raises TunnelError after undoing what it did.
    """
    wanted = {links.family_of(address): address for address in icmp_sources}
    if len(wanted) < len(icmp_sources):
        raise RouterError(f"--icmp-source: one IPv6 and one IPv4 address at most, got {' '.join(icmp_sources)}")
    with alone():
        return _set_up(endpoint, ovsdb, wanted, say)


def _set_up(endpoint: Endpoint, ovsdb: Ovsdb, wanted: Mapping[int, str], say: Say) -> bool:
    bridge = ovsdb.bridge(endpoint.bridge)
    _check(endpoint, bridge, ovsdb)
    recorded = _recorded(endpoint, bridge)
    if recorded is not None:
        endpoint = replace(endpoint, kernel_namespace=recorded.kernel_namespace or None)
    sources = [wanted.get(family) or _icmp_source(endpoint, family) for family in FAMILIES]
    endpoint = replace(endpoint, icmp_sources=tuple(source for source in sources if source is not None))
    return set_up(declaration(endpoint, bridge.userspace, ovsdb), say) > 0


def teardown(record: EndpointRecord, bridge: str, ovsdb: Ovsdb, say: Say) -> bool:
    """Remove an endpoint's port, links and namespace; False when nothing of it was there. Raises
    RouterError.
    """
    with alone():
        return _teardown(record, bridge, ovsdb, say)


def _teardown(record: EndpointRecord, bridge: str, ovsdb: Ovsdb, say: Say) -> bool:
    before = ovsdb.bridge_of_port(record.port)
    if before not in (None, bridge):
        raise RouterError(f"port {record.port} belongs to bridge {before}, not {bridge}: nothing removed")
    kernel = record.kernel_namespace or None
    changed = before is not None
    ovsdb.remove_port(bridge, record.port)
    if changed:
        say(f"port {record.port} removed from bridge {bridge}")
    # The links go first and by name: the kernel removes a namespace's links later, when it finds the time.
    if namespace.exists(record.namespace) and links.remove_link(record.namespace, TOUT):
        say(f"link {TOUT} of namespace {record.namespace} removed, with its peer in the router's kernel")
    for table in kernel_tables(Endpoint(bridge, record.home_agent)):
        if namespace.exists(kernel) and table.remove(kernel):
            changed = True
            say(f"nftables table {table.family} {table.name} of the router's kernel removed")
    if links.remove_link(None, record.port):
        changed = True
        say(f"link {record.port} removed")
    if namespace.exists(record.namespace):
        changed = True
        netns.remove(record.namespace)
        say(f"namespace {record.namespace} removed, with its routes and pair filter")
    return changed


def _check(endpoint: Endpoint, bridge: Bridge, ovsdb: Ovsdb) -> None:
    """Refuse, before anything is touched, what could not work."""
    if os.geteuid() != 0:
        raise RouterError("setup needs root")
    tunnel_mtu(endpoint.mtu)
    if links.sysctl(endpoint.kernel_namespace, "all.forwarding") != "1":
        raise RouterError(
            f"the router's kernel (network namespace {endpoint.kernel_namespace or 'current'}) does not forward "
            f"IPv6, so what leaves the tunnel would be lost. Make it a router: sysctl -w "
            f"net.ipv6.conf.all.forwarding=1 (interfaces that take router advertisements then need accept_ra=2)"
        )
    owner = ovsdb.bridge_of_port(endpoint.port)
    if owner not in (None, bridge.name):
        raise RouterError(f"port {endpoint.port} is on bridge {owner} already, not on {bridge.name}")
    recorded = _recorded(endpoint, bridge)
    if recorded is not None and not _same(recorded.kernel_namespace or None, endpoint):
        raise RouterError(
            f"the endpoint leads to the router's kernel in namespace {recorded.kernel_namespace or 'current'}, not "
            f"{endpoint.kernel_namespace or 'current'}: has --kernel-namespace changed? Run teardown first"
        )


def _recorded(endpoint: Endpoint, bridge: Bridge) -> EndpointRecord | None:
    """The endpoint as the database has it; None without, and where a former version has recorded it."""
    return next((record for record in bridge.endpoints if record.port == endpoint.port and record.mtu), None)


def _same(recorded: namespace.Namespace, endpoint: Endpoint) -> bool:
    try:
        return namespace.cookie(recorded) == namespace.cookie(endpoint.kernel_namespace)
    except namespace.NamespaceError:
        return False


def _icmp_source(endpoint: Endpoint, family: int) -> str | None:
    """The present address for a family's errors, else the first of the router's kernel; None without."""
    present = links.global_addresses(endpoint.namespace, "lo", family) if namespace.exists(endpoint.namespace) else []
    return next(iter(present or links.global_addresses(endpoint.kernel_namespace, family=family)), None)
