# SPDX-License-Identifier: Apache-2.0
"""Declare the answers: one struct each, which is encoded and makes OpenAPI's schemas.

Addresses are in RFC 5952 form, times are seconds from now.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from controller.core.events import EVENTS
from controller.core.protocols import Protocol
from controller.events import RESET
from controller.rest.schemas.fields import (
    CareOfAddress,
    Count,
    Cursor,
    DatapathId,
    HomeAddress,
    HomePrefix,
    Identification,
    IpAddress,
    Lifetime,
    MacAddress,
    MemberName,
    OwnerName,
    OwnerRevision,
    ProtocolName,
    Revision,
    SecondsLeft,
    Sequence,
    Time,
    Timestamp,
    UpdateNumber,
    Withheld,
)
from controller.rest.schemas.flow_answers import Flow

BindingStateName = Literal["pending", "active", "partial", "idle", "held", "withheld"]
OnRouterState = Literal["active", "pending", "failed", "idle", "unknown"]
Backend = Literal["flow", "route"] | None
Index = Annotated[int, Meta(description="Its place in the request, from 0.", ge=0)]


class FieldError(Struct, frozen=True):
    """A wrong field of a request, and the reason."""

    field: str
    reason: str


class ProblemDetails(Struct, frozen=True):
    """A refusal (RFC 9457); `errors` says which fields were wrong, if any."""

    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    type: str = "about:blank"
    errors: tuple[FieldError, ...] | UnsetType = UNSET


class BindingOnRouter(Struct):
    """The state of a binding on one router, the reason if it is not active there, and its counters.

    `unknown`: in a cluster, the router has no master that says.
    """

    state: OnRouterState
    packets: Count
    bytes: Count
    reason: str | None = None


class Binding(Struct):
    """A binding, with its state on each router that is prepared for its home agent.

    Lists, and answers to reports, leave out on-demand routers that have seen none of its packets.
    """

    home_address: HomeAddress
    care_of_address: CareOfAddress
    home_agent: IpAddress
    lifetime: Lifetime | None
    sequence: Sequence | None
    expires_in: SecondsLeft | None
    state: BindingStateName
    routers: dict[DatapathId, BindingOnRouter]
    withheld: Withheld | None
    protocol: ProtocolName = Protocol.MIPV6
    timestamp: Timestamp | None = None
    identification: Identification | None = None
    reverse_tunnel: bool = True


class BindingRemoved(Struct):
    """A binding that was removed, or never existed."""

    home_address: HomeAddress
    state: Literal["removed"] = "removed"


class BatchResult(Struct, omit_defaults=True):
    """The result of one item of a batch."""

    index: Index
    status: Annotated[int, Meta(ge=200, le=599)]
    errors: tuple[FieldError, ...] | UnsetType = UNSET


class BatchResults(Struct):
    """The results of a batch, item by item."""

    results: list[BatchResult]


class Unanswered(Struct):
    """A member of the cluster that has not answered, why, and the routers of which nothing is known for that."""

    member: MemberName
    reason: str
    routers: list[DatapathId]


class Bindings(Struct):
    """Bindings, by page."""

    bindings: list[Binding]
    next: Cursor
    unanswered: list[Unanswered] | UnsetType = UNSET


class Owner(Struct):
    """Which of several pods owns a home agent's address."""

    name: OwnerName
    revision: OwnerRevision


class HomeAgent(Struct):
    """A home agent; `snapshot` is `wanted` until it has sent one under its present lease."""

    home_agent: IpAddress
    home_prefixes: list[HomePrefix]
    lease: Annotated[int, Meta(description="Seconds.", ge=1)]
    expires_in: SecondsLeft
    status: Literal["up", "ha-down", "expired"]
    snapshot: Literal["wanted", "held"]
    bindings: Count
    protocols: list[ProtocolName]
    group: str | None
    owner: Owner | None


class BulkUpdated(Struct):
    """What one message changed of all bindings at a care-of address; `newer` stay, as theirs is the newer update."""

    changed: Count
    removed: Count
    unchanged: Count
    newer: Count
    refused: Count


class HomeAgents(Struct):
    """Home agents, by page."""

    home_agents: list[HomeAgent]
    next: Cursor


class RefusedItem(Struct, omit_defaults=True):
    """A binding of a snapshot that was refused."""

    index: Index
    status: Annotated[int, Meta(ge=400, le=599)]
    errors: tuple[FieldError, ...]
    home_address: HomeAddress | UnsetType = UNSET


class SnapshotTaken(Struct):
    """The effect of a snapshot; `changed` counts new paths, `unchanged` mere refreshes."""

    added: Count
    changed: Count
    removed: Count
    unchanged: Count
    refused: list[RefusedItem]


class Endpoint(Struct):
    """A tunnel endpoint of a router (`route` backend); `problem` says why it carries no traffic, null if it does."""

    home_agent: IpAddress
    port: str
    mac: MacAddress
    problem: str | None


class Gate(Struct):
    """An open gate on a switch: the prefix's packets may be offloaded there."""

    prefix: HomePrefix
    home_agent: IpAddress
    expires_in: SecondsLeft | None


class TunnelRevisions(Struct):
    """The newest revision of a tunnel list, and the one that the tunnel agent has applied."""

    revision: Revision
    acknowledged: Revision


class RefusedFlow(Struct):
    """A flow that a switch refuses, and the number of refusals."""

    table: str
    priority: Count
    reason: str
    times: Count


class RefusedTunnel(Struct):
    """A tunnel that a tunnel agent could not apply."""

    home_address: HomeAddress
    reason: str


class Router(Struct):
    """A router: its switch, its tunnel agent, and what these have refused."""

    dpid: DatapathId
    connected: bool
    master: Annotated[str, Meta(description="The other controller of the cluster that writes to its switch.")] | None
    draining: bool
    backend: Backend
    agent: Literal["unseen", "alive", "lost"]
    endpoints: list[Endpoint]
    tunnels: TunnelRevisions
    gates: list[Gate]
    refused_flows: list[RefusedFlow]
    refused_tunnels: list[RefusedTunnel]
    install: Annotated[
        Literal["everything", "on-demand"],
        Meta(description="Which bindings' flows its switch has: all, or of those whose packets come to it."),
    ] = "everything"
    on_demand_problem: Annotated[str, Meta(description="Why it has all, although on-demand is wanted.")] | None = None


class Routers(Struct):
    """Routers, by page."""

    routers: list[Router]
    next: Cursor
    unanswered: list[Unanswered] | UnsetType = UNSET


class GateForHomeAddress(Struct):
    """Whether a router's gate for a home address is open, and when it closes if it is not renewed."""

    open: bool
    expires_in: SecondsLeft | None


class ExplanationOnRouter(Struct):
    """The state of a binding on one router, and why; its flows there as the switch has confirmed them."""

    backend: Backend
    connected: bool
    draining: bool
    state: OnRouterState
    reason: str
    gate: GateForHomeAddress
    packets: Count
    bytes: Count
    flows: list[Flow]


class BindingUpdate(Struct):
    """An update of a binding, and its result."""

    time: Time
    care_of_address: CareOfAddress | None
    sequence: UpdateNumber | None
    lifetime: Lifetime | None
    source: Literal["post", "snapshot", "delete", "expiry", "lease", "uncovered"]
    result: Literal["added", "changed", "refreshed", "refused", "removed", "withheld"]
    reason: str | None


class Explanation(Struct):
    """The path of the packets for a home address, since when and why, and what would change it.

    `home`: there is no binding, so the mobile node is at home or not registered. `binding` is the one that packets
    follow, its own or that of a mobile network.
    """

    home_address: HomeAddress
    path: Literal["direct", "home-agent", "mixed", "home"]
    since: Time | None
    reason: Annotated[str, Meta(description="One sentence.")]
    binding: Binding | None
    home_agent: HomeAgent
    routers: dict[DatapathId, ExplanationOnRouter]
    updates: Annotated[list[BindingUpdate], Meta(description="The last ones, oldest first.")]
    would_change: list[str]


class Tunnel(Struct, omit_defaults=True):
    """A tunnel that a router should have. Without `reverse_tunnel`, nothing comes back in it (RFC 3024)."""

    home_address: HomeAddress
    care_of_address: CareOfAddress
    home_agent: IpAddress
    reverse_tunnel: bool = True


class TunnelList(Struct):
    """A router's tunnel list: all of it for `home_agents` if `full`, otherwise the changes."""

    revision: Revision
    full: bool
    home_agents: list[IpAddress]
    tunnels: list[Tunnel]
    removed: list[HomeAddress]
    master: Annotated[bool, Meta(description="Whether this controller is the router's master, as far as it knows.")]
    generation: Annotated[
        int, Meta(description="The newest generation_id of the router's masters; 0 without a cluster.", ge=0)
    ]


class AgentLease(Struct):
    """The seconds that a tunnel agent may be silent."""

    lease: float


EventItem = Annotated[
    dict[str, str | int | float | bool | None],
    Meta(
        description="An event; its other members depend on its name.",
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
    """Events, by page; one named `reset` stands for all that have left the buffer."""

    events: list[EventItem]
    next: Cursor


class TrafficSample(Struct):
    """The bytes that all routers had carried past the home agents at one time.

    A sum falls when a router is forgotten.
    """

    time: Time
    downlink: Count
    uplink: Count


class TrafficSamples(Struct):
    """Samples of traffic, by page, oldest first."""

    samples: list[TrafficSample]
    next: Cursor


class Etcd(Struct):
    """Whether etcd answers this member, and since when; while it does not, masters stay as they are."""

    reachable: bool
    since: Time


class ClusterMember(Struct):
    """A controller of the cluster; `url` is its REST API as the other members reach it, null if not known."""

    name: MemberName
    url: Annotated[str, Meta(extra_json_schema={"format": "uri"})] | None
    started: Time
    version: str
    routers: Annotated[int, Meta(description="Routers of which it is master.", ge=0)]


class RouterMastership(Struct):
    """Which member writes to a router, null while there is none; since when, and why it and not another."""

    dpid: DatapathId
    master: MemberName | None
    generation: Annotated[int, Meta(description="The generation_id shown to the switch.", ge=0)]
    since: Time
    reason: str


class Cluster(Struct):
    """The cluster as `member` knows it, which answers; `cluster` and `etcd` are null for a controller by itself."""

    cluster: str | None
    member: MemberName
    address: Annotated[
        str, Meta(description="Where the call has reached the member: another place than was called if by a proxy.")
    ]
    etcd: Etcd | None
    members: list[ClusterMember]
    routers: list[RouterMastership]


class Health(Struct):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Readiness(Struct):
    """The controller does all its work; the numbers of its home agents and routers."""

    status: Literal["ready"]
    home_agents: Count
    routers: Count
