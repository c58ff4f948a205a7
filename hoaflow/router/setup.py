# SPDX-License-Identifier: Apache-2.0
"""Set up and tear down a tunnel endpoint (`hoaflow-router setup` and `teardown`).

Both follow from the declaration (`hoaflow.router.declaration`). Setup makes what is missing and reports it, so it may
be run again at any time. If it fails, it undoes what it made. If it is killed, the database's record, which it makes
first, tells teardown what to remove.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hoaflow.router.declaration import FAMILIES, declaration
from hoaflow.router.endpoint import MINIMUM_MTU, Endpoint, tunnel_mtu
from hoaflow.router.errors import RouterError
from hoaflow.router.lock import alone
from hoaflow.router.ovsdb import Bridge, EndpointRecord, Ovsdb
from hoaflow.tunnel import links, namespace
from hoaflow.tunnel.declaration import Say, set_up, tear_down
from hoaflow.tunnel.tunnel_filter import check_kernel

FORWARD_IPV6 = "net.ipv6.conf.all.forwarding=1 (interfaces that take router advertisements then need accept_ra=2)"


def setup(endpoint: Endpoint, ovsdb: Ovsdb, icmp_sources: Sequence[str], say: Say) -> bool:
    """Make the endpoint; returns False if nothing was missing. Raises TunnelError after undoing what it made.

    `icmp_sources`: addresses of the router that its ICMPv6 and ICMP errors come from, at most one of each family. For
    the other family, the present one is kept, or the first permanent global address of the router's kernel is taken.
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
    """Remove the endpoint, its record last; returns False if nothing of it was there.

    Raises TunnelError, which says what is left, after removing everything else.
    """
    with alone():
        return _teardown(record, bridge, ovsdb, say)


def _teardown(record: EndpointRecord, bridge: str, ovsdb: Ovsdb, say: Say) -> bool:
    owner = ovsdb.bridge_of_port(record.port)
    if owner not in (None, bridge):
        raise RouterError(f"port {record.port} belongs to bridge {owner}, not {bridge}: nothing removed")
    kernel = record.kernel_namespace or None
    # If the kernel's namespace is gone, so is everything that was in it.
    there = kernel if kernel is None or namespace.exists(kernel) else None
    # Version 0.1 recorded no MTU; removal does not depend on it.
    endpoint = replace(Endpoint.of(bridge, record), kernel_namespace=there, mtu=record.mtu or MINIMUM_MTU)
    return tear_down(declaration(endpoint, userspace=False, ovsdb=ovsdb), say) > 0


def _check(endpoint: Endpoint, bridge: Bridge, ovsdb: Ovsdb) -> None:
    """Refuse what cannot work before anything is changed. Raises RouterError."""
    tunnel_mtu(endpoint.mtu)
    if endpoint.is_ipv4:
        check_kernel(endpoint.home_agent)
    protocol, setting = ("IPv4", "net.ipv4.ip_forward=1") if endpoint.is_ipv4 else ("IPv6", FORWARD_IPV6)
    if links.sysctl(endpoint.kernel_namespace, "all.forwarding", protocol.lower()) != "1":
        raise RouterError(
            f"the router's kernel (network namespace {endpoint.kernel_namespace or 'current'}) does not forward "
            f"{protocol}, so what leaves the tunnel would be lost. Make it a router: sysctl -w {setting}"
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
    """Return the endpoint's record; None if there is none, or an incomplete one by version 0.1."""
    return next((record for record in bridge.endpoints if record.port == endpoint.port and record.mtu), None)


def _same(recorded: namespace.Namespace, endpoint: Endpoint) -> bool:
    try:
        return namespace.cookie(recorded) == namespace.cookie(endpoint.kernel_namespace)
    except namespace.NamespaceError:
        return False


def _icmp_source(endpoint: Endpoint, family: int) -> str | None:
    """Return the present source of a family's errors, else the first address of the router's kernel, else None."""
    present = links.global_addresses(endpoint.namespace, "lo", family) if namespace.exists(endpoint.namespace) else []
    return next(iter(present or links.global_addresses(endpoint.kernel_namespace, family=family)), None)
