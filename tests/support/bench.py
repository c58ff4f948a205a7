# SPDX-License-Identifier: Apache-2.0
"""A real Open vSwitch under a real controller; bridge and tunnel agent are played by the test.

The agent acknowledges at once whatever the controller lists.
"""

import re
from typing import Any

from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

HOME_AGENT = "2001:db8:99::1"
HOME_PREFIX = "2001:db8:99::/64"
HOME_ADDRESS = "2001:db8:99::100"
FIRST, SECOND = "2001:db8:2::2", "2001:db8:3::2"
MAC = "02:00:00:00:00:0a"
ENDPOINTS = [{"home_agent": HOME_AGENT, "port": "tin", "mac": MAC}]
CN, TIN = 1, 3
INTO_TUNNEL = f"set_field:{MAC}->eth_dst\n    output:{TIN}"
FOREIGN = (
    "cookie=0x5,table=1,priority=7,tcp6,tp_dst=9 actions=drop",
    # Ryu can't parse this: stateful, with nested and learning actions.
    "cookie=0x5,table=1,priority=8,tcp6,tp_dst=9,ct_state=-trk actions=ct(commit,zone=7,nat(src=2001:db8::1)),"
    "clone(set_field:1->reg0,output:1),learn(table=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])",
)
LEASE = 4


def packet(**fields: object) -> str:
    """Return a packet from the CN to the home address, as `ofproto/trace` takes it, with some fields otherwise."""
    base: dict[str, object] = {
        "in_port": CN,
        "eth_type": "0x86dd",
        "ipv6_src": "2001:db8:1::2",
        "ipv6_dst": HOME_ADDRESS,
        "nw_proto": 17,
        "nw_ttl": 64,
    }
    return ",".join(f"{name}={value}" for name, value in {**base, **fields}.items())


REVERSE: dict[str, object] = {"ipv6_src": FIRST, "ipv6_dst": HOME_AGENT, "nw_proto": 41}


class Bench:
    """A switch, its controller, and the bridge and the agent played by the test."""

    def __init__(self, ovs: Ovs, controller: Controller) -> None:
        self.ovs = ovs
        self.controller = controller

    def announce(self, **changes: object) -> Any:
        """Renew the lease, as the bridge does."""
        body = {"home_prefixes": [HOME_PREFIX], "lease": LEASE, **changes}
        return self.controller.put(f"/v1/home-agents/{HOME_AGENT}", body)

    def snapshot(self, *bindings: dict[str, object]) -> Any:
        """Send the whole cache, as the bridge does."""
        return self.controller.put(f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": list(bindings)})

    def agent(self, dpid: int = 1, **changes: object) -> None:
        """Acknowledge everything, as the agent does."""
        path = f"/v1/routers/{dpid:016x}/tunnels"
        body: dict[str, object] = {"revision": 0, "endpoints": ENDPOINTS, **changes}
        self.controller.put(f"{path}/ack", body)
        revision = self.controller.get(path)["revision"]
        self.controller.put(f"{path}/ack", {**body, "revision": revision})

    def post(self, care_of_address: str = FIRST, sequence: int = 1, **changes: object) -> Any:
        """Send a binding as the bridge does, and acknowledge its tunnel as the agent does."""
        answer = self.controller.call("POST", "/v1/bindings", binding(care_of_address, sequence, **changes))
        assert answer.status in (200, 201), answer
        self.agent()
        return answer.body

    def state(self, home_address: str = HOME_ADDRESS) -> str:
        """Return a binding's state."""
        return str(self.controller.get(f"/v1/bindings/{home_address}")["state"])

    def is_active(self) -> bool:
        """Tell whether the binding is active, keeping lease and agent alive meanwhile."""
        self.announce()
        self.agent()
        return self.state() == "active"

    def trace(self, **fields: object) -> str:
        """Return what the switch does with a packet."""
        return self.ovs.trace("br0", packet(**fields))

    def flows(self) -> dict[str, float]:
        """Return the switch's flows, without counters and timeouts, and how long after the oldest each was sent."""
        ages = {}
        for line in self.ovs.ofctl("dump-flows", "br0").splitlines()[1:]:
            age = re.search(r"duration=([0-9.]+)s", line)
            assert age, line
            text = re.sub(
                r"(duration|n_packets|n_bytes|hard_timeout|hard_age|idle_age)=[^,]*, |send_flow_rem ", "", line
            ).strip()
            ages[text] = float(age.group(1))
        return {text: max(ages.values()) - age for text, age in ages.items()}

    def open_gates(self) -> list[str]:
        """Return the open gates, keeping lease and agent alive meanwhile."""
        self.announce()
        self.agent()
        return self.gates()

    def gates(self) -> list[str]:
        """Return the open gates."""
        return [flow for flow in self.flows() if "goto_table" in flow]


def binding(care_of_address: str = FIRST, sequence: int = 1, **changes: object) -> dict[str, object]:
    """Return a binding as a bridge reports it."""
    body: dict[str, object] = {
        "home_address": HOME_ADDRESS,
        "care_of_address": care_of_address,
        "home_agent": HOME_AGENT,
        "lifetime": 60,
        "sequence": sequence,
    }
    return {**body, **changes}


def registered(ovs: Ovs, controller: Controller, openflow_port: int = OPENFLOW_PORT) -> Bench:
    """Return a registered mobile node whose traffic goes direct, and a flow of another application."""
    ovs.add_bridge("br0", 1, openflow_port)
    ovs.add_port("br0", "cn", CN)
    ovs.add_port("br0", "tin", TIN)
    for flow in FOREIGN:
        ovs.ofctl("add-flow", "br0", flow)
    bench = Bench(ovs, controller)
    bench.announce()
    bench.snapshot()
    bench.post()
    wait_for("the binding is active", bench.is_active)
    return bench


def sent_again(before: dict[str, float], after: dict[str, float]) -> set[str]:
    """Return the flows that were sent between two looks."""
    return {flow for flow, sent in after.items() if sent > before[flow] + 0.2}
