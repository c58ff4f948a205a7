# SPDX-License-Identifier: Apache-2.0
"""Declare the events by which an operator can follow the controller, each once.

An event keeps the core's own values. They become text only when somebody reads them, as most events of 100,000
bindings are never read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hoaflow.addresses import format_address

HOME_ADDRESS = "home address, or mobile network prefix"
CARE_OF_ADDRESS = "its care-of address"
HOME_AGENT = "the home agent's address"
SEQUENCE = "sequence number of the Binding Update, null where the source has none"
LIFETIME = "remaining lifetime in seconds, null where the source has none"
ROUTER = "datapath id"
REASON = "in words"
MEMBER = "name of the controller in its cluster"
TABLE = "name of the table, as on the pipeline's page"


class Event(NamedTuple):
    """Something that an operator may want to know; ``fields`` are those declared for ``name``."""

    name: str
    fields: Mapping[str, object]

    def shown(self) -> dict[str, str | int | float | bool | None]:
        """Return the fields as text and numbers."""
        return {name: shown(value) for name, value in self.fields.items()}


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event and the meaning of each of its fields; ``trouble``: somebody should look into it."""

    help: str
    fields: Mapping[str, str]
    trouble: bool = False


_BINDING = {
    "home_address": HOME_ADDRESS,
    "care_of_address": CARE_OF_ADDRESS,
    "home_agent": HOME_AGENT,
    "sequence": SEQUENCE,
    "lifetime": LIFETIME,
}
_ROUTER = {"router": ROUTER}

EVENTS: Mapping[str, EventType] = {
    "binding-added": EventType("A home address has a binding.", _BINDING),
    "binding-changed": EventType("A binding has another care-of address or home agent: a handover.", _BINDING),
    "binding-active": EventType(
        "All prepared routers have confirmed the flows of a binding: its traffic goes direct.",
        {"home_address": HOME_ADDRESS, "care_of_address": CARE_OF_ADDRESS, "sequence": SEQUENCE},
    ),
    "binding-removed": EventType(
        "A binding is gone.",
        {
            "home_address": HOME_ADDRESS,
            "reason": "expired, deregistered, not-in-snapshot, withheld (binding-withheld says why), update-refused"
            " (the home agent has accepted what the controller does not take), deleted, prefix-gone, protocol-gone (its"
            " home agent is announced without them now), home-agent-address (a home agent with its home or care-of"
            " address was announced), lease-lapsed (it had no lifetime, or was withheld) or home-agent-replaced",
        },
    ),
    "binding-refused": EventType(
        "A report of a binding was refused. If it was stale, the binding held stays; else that is withdrawn, as the"
        " home agent has accepted the update.",
        {
            "home_address": HOME_ADDRESS,
            "home_agent": HOME_AGENT,
            "reason": "stale-sequence, stale-timestamp, stale-care_of_address (a former MAG ends it), or in words",
        },
        trouble=True,
    ),
    "binding-withheld": EventType(
        "A mobile node is registered, but its bridge leaves its traffic to the home agent: IPsec protects it, or the"
        " mobile node's care-of address is in doubt.",
        {"home_address": HOME_ADDRESS, "care_of_address": CARE_OF_ADDRESS, "home_agent": HOME_AGENT, "reason": REASON},
    ),
    "binding-held": EventType(
        "A binding's traffic is kept on the home agent's path, as it changes too often.",
        {"home_address": HOME_ADDRESS, "reason": REASON},
    ),
    "home-agent-announced": EventType(
        "A bridge has announced its home agent, or the home agent's status has changed.",
        {"home_agent": HOME_AGENT, "status": "up, or ha-down", "lease": "seconds"},
    ),
    "home-agent-owned": EventType(
        "Another pod owns a home agent's address now, and its bridge follows it.",
        {"home_agent": HOME_AGENT, "owner": "name of the pod", "revision": "etcd's revision when it became the owner"},
    ),
    "home-agent-synced": EventType(
        "The first snapshot under a lease has come: the home agent's bindings may be offloaded.",
        {"home_agent": HOME_AGENT, "bindings": "how many the snapshot holds"},
    ),
    "bindings-updated": EventType(
        "A snapshot or a batch has changed more bindings than have events of their own: only the first thousand have.",
        {"source": "snapshot, or batch", "changes": "how many bindings were added, changed or removed"},
    ),
    "lease-lapsed": EventType(
        "A bridge has not renewed its lease: all of its home agent's traffic takes the home agent's path.",
        {"home_agent": HOME_AGENT},
        trouble=True,
    ),
    "home-agent-forgotten": EventType("A home agent is forgotten.", {"home_agent": HOME_AGENT}),
    "router-connected": EventType("A switch has connected, and its flows have been read.", _ROUTER),
    "router-disconnected": EventType("A switch has disconnected.", _ROUTER, trouble=True),
    "router-standby": EventType(
        "A switch has connected, and another controller of the cluster is its master, or none yet.", _ROUTER
    ),
    "router-of-another-cluster": EventType(
        "A switch is connected to which controllers of another cluster write: it is left alone, and looked at again"
        " until their marker is gone. A switch belongs to one cluster.",
        {"router": ROUTER, "marker": "the flow by which the other cluster marks its switches"},
        trouble=True,
    ),
    "router-taken-by-stranger": EventType(
        "A controller that is not of the cluster, or another program, has made itself a switch's master. This"
        " controller takes the switch back, 1.5 s later and then after growing intervals, up to 30 s. Said once, until"
        " the switch has been left alone for a minute.",
        {"router": ROUTER, "generation": "that with which this controller was its master"},
        trouble=True,
    ),
    "mastership-taken": EventType(
        "A switch has made this controller its master; its flows are read next.",
        {"router": ROUTER, "generation": "the mastership's number, which only grows"},
    ),
    "mastership-lost": EventType(
        "This controller is a switch's master no longer. Its connection ends and comes back.",
        {
            "router": ROUTER,
            "reason": "given-up (the cluster has decided so), or overtaken (the switch has another master already)",
        },
    ),
    "switch-turned-away": EventType(
        "A switch was disconnected, as more switches are connected without a tunnel agent than switches_without_agent"
        " allows: strangers reach the OpenFlow port, or agents are missing.",
        _ROUTER,
        trouble=True,
    ),
    "router-drained": EventType("A router has been taken out of service; its gates close.", _ROUTER),
    "router-undrained": EventType("A router is back in service.", _ROUTER),
    "router-forgotten": EventType("A router is forgotten.", _ROUTER),
    "agent-lost": EventType(
        "A router's tunnel agent has stopped reporting: the router's gates close.", _ROUTER, trouble=True
    ),
    "agent-changed": EventType(
        "A router's tunnel agent has announced another backend or other endpoints without having been silent: the"
        " router was set up anew, or two agents report for it.",
        _ROUTER,
        trouble=True,
    ),
    "meters-lost": EventType(
        "Something else has removed or changed meters by which an on-demand router's switch tells of packets: they are"
        " made again.",
        {**_ROUTER, "meters": "their numbers, separated by commas"},
        trouble=True,
    ),
    "on-demand-unsupported": EventType(
        "A router's switch has no meters, or can't tell of packets without flows: it gets the flows of all bindings.",
        {**_ROUTER, "reason": "what the switch said"},
        trouble=True,
    ),
    "tunnel-failed": EventType(
        "A router's tunnel agent could not set up a binding's tunnel. Of many at once the first thousand have events.",
        {"home_address": HOME_ADDRESS, "router": ROUTER, "reason": REASON},
        trouble=True,
    ),
    "flow-rejected": EventType(
        "A switch has refused a flow; it is tried again.",
        {
            "router": ROUTER,
            "flow": "the flow, as ovs-ofctl writes it",
            "serves": "home address, home prefix or home agent that it is for, or null",
            "reason": "the OpenFlow error",
        },
        trouble=True,
    ),
    "table-full": EventType(
        "A table of a switch has no room for a new flow. Home addresses whose flows find none are left to their home"
        " agents; one at a time is tried again, first after 1 s and finally every 60 s. The router's view lists what is"
        " left out, and the metric hoaflow_flows_left_out counts it.",
        {"router": ROUTER, "table": TABLE},
        trouble=True,
    ),
    "table-has-room": EventType(
        "A full table of a switch has taken a new flow again; the others follow.",
        {"router": ROUTER, "table": TABLE},
    ),
    "member-joined": EventType("A controller has joined the cluster.", {"member": MEMBER}),
    "member-left": EventType(
        "A controller has left the cluster, or its process has ended, or it has not renewed its lease, or etcd has lost"
        " its data: the others take its routers over unless it comes back.",
        {"member": MEMBER},
        trouble=True,
    ),
    "member-name-taken": EventType(
        "Another controller of the cluster has this one's name, so this one gets no routers: set member anew.",
        {"member": MEMBER},
        trouble=True,
    ),
    "member-url-shared": EventType(
        "Members of the cluster have the same member_url, so calls for one of them reach another: set each one's own.",
        {"url": "their member_url", "members": "their names"},
        trouble=True,
    ),
    "master-changed": EventType(
        "The cluster has another master for a router.",
        {"router": ROUTER, "master": MEMBER, "generation": "its generation_id in OpenFlow", "reason": REASON},
    ),
    "etcd-unreachable": EventType(
        "etcd does not answer, or has no majority. Every router keeps its master, but none can get another one.",
        {"reason": REASON},
        trouble=True,
    ),
    "etcd-reachable": EventType("etcd answers.", {}),
    "drift-repaired": EventType(
        "Flows of a switch were not as the controller had left them, and have been repaired.",
        {"router": ROUTER, "flows": "how many were put back, changed back or removed"},
        trouble=True,
    ),
}
# Events about one home address.
MOVES = frozenset(name for name in EVENTS if name.startswith("binding-"))


def shown(value: object) -> str | int | float | bool | None:
    """Return a value of the core as text, or unchanged if JSON has its type."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return format_address(value)
    return str(value)
