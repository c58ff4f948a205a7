# SPDX-License-Identifier: Apache-2.0
"""Change switches' flows, ports and controllers."""

import sys

from tools.chaos.acts import Act
from tools.chaos.acts.hosts import endpoints
from tools.chaos.addresses import CONTROLLERS, management_controller
from tools.chaos.lab import START_TIMEOUT, Lab
from topologies import addresses as at
from topologies.nodes import checked
from topologies.ovs_router import BRIDGE

COOKIE = "cookie=0x686f616600000000/0xffffffff00000000"  # hoaflow's own
OWN_DROP = "cookie=0x686f6166deadbeef,table=1,priority=900,ipv6,actions=drop"
FLOODED = "cookie=0x99,priority=60000,udp6,tp_dst=9"
RELAYS = 7000  # ports, from here on


def _ofctl(lab: Lab, router: str, *arguments: str) -> None:
    checked(lab.router(router), "ovs-ofctl", "-O", "OpenFlow13", "--timeout=20", *arguments)


def flows(command: str, flow: str) -> Act:
    """Return an act that runs `ovs-ofctl COMMAND BRIDGE FLOW` on a router."""

    def act(lab: Lab, target: str) -> None:
        _ofctl(lab, target, command, BRIDGE, flow)

    return act


def limit_flows(policy: str) -> Act:
    """Return an act that lets the table of downlink flows hold one flow only."""

    def act(lab: Lab, target: str) -> None:
        table = ["--id=@t", "create", "flow_table", "flow_limit=1", f"overflow_policy={policy}"]
        checked(
            lab.router(target),
            "ovs-vsctl",
            "--timeout=20",
            "--",
            *table,
            "--",
            "set",
            "bridge",
            BRIDGE,
            "flow_tables:1=@t",
        )

    return act


def no_limit(lab: Lab, target: str) -> None:
    """Let it hold as many as there are."""
    checked(lab.router(target), "ovs-vsctl", "--timeout=20", "clear", "bridge", BRIDGE, "flow_tables")


def renumber(lab: Lab, target: str) -> None:
    """Give the endpoints' ports other OpenFlow numbers."""
    for offset, endpoint in enumerate(endpoints(lab, target)):
        said = checked(lab.router(target), "ovs-vsctl", "--timeout=20", "get", "interface", endpoint.port, "ofport")
        number = 200 + (int(said) + 10 + offset) % 100
        command = ["ovs-vsctl", "--timeout=20", "set", "interface", endpoint.port, f"ofport_request={number}"]
        checked(lab.router(target), *command)


def packet_ins(lab: Lab, target: str) -> None:
    """Have a foreign flow send a flood of packets to the controllers."""
    _ofctl(lab, target, "add-flow", BRIDGE, f"{FLOODED},actions=CONTROLLER:128")
    lab.flood("core", at.core_side(int(target[1:]))[:-1] + "2")


def no_packet_ins(lab: Lab, target: str) -> None:
    """Delete that flow."""
    _ofctl(lab, target, "del-flows", BRIDGE, "cookie=0x99/-1,udp6,tp_dst=9")


def usurp(lab: Lab, target: str) -> None:
    """Have a stranger become the switch's MASTER, and stay it."""
    socket = f"/run/openvswitch/{BRIDGE}.mgmt"
    command = [sys.executable, "-m", "tools.chaos.usurper", socket]
    lab.bed.start(f"usurper-{target}", command, target).wait_for("event=master", START_TIMEOUT)


def give_way(lab: Lab, target: str) -> None:
    """Have the stranger go."""
    lab.bed.stop(f"usurper-{target}")


def refuse(lab: Lab, target: str) -> None:
    """Have the switch refuse all changes of flows: relays answer in its place."""
    pairs = [f"{RELAYS + n}={management_controller(n)}:{at.OPENFLOW_PORT}" for n in range(1, len(CONTROLLERS) + 1)]
    command = [sys.executable, "-m", "tools.chaos.refusal", *pairs]
    lab.bed.start(f"refusal-{target}", command, target).wait_for("event=ready", START_TIMEOUT)
    lab.connect(target, [f"tcp:127.0.0.1:{RELAYS + number}" for number in range(1, len(CONTROLLERS) + 1)])


def accept(lab: Lab, target: str) -> None:
    """Connect the switch to its controllers again."""
    lab.connect(target)
    lab.bed.stop(f"refusal-{target}")
