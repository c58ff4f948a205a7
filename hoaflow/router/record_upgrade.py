# SPDX-License-Identifier: Apache-2.0
"""Upgrade the records of endpoints that version 0.1 set up, so that the agent can mend them.

Version 0.1 recorded home agent, MAC address and namespace. The endpoint's links tell the rest: where the router's
kernel is, the MTU, and the addresses that ICMP errors come from.
"""

import os

from hoaflow.linux import AF_INET, AF_INET6
from hoaflow.router.endpoint import ENC_IN, OUTER_HEADER, Endpoint
from hoaflow.router.ovsdb import Bridge, EndpointRecord
from hoaflow.tunnel import links
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import NETNS_DIRECTORY, Namespace

RUN_SETUP = (
    "version 0.1 set up the endpoint, and not all can be told from what is there: run hoaflow-router setup again"
)


def upgraded(bridge: Bridge) -> Bridge:
    """Return the bridge with the records of its endpoints upgraded as far as possible."""
    return bridge._replace(endpoints=tuple(_upgraded(bridge.name, record) for record in bridge.endpoints))


def _upgraded(bridge: str, record: EndpointRecord) -> EndpointRecord:
    if record.mtu:
        return record
    endpoint = Endpoint(bridge, record.home_agent)
    try:
        kernel = _whereabouts(endpoint.kernel_port)
        way_in = links.link(record.namespace, ENC_IN)
        sources = [links.global_addresses(record.namespace, "lo", family)[:1] for family in (AF_INET6, AF_INET)]
    except (TunnelError, OSError):
        return record
    if way_in is None:
        return record
    mtu = way_in["mtu"] + OUTER_HEADER
    return Endpoint(bridge, record.home_agent, kernel, mtu, tuple(each for found in sources for each in found)).record


def _whereabouts(interface: str) -> Namespace:
    """Return the namespace that has an interface, the current one or a named one. Raises TunnelError if none has."""
    names = sorted(os.listdir(NETNS_DIRECTORY)) if NETNS_DIRECTORY.exists() else []
    for namespace in (None, *names):
        if links.link(namespace, interface) is not None:
            return namespace
    raise TunnelError(f"no network namespace has interface {interface}")
