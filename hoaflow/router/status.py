# SPDX-License-Identifier: Apache-2.0
"""Read the status of tunnel endpoints from the kernel and from Open vSwitch (`hoaflow-router status`)."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from hoaflow.router.declaration import SomeIcmpSource, declaration
from hoaflow.router.encapsulation import encapsulation, kind_of
from hoaflow.router.endpoint import Endpoint
from hoaflow.router.endpoint_routes import carries
from hoaflow.router.lock import alone
from hoaflow.router.ovsdb import Bridge, EndpointRecord, Ovsdb
from hoaflow.tunnel import namespace
from hoaflow.tunnel.declaration import Declared, compare
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.objects import HostSetting
from hoaflow.tunnel.spoofing_filter import SpoofingFilter


@dataclass
class EndpointStatus:
    """The status of one endpoint. Values that cannot be read are None, and `problems` says why.

    `ofport`: its OpenFlow port number. `encapsulates_by`: what writes the outer headers. `routes`: bindings that it
    encapsulates for. `accepted`, `dropped`: packets by the spoofing filter. `carries_ipv4`, `carries_ipv6`: home
    addresses of that family can be carried, as the router's kernel forwarded it at setup.
    """

    home_agent: str
    port: str
    ofport: int | None
    mac: str
    namespace: str
    namespace_present: bool
    encapsulates_by: str
    routes: int | None = None
    pairs: int | None = None
    accepted: int | None = None
    dropped: int | None = None
    carries_ipv4: bool | None = None
    carries_ipv6: bool | None = None
    problems: list[str] = field(default_factory=list)


def status(bridge: str, ovsdb: Ovsdb) -> list[EndpointStatus]:
    """Return the status of all endpoints of a bridge. Raises RouterError if there is no such bridge."""
    found = ovsdb.bridge(bridge)
    return [_endpoint(record, found, ovsdb) for record in found.endpoints]


def problems(record: EndpointRecord, bridge: Bridge, ovsdb: Ovsdb) -> list[str]:
    """Return what of an endpoint is not as declared, each with what to do."""
    if not record.mtu:
        return ["the endpoint was set up by version 0.1: hoaflow-router run mends it, or run setup again"]
    return not_as_declared(lambda: declaration(Endpoint.of(bridge.name, record), bridge.userspace, ovsdb))


def not_as_declared(declare: Callable[[], Sequence[Declared]]) -> list[str]:
    """Return what is not as declared, each with what to do."""
    try:
        with alone():  # as the comparison makes temporary nftables tables
            found = compare(declare())
    except (TunnelError, OSError) as error:
        return [f"{error}: run setup again"]
    return [
        text if isinstance(declared, HostSetting | SomeIcmpSource) else f"{text}: run setup again"
        for declared, text in found
    ]


def _endpoint(record: EndpointRecord, bridge: Bridge, ovsdb: Ovsdb) -> EndpointStatus:
    port = ovsdb.port_state(record.port)
    there = namespace.exists(record.namespace)
    found = EndpointStatus(
        *(record.home_agent, record.port, port.number, record.mac, record.namespace),
        namespace_present=there,
        encapsulates_by=kind_of(record),
    )
    found.problems += problems(record, bridge, ovsdb)
    with contextlib.suppress(TunnelError):
        found.carries_ipv4, found.carries_ipv6 = (carries(record.namespace, each) for each in ("ipv4", "ipv6"))
        with encapsulation(record) as tunnels:
            found.routes = len(tunnels.installed())
        pairs = SpoofingFilter(record.namespace, record.home_agent)
        found.accepted, found.dropped = pairs.counters()
        found.pairs = len(pairs.installed())
    return found


def table(endpoints: Sequence[EndpointStatus]) -> str:
    """Format the endpoints as a table."""
    headings = ["HOME AGENT", "PORT", "OFPORT", "MAC", "NAMESPACE", "BY", "IPV4", "IPV6"]
    headings += ["ROUTES", "PAIRS", "ACCEPTED", "DROPPED"]
    rows = [
        [
            *(e.home_agent, e.port, _cell(e.ofport), e.mac),
            e.namespace if e.namespace_present else f"{e.namespace} (missing)",
            e.encapsulates_by,
            *({None: "-", True: "yes", False: "no"}[each] for each in (e.carries_ipv4, e.carries_ipv6)),
            *map(_cell, (e.routes, e.pairs, e.accepted, e.dropped)),
        ]
        for e in endpoints
    ]
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    ]
    lines += [f"problem: {e.home_agent}: {problem}" for e in endpoints for problem in e.problems]
    return "\n".join(lines)


def as_json(bridge: str, dpid: str, endpoints: Sequence[EndpointStatus]) -> dict[str, object]:
    """Return the endpoints as a JSON object."""
    return {"bridge": bridge, "dpid": dpid, "endpoints": [asdict(endpoint) for endpoint in endpoints]}


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
