# SPDX-License-Identifier: Apache-2.0
"""What calls answer: one declaration per answer, from which it is encoded and OpenAPI's schemas are made.

Addresses are in RFC 5952 form, times are seconds from now.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from controller.core.events import EVENTS
from controller.events import RESET
from controller.rest.schemas.fields import (
    Count,
    DatapathId,
    FlowKind,
    HomeAddress,
    HomePrefix,
    Ipv6Address,
    Lifetime,
    MacAddress,
    Revision,
    SecondsLeft,
    Sequence,
    Time,
    Withheld,
)

BindingStateName = Literal["pending", "active", "partial", "held", "withheld"]
Backend = Literal["flow", "route"] | None
Cursor = Annotated[str, Meta(description="Where the next page begins: `cursor` of the next request.")] | None
Index = Annotated[int, Meta(description="Its place in the request, from 0.", ge=0)]


class FieldError(Struct, frozen=True):
    """One field of a request and what is wrong with it."""

    field: str
    reason: str


class ProblemDetails(Struct, frozen=True):
    """A refusal (RFC 9457). ``errors`` says which fields were wrong, where it was fields."""

    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    type: str = "about:blank"
    errors: tuple[FieldError, ...] | UnsetType = UNSET


class BindingOnRouter(Struct):
    """How a binding stands on one router, why it does not go direct there, and what its flows have counted."""

    state: Literal["active", "pending", "failed"]
    packets: Count
    bytes: Count
    reason: str | None = None


class Binding(Struct):
    """A binding as held, with its state on each router that is prepared for its home agent."""

    home_address: HomeAddress
    care_of_address: Ipv6Address
    home_agent: Ipv6Address
    lifetime: Lifetime | None
    sequence: Sequence | None
    expires_in: SecondsLeft | None
    state: BindingStateName
    routers: dict[DatapathId, BindingOnRouter]
    withheld: Withheld | None


class BindingRemoved(Struct):
    """A binding that was removed, or of which none is held."""

    home_address: HomeAddress
    state: Literal["removed"] = "removed"


class BatchResult(Struct, omit_defaults=True):
    """What became of one item of a batch."""

    index: Index
    status: Annotated[int, Meta(ge=200, le=599)]
    errors: tuple[FieldError, ...] | UnsetType = UNSET


class BatchResults(Struct):
    """What became of each item of a batch."""

    results: list[BatchResult]


class Bindings(Struct):
    """Bindings, by page."""

    bindings: list[Binding]
    next: Cursor


class HomeAgent(Struct):
    """A home agent. ``snapshot`` is ``wanted`` while the controller has none from it under its present lease."""

    home_agent: Ipv6Address
    home_prefixes: list[HomePrefix]
    lease: Annotated[int, Meta(description="Seconds.", ge=1)]
    expires_in: SecondsLeft
    status: Literal["up", "ha-down", "expired"]
    snapshot: Literal["wanted", "held"]
    bindings: Count


class HomeAgents(Struct):
    """Home agents, by page."""

    home_agents: list[HomeAgent]
    next: Cursor


class RefusedItem(Struct, omit_defaults=True):
    """A binding of a snapshot that could not be taken."""

    index: Index
    status: Annotated[int, Meta(ge=400, le=599)]
    errors: tuple[FieldError, ...]
    home_address: HomeAddress | UnsetType = UNSET


class SnapshotTaken(Struct):
    """What a snapshot did. ``changed`` counts bindings on a new path; a mere refresh counts as ``unchanged``."""

    added: Count
    changed: Count
    removed: Count
    unchanged: Count
    refused: list[RefusedItem]


class Endpoint(Struct):
    """A tunnel endpoint of a router (`route` backend). `problem`: why it carries nothing now; null if it does."""

    home_agent: Ipv6Address
    port: str
    mac: MacAddress
    problem: str | None


class Gate(Struct):
    """A gate that stands on a switch: while it does, the prefix's packets may be taken off here."""

    prefix: HomePrefix
    home_agent: Ipv6Address
    expires_in: SecondsLeft | None


class TunnelRevisions(Struct):
    """How far the tunnel list has come, and how far the router's agent."""

    revision: Revision
    acknowledged: Revision


class RefusedFlow(Struct):
    """A flow that a switch refuses, and how often it has."""

    table: str
    priority: Count
    reason: str
    times: Count


class RefusedTunnel(Struct):
    """A tunnel that a router's agent could not apply."""

    home_address: HomeAddress
    reason: str


class Router(Struct):
    """A router: its switch, its tunnel agent, and what they refused."""

    dpid: DatapathId
    connected: bool
    draining: bool
    backend: Backend
    agent: Literal["unseen", "alive", "lost"]
    endpoints: list[Endpoint]
    tunnels: TunnelRevisions
    gates: list[Gate]
    refused_flows: list[RefusedFlow]
    refused_tunnels: list[RefusedTunnel]


class Routers(Struct):
    """Routers, by page."""

    routers: list[Router]
    next: Cursor


class DesiredFlow(Struct):
    """A flow of ours. ``serves`` is whose traffic it carries, ``home_addresses`` the bindings it serves."""

    table: str
    priority: Count
    kind: FlowKind
    flow: Annotated[str, Meta(description="The flow as `ovs-ofctl` writes it, with names for tables.")]
    cookie: Annotated[str, Meta(pattern="^0x[0-9a-f]+$")]
    expires_in: SecondsLeft | None
    serves: HomeAddress | None
    home_addresses: list[HomeAddress]


class Flow(DesiredFlow):
    """A flow of ours on a switch."""

    packets: Count
    bytes: Count


class Flows(Struct):
    """Flows, by page."""

    flows: list[Flow]
    next: Cursor


class MissingFlow(DesiredFlow):
    """A flow that the switch should have and has not, with why it is not sent, if it is not."""

    reason: str | None


class UnexpectedFlow(Flow):
    """A flow of ours that the switch should not have, with why it stays, if it does."""

    reason: str | None


class DifferentFlow(Struct):
    """A flow that does something else than it should, or would stay for too long."""

    desired: DesiredFlow
    installed: Flow


class DifferenceTotals(Struct):
    """How many there are, listed or not."""

    missing: Count
    unexpected: Count
    different: Count


class Difference(Struct):
    """What the switch has at this moment against what it should have."""

    in_sync: bool
    missing: list[MissingFlow]
    unexpected: list[UnexpectedFlow]
    different: list[DifferentFlow]
    totals: DifferenceTotals


class GateForHomeAddress(Struct):
    """Whether a router's gate for a home address stands, and when it ends if it is not renewed."""

    open: bool
    expires_in: SecondsLeft | None


class ExplanationOnRouter(Struct):
    """How things stand on one router, and why; its flows for the binding as the switch confirmed them."""

    backend: Backend
    connected: bool
    draining: bool
    state: Literal["active", "pending", "failed"]
    reason: str
    gate: GateForHomeAddress
    packets: Count
    bytes: Count
    flows: list[Flow]


class BindingUpdate(Struct):
    """An update and its fate."""

    time: Time
    care_of_address: Ipv6Address | None
    sequence: Sequence | None
    lifetime: Lifetime | None
    source: Literal["post", "snapshot", "delete", "expiry", "lease"]
    result: Literal["added", "changed", "refreshed", "refused", "removed", "withheld"]
    reason: str | None


class Explanation(Struct):
    """Which path the packets for a home address take, since when, why, and what would change it.

    ``home``: no binding is held, and its home agent has none. ``binding`` is the one that packets take, its own or that
    of a mobile network.
    """

    home_address: HomeAddress
    path: Literal["direct", "home-agent", "mixed", "home"]
    since: Time | None
    reason: Annotated[str, Meta(description="One sentence.")]
    binding: Binding | None
    home_agent: HomeAgent
    routers: dict[DatapathId, ExplanationOnRouter]
    updates: Annotated[list[BindingUpdate], Meta(description="The last ones, oldest first, as far as they are known.")]
    would_change: list[str]


class Tunnel(Struct):
    """A tunnel that a router should have."""

    home_address: HomeAddress
    care_of_address: Ipv6Address
    home_agent: Ipv6Address


class TunnelList(Struct):
    """A router's tunnel list: complete for ``home_agents`` if ``full``, else what is new."""

    revision: Revision
    full: bool
    home_agents: list[Ipv6Address]
    tunnels: list[Tunnel]
    removed: list[HomeAddress]


class AgentLease(Struct):
    """How long a tunnel agent may be silent, in seconds."""

    lease: float


EventItem = Annotated[
    dict[str, str | int | float | bool | None],
    Meta(
        description="An event; which other members it has, its name says.",
        extra_json_schema={
            "required": ["id", "name", "time"],
            "properties": {
                "id": {"type": "integer", "minimum": 0},
                "name": {"enum": [*EVENTS, RESET]},
                "time": {"type": "string", "format": "date-time"},
            },
        },
    ),
]


class Events(Struct):
    """Events, by page. One named `reset` stands for all that are not held any more."""

    events: list[EventItem]
    next: Cursor


class TrafficSample(Struct):
    """Bytes that all routers had carried past the home agents at a moment. Less than before: a router is forgotten."""

    time: Time
    downlink: Count
    uplink: Count


class TrafficSamples(Struct):
    """Samples, by page, oldest first."""

    samples: list[TrafficSample]
    next: Cursor


class Health(Struct):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Readiness(Struct):
    """Every lease is held, every switch that is not drained connected, in step, its gates open. How many there are."""

    status: Literal["ready"]
    home_agents: Count
    routers: Count
