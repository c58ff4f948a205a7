# SPDX-License-Identifier: Apache-2.0
"""Why packets take the home agent's path: every reason that a decision of the core can have, in words.

The functions that decide return these; nobody works out a reason afterwards.
"""

from typing import NamedTuple

from controller.core.history import Update
from hoaflow.addresses import Prefix, format_address

# Results of an update after which no binding is there.
_ENDS = ("removed", "refused")


class Reason(NamedTuple):
    """What keeps packets from going direct, in one sentence, and what would change that.

    ``since`` is the moment from which it holds on the caller's clock, None where nobody took it down.
    """

    text: str
    remedy: str
    since: float | None = None


# Of the home agent.


def not_announced(home_agent: bytes) -> Reason:
    """No bridge speaks for it any more."""
    address = format_address(home_agent)
    return Reason(
        f"no bridge has announced home agent {address}", f"a bridge that announces home agent {address} (ha-bridge)"
    )


def lease_lapsed(home_agent: bytes, since: float) -> Reason:
    """The dead-man's switch."""
    address = format_address(home_agent)
    return Reason(
        f"the bridge of home agent {address} has not renewed its lease",
        f"the bridge of home agent {address} reaching the controller: it then renews its lease and sends a snapshot",
        since,
    )


def snapshot_awaited(home_agent: bytes, since: float) -> Reason:
    """After a restart or a lapse, what is held may be stale."""
    address = format_address(home_agent)
    return Reason(
        f"the bridge of home agent {address} is back, but its first snapshot has not come",
        f"a snapshot from the bridge of home agent {address}; it sends one when it can read the binding cache",
        since,
    )


def no_binding(home_address: Prefix, home_agent: bytes, last: Update | None) -> Reason:
    """Nothing to take off the home agent. ``last`` is the last update of the home address, if it is known."""
    address = format_address(home_agent)
    ended = f"; the last one was {last.result} ({last.reason})" if last and last.result in _ENDS else ""
    return Reason(
        f"no binding is held for {home_address}: its mobile node is at home or not registered{ended}",
        f"a home registration that home agent {address} accepts and its bridge reports",
        last.time if last and last.result in _ENDS else None,
    )


def withheld(reason: str, since: float | None) -> Reason:
    """The bridge's decision; ``reason`` is its own."""
    return Reason(
        f"its mobile node is registered, but the bridge leaves it to the home agent ({reason})",
        "the cause gone at the home agent; its bridge then reports it for offloading",
        since,
    )


# Of the router.


def not_connected(since: float) -> Reason:
    """What stands in the switch serves until its gates expire."""
    return Reason(
        "its switch is not connected to the controller, so its gates expire within the lease",
        "the switch connecting to the controller again (ovs-vsctl get-controller, and the network between them)",
        since,
    )


def no_switch() -> Reason:
    """Nothing to put flows into."""
    return Reason("no switch is connected", "ovs-vsctl set-controller, on a router")


def not_in_step(since: float) -> Reason:
    """The switch is slow, or something keeps changing."""
    return Reason("its switch has not been given all its flows yet", "the switch's confirmation", since)


def flows_refused(count: int, error: str, since: float) -> Reason:
    """The switch answered with errors."""
    return Reason(
        f"its switch refuses {count} flow{'s' if count > 1 else ''}: {error}",
        "the cause in the switch removed; the flows are sent again",
        since,
    )


def draining(dpid: int, since: float) -> Reason:
    """An operator took it out of service."""
    return Reason("the router is drained", f"hoaflow undrain {dpid:016x}", since)


def agent_unseen(since: float) -> Reason:
    """Only the agent knows which backend there is."""
    return Reason(
        "its tunnel agent has not reported to this controller yet", "hoaflow-router run, on the router", since
    )


def agent_silent(since: float) -> Reason:
    """Nobody says what the router's kernel holds."""
    return Reason(
        "its tunnel agent is silent",
        "hoaflow-router run on the router reaching the controller again",
        since,
    )


def no_endpoint(home_agent: bytes) -> Reason:
    """The agent has announced others, or none."""
    address = format_address(home_agent)
    return Reason(
        f"it is not prepared for home agent {address}: its agent has announced no tunnel endpoint for it",
        f"hoaflow-router setup --home-agent {address}, on the router",
    )


def endpoint_broken(problem: str) -> Reason:
    """The agent compares it with what it should be, and could not mend it."""
    return Reason(
        f"its tunnel endpoint is broken: {problem}",
        "the cause on the router removed: hoaflow-router doctor --bridge BRIDGE; its agent mends the rest",
    )


def no_port(ports: list[str]) -> Reason:
    """The agent announced ports that the switch does not have."""
    names = " and ".join(ports)
    return Reason(
        f"its agent has announced tunnel port {names}, but the switch has no such port, or it is down",
        "hoaflow-router setup, on the router, which puts the port back; ip link set up, where it is down",
    )


def no_mac() -> Reason:
    """Of frames that come by, none is for the router."""
    return Reason(
        "its agent has found no interface of the router's kernel that is up, so no frame is for it",
        "an interface of the router's kernel that is up (ip link), in the network namespace that setup was given",
    )


def guards_unconfirmed() -> Reason:
    """What must stay on the home agent's path is kept there before anything is taken off it."""
    return Reason(
        "the switch has not confirmed the flows that keep signalling on the home agent's path",
        "the switch's confirmation, within moments; if it does not come, see the refused flows of the router",
    )


def tunnels_awaited() -> Reason:
    """No gate opens onto a tunnel that may be a former one."""
    return Reason(
        "its tunnel agent has not acknowledged all tunnels yet, so no gate opens onto those of an earlier time",
        "the acknowledgement of its tunnel agent, or the end of the time it has for that (acknowledge_within)",
    )


def flows_awaited() -> Reason:
    """Gates open last."""
    return Reason(
        "the switch has not confirmed all flows yet, and no gate opens onto those of an earlier time",
        "the switch's confirmation, within moments",
    )


def gate_unconfirmed() -> Reason:
    """Sent, not answered."""
    return Reason(
        "the switch has not confirmed the home agent's gates yet", "the switch's confirmation, within moments"
    )


# Of the binding on the router.


def flapping(limit: int) -> Reason:
    """It changes faster than routers should follow."""
    return Reason(
        f"its care-of address changes more than {limit} times a second",
        "fewer changes: when it has calmed down, the newest care-of address is applied",
    )


def tunnel_failed(reason: str) -> Reason:
    """The agent could not apply it."""
    return Reason(
        f"its tunnel agent could not set up the tunnel: {reason}",
        "the cause on the router removed: hoaflow-router doctor; the agent tries again",
    )


def flow_refused(error: str, since: float) -> Reason:
    """The switch answered with an error."""
    return Reason(
        f"the switch refused its flow: {error}", "the cause in the switch removed; the flow is sent again", since
    )


def gate_refused(error: str, since: float) -> Reason:
    """The same of a gate."""
    return Reason(
        f"the switch refused the home agent's gate: {error}",
        "the cause in the switch removed; the gate is sent again",
        since,
    )


def foreign_flow() -> Reason:
    """Ours would replace it."""
    return Reason(
        "another application holds a flow with the same match in the switch",
        "that flow removed, or another first_table for hoaflow",
    )


def tunnel_unacknowledged() -> Reason:
    """The kernel's route comes before the flow."""
    return Reason(
        "its tunnel agent has not acknowledged the tunnel yet",
        "the acknowledgement of its tunnel agent, within moments",
    )


def path_shared(other: Prefix | None) -> Reason:
    """One uplink flow decapsulates for all home addresses at a care-of address, so it is there for all or for none."""
    who = "another home address" if other is None else str(other)
    return Reason(
        f"{who} at the same care-of address can't be taken off the home agent, and both come in by one uplink flow",
        f"what keeps {who} on the home agent's path removed" + (f" (hoaflow explain {other})" if other else ""),
    )


def flows_unconfirmed() -> Reason:
    """Sent, not answered."""
    return Reason("the switch has not confirmed its flows yet", "the switch's confirmation, within moments")
