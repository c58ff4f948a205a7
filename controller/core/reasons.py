# SPDX-License-Identifier: Apache-2.0
"""Say why packets take the home agent's path: every reason that a decision of the core can have, in words.

The functions that decide return these; nobody works out a reason afterwards. What to type or to call for a remedy is
up to whoever shows it: see `Step`.
"""

from enum import Enum
from typing import NamedTuple

from controller.core.update_history import RecordedUpdate
from hoaflow.addresses import Prefix, format_address

# Results of an update after which no binding is there.
_ENDS = ("removed", "refused")


class Step(Enum):
    """Something that an operator can do about a reason."""

    CONNECT_SWITCH = "connect the switch to the controller"
    DRAIN = "take a router out of service"
    UNDRAIN = "put a router back into service"
    RUN_AGENT = "run a router's tunnel agent"
    PREPARE_ROUTER = "prepare a router for home agents"
    EXAMINE_ROUTER = "examine a router's tunnel endpoint"
    EXAMINE_LINKS = "examine a router's interfaces"
    EXPLAIN = "explain the path of another home address"


class Remedy(NamedTuple):
    """What would change a path, in words, and what an operator can do for it.

    ``subject`` is what the step is about: a datapath id, a home agent or a home address; None for whichever it is.
    """

    text: str
    step: Step | None = None
    subject: int | bytes | Prefix | None = None


class Reason(NamedTuple):
    """What keeps packets from going direct, in one sentence, and what would change that.

    ``since`` is when it began, on the caller's clock; None where that is not known.
    """

    text: str
    remedy: Remedy
    since: float | None = None


# Of the home agent.


def not_announced(home_agent: bytes) -> Reason:
    """Say that no bridge speaks for the home agent any more."""
    address = format_address(home_agent)
    return Reason(f"no bridge has announced home agent {address}", Remedy(f"a bridge announcing home agent {address}"))


def lease_lapsed(home_agent: bytes, since: float) -> Reason:
    """Say that the bridge's lease has ended: the dead-man's switch."""
    address = format_address(home_agent)
    return Reason(
        f"the bridge of home agent {address} has not renewed its lease",
        Remedy(
            f"the bridge of home agent {address} reaching the controller: it then renews its lease and sends a snapshot"
        ),
        since,
    )


def snapshot_awaited(home_agent: bytes, since: float) -> Reason:
    """Say that bindings may be stale, as no snapshot has come since a restart or lapse."""
    address = format_address(home_agent)
    return Reason(
        f"the bridge of home agent {address} is back, but its first snapshot has not come",
        Remedy(f"a snapshot from the bridge of home agent {address}; it sends one when it can read the binding cache"),
        since,
    )


def reports_awaited(home_agent: bytes, last_change: int | None, reported: int | None, since: float) -> Reason:
    """Say that the bridge has seen more of its home agent's changes than it has reported here."""
    address, so_far = format_address(home_agent), "none" if reported is None else f"those up to {reported}"
    return Reason(
        f"the bridge of home agent {address} has seen its change {last_change}, and has reported {so_far} here",
        Remedy(f"the bridge of home agent {address} reporting the rest to this controller"),
        since,
    )


def no_binding(home_address: Prefix, home_agent: bytes, last: RecordedUpdate | None) -> Reason:
    """Say that there is no binding to offload; ``last`` is the home address's last update, if it is known."""
    address = format_address(home_agent)
    ended = f"; the last one was {last.result} ({last.reason})" if last and last.result in _ENDS else ""
    return Reason(
        f"no binding is held for {home_address}: its mobile node is at home or not registered{ended}",
        Remedy(f"a home registration that home agent {address} accepts and its bridge reports"),
        last.time if last and last.result in _ENDS else None,
    )


def withheld(reason: str, since: float | None) -> Reason:
    """Say that the bridge leaves the binding to its home agent, for the bridge's own ``reason``."""
    return Reason(
        f"its mobile node is registered, but the bridge leaves it to the home agent ({reason})",
        Remedy("the cause gone at the home agent; its bridge then reports the binding for offloading"),
        since,
    )


# Of the router.


def not_connected(since: float, master: str | None = None) -> Reason:
    """Say that the switch is away; what it has serves until its gates expire, unless another controller is master."""
    if master is not None:
        return Reason(
            f"its switch is not connected to this controller, but {master} is its master",
            Remedy("its switch connecting to this controller, too", Step.CONNECT_SWITCH),
            since,
        )
    return Reason(
        "its switch is not connected to the controller, so its gates expire within the lease",
        Remedy("its switch connecting to the controller again", Step.CONNECT_SWITCH),
        since,
    )


def other_master(master: str) -> Reason:
    """Say that another controller of the cluster writes to the switch: all is well, but not known here."""
    return Reason(
        f"{master} is its master and knows how it stands there",
        Remedy(f"nothing: ask {master}"),
    )


def no_master(since: float) -> Reason:
    """Say that the switch is connected, but the cluster has given it to no controller yet."""
    return Reason(
        "no controller of the cluster is its master yet",
        Remedy("the cluster choosing one, within seconds; for that it needs etcd"),
        since,
    )


def another_cluster(marker: str, since: float) -> Reason:
    """Say that controllers of another cluster write to the switch."""
    return Reason(
        f"controllers of another cluster write to its switch: it holds their marker {marker}",
        Remedy("the switch connected to the controllers of one cluster only", Step.CONNECT_SWITCH),
        since,
    )


def taken_by_stranger(since: float) -> Reason:
    """Say that a controller that is none of the cluster makes itself the switch's master."""
    return Reason(
        "a controller that is not of the cluster has made itself its switch's master",
        Remedy(
            "the switch connected to the controllers of the cluster only; it is tried again, every 30 s in the end,"
            " and said for a minute after the last time",
            Step.CONNECT_SWITCH,
        ),
        since,
    )


def no_switch() -> Reason:
    """Say that there is no switch at all."""
    return Reason("no switch is connected", Remedy("a router's switch connecting", Step.CONNECT_SWITCH))


def not_in_step(since: float) -> Reason:
    """Say that the switch is slow, or that its flows keep changing."""
    return Reason("its switch has not been given all its flows yet", Remedy("the switch's confirmation"), since)


def flows_refused(count: int, error: str, since: float) -> Reason:
    """Say that the switch answers with errors."""
    return Reason(
        f"its switch refuses {count} flow{'s' if count > 1 else ''}: {error}",
        Remedy("the cause in the switch removed; the flows are sent again"),
        since,
    )


def draining(dpid: int, since: float) -> Reason:
    """Say that an operator has taken the router out of service."""
    return Reason(
        "the router is drained", Remedy("an operator putting it back into service", Step.UNDRAIN, dpid), since
    )


def agent_unseen(since: float) -> Reason:
    """Say that the agent, which alone knows the router's backend, has not reported since the controller started."""
    return Reason(
        "its tunnel agent has not reported to this controller yet",
        Remedy("its tunnel agent running and reaching the controller", Step.RUN_AGENT),
        since,
    )


def agent_silent(since: float) -> Reason:
    """Say that the agent has stopped reporting what the router's kernel holds."""
    return Reason(
        "its tunnel agent is silent",
        Remedy("its tunnel agent reaching the controller again", Step.RUN_AGENT),
        since,
    )


def no_endpoint(home_agent: bytes) -> Reason:
    """Say that the agent has announced no tunnel endpoint for the home agent."""
    address = format_address(home_agent)
    return Reason(
        f"it is not prepared for home agent {address}: its agent has announced no tunnel endpoint for it",
        Remedy("the router prepared for this home agent", Step.PREPARE_ROUTER, home_agent),
    )


def no_tunnel_device(home_agent: bytes) -> Reason:
    """Say that the agent of a `flow` router has announced no tunnel device for home agents of this one's family."""
    address, family = format_address(home_agent), "IPv4" if len(home_agent) == 4 else "IPv6"
    return Reason(
        f"it is not prepared for home agent {address}: its flow backend has no tunnel device for {family} outside",
        Remedy(f"the router set up for tunnels over {family}", Step.PREPARE_ROUTER, home_agent),
    )


def endpoint_broken(problem: str) -> Reason:
    """Say that the tunnel endpoint is not as it should be, and that its agent could not mend it."""
    return Reason(
        f"its tunnel endpoint is broken: {problem}",
        Remedy("the cause on the router removed; its agent mends the rest", Step.EXAMINE_ROUTER),
    )


def no_port(ports: list[str]) -> Reason:
    """Say that the switch lacks ports that the agent has announced."""
    names = " and ".join(ports)
    return Reason(
        f"its agent has announced tunnel port {names}, but the switch has no such port, or it is down",
        Remedy("the port there and up", Step.PREPARE_ROUTER),
    )


def no_mac() -> Reason:
    """Say that no frame is addressed to the router."""
    return Reason(
        "its agent has found no interface of the router's kernel that is up, so no frame is for it",
        Remedy(
            "an interface of the router's kernel that is up, in the network namespace given at its setup",
            Step.EXAMINE_LINKS,
        ),
    )


def guards_unconfirmed() -> Reason:
    """Say that guards, which come before gates, are on their way."""
    return Reason(
        "the switch has not confirmed the flows that keep signalling on the home agent's path",
        Remedy("the switch's confirmation, within moments; if it does not come, see the router's refused flows"),
    )


def tunnels_awaited() -> Reason:
    """Say that the agent has started anew and may still have old tunnels."""
    return Reason(
        "its tunnel agent has not acknowledged all tunnels yet, so no gate opens onto those of an earlier time",
        Remedy("its agent's acknowledgement, or the end of the time it has for that (setting acknowledge_within)"),
    )


def flows_awaited() -> Reason:
    """Say that flows, which come before gates, are on their way."""
    return Reason(
        "the switch has not confirmed all flows yet, and no gate opens onto those of an earlier time",
        Remedy("the switch's confirmation, within moments"),
    )


def reports_unconfirmed() -> Reason:
    """Say that the switch lags behind what the bridge had reported when it renewed its lease."""
    return Reason(
        "the switch has not confirmed all that the bridge had reported when it last renewed its lease",
        Remedy("the switch's confirmation, within moments; if it does not come, see the router's refused flows"),
    )


def withdrawal_overdue(count: int) -> Reason:
    """Say that the switch has not deleted flows that have to go, to which the gate would lead."""
    flows = "1 flow that has" if count == 1 else f"{count} flows that have"
    return Reason(
        f"the switch still has {flows} to go, to which the gate would lead",
        Remedy("the switch's deletion, which is tried again, and then the next renewal of the lease"),
    )


def gate_unconfirmed() -> Reason:
    """Say that the gates are on their way."""
    return Reason(
        "the switch has not confirmed the home agent's gates yet", Remedy("the switch's confirmation, within moments")
    )


# Of the binding on the router.


def suppressed(limit: int) -> Reason:
    """Say that the binding changes faster than routers should follow."""
    return Reason(
        f"its care-of address changes more than {limit} times a second",
        Remedy("fewer changes: once it has calmed down, its newest care-of address is applied"),
    )


def tunnel_failed(reason: str) -> Reason:
    """Say that the agent could not set up the tunnel."""
    return Reason(
        f"its tunnel agent could not set up the tunnel: {reason}",
        Remedy("the cause on the router removed; the agent tries again", Step.EXAMINE_ROUTER),
    )


def flow_refused(error: str, since: float) -> Reason:
    """Say that the switch has refused a flow of the binding."""
    return Reason(
        f"the switch refused its flow: {error}",
        Remedy("the cause in the switch removed; the flow is sent again"),
        since,
    )


def gate_refused(error: str, since: float) -> Reason:
    """Say that the switch has refused a gate."""
    return Reason(
        f"the switch refused the home agent's gate: {error}",
        Remedy("the cause in the switch removed; the gate is sent again"),
        since,
    )


def foreign_flow() -> Reason:
    """Say that another application's flow is in the place of one of ours, which would replace it."""
    return Reason(
        "another application holds a flow with the same match in the switch",
        Remedy("that flow removed, or hoaflow given other tables (setting first_table)"),
    )


def tunnel_unacknowledged() -> Reason:
    """Say that the tunnel, which comes before the flow, is on its way."""
    return Reason(
        "its tunnel agent has not acknowledged the tunnel yet",
        Remedy("its agent's acknowledgement, within moments"),
    )


def path_shared(other: Prefix | None) -> Reason:
    """Say that another home address at the care-of address can't be offloaded, as all share one uplink flow."""
    who = "another home address" if other is None else str(other)
    return Reason(
        f"{who} at the same care-of address can't be offloaded, and one uplink flow takes the packets of both",
        Remedy(f"what keeps {who} on the home agent's path removed", None if other is None else Step.EXPLAIN, other),
    )


def not_offloaded_within(prefix: Prefix) -> Reason:
    """Say that a home address in the prefix is not offloaded, and that flows for the prefix would take its packets."""
    return Reason(
        f"a home address within {prefix} is left to its home agent, and flows for the prefix would take its packets",
        Remedy("the end of that home address's binding, or one that can be offloaded"),
    )


def not_asked_for() -> Reason:
    """Say that an on-demand router has seen no packets for the binding."""
    text = "no packet has come for it lately, and the router installs flows on demand"
    return Reason(text, Remedy("its first packet, which goes by the home agent"))


def flows_unconfirmed() -> Reason:
    """Say that the binding's flows are on their way."""
    return Reason("the switch has not confirmed its flows yet", Remedy("the switch's confirmation, within moments"))
