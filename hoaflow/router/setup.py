# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router setup` and `teardown`: make a tunnel endpoint, and leave nothing of it.

Both follow from the declaration (`hoaflow.router.declaration`). Setup looks at each thing and makes what is missing, so
it may be run again at any time; it says what it did. If it fails it undoes what it did itself; if it is killed, the
database's record, which it makes first, tells teardown what to remove.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hoaflow.router.declaration import FAMILIES, declaration
from hoaflow.router.endpoint import MINIMUM_MTU, Endpoint, tunnel_mtu
from hoaflow.router.errors import RouterError
from hoaflow.router.lock import alone
from hoaflow.router.ovsdb import Bridge, EndpointRecord, Ovsdb
from hoaflow.tunnel import links, namespace
from hoaflow.tunnel.declaration import Say, set_up, tear_down


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
    """Remove all that an endpoint consists of, its record last; False when nothing of it was there.

    Raises TunnelError: what could be removed has been, and it says what is left.
    """
    with alone():
        return _teardown(record, bridge, ovsdb, say)


def _teardown(record: EndpointRecord, bridge: str, ovsdb: Ovsdb, say: Say) -> bool:
    owner = ovsdb.bridge_of_port(record.port)
    if owner not in (None, bridge):
        raise RouterError(f"port {record.port} belongs to bridge {owner}, not {bridge}: nothing removed")
    kernel = record.kernel_namespace or None
    # What was in a kernel namespace that is gone went with it.
    there = kernel if kernel is None or namespace.exists(kernel) else None
    # A former version has recorded no MTU; none of what is removed depends on it.
    endpoint = replace(Endpoint.of(bridge, record), kernel_namespace=there, mtu=record.mtu or MINIMUM_MTU)
    return tear_down(declaration(endpoint, userspace=False, ovsdb=ovsdb), say) > 0


def _check(endpoint: Endpoint, bridge: Bridge, ovsdb: Ovsdb) -> None:
    """Refuse, before anything is touched, what could not work."""
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
