# SPDX-License-Identifier: Apache-2.0
"""IPv4 outside, with a real Open vSwitch: what the switch does with packets of both families, by both backends."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.bench import CN, INTO_TUNNEL, LEASE, MAC, TIN
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

HOME_AGENT, CARE_OF_ADDRESS = "10.99.0.1", "10.2.0.2"
OVER_IPV4 = {"care_of_address": CARE_OF_ADDRESS, "lifetime": 60}
BINDINGS = [
    {**OVER_IPV4, "protocol": "mipv4", "home_address": "10.99.0.100", "identification": 1, "reverse_tunnel": True},
    {**OVER_IPV4, "protocol": "mipv4", "home_address": "10.99.0.101", "identification": 2},
    {**OVER_IPV4, "protocol": "mipv6", "home_address": "2001:db8:99::100", "sequence": 3},
]
ROUTE = {"endpoints": [{"home_agent": HOME_AGENT, "port": "tin", "mac": MAC}]}
FLOW = {
    "flow_ipv4": {
        "transmit_port": "tx",
        "receive_port": "rx",
        "decapsulation_address": "10.250.0.41",
        "decapsulation_mac": MAC,
        "router_mac": "02:00:00:00:00:0c",
        "mtu": 1480,
    }
}
IPV4 = f"in_port={CN},ip,nw_ttl=64"
FROM_TUNNEL = "set_field:02:00:00:00:00:0c->eth_dst"


def carrying(
    ovs: Ovs, controller: Controller, backend: dict[str, Any], wanted: Sequence[str] = ("active", "active", "active")
) -> None:
    """Return once packets for all bindings go direct, or their states are as `wanted`."""
    ovs.add_bridge("br0", 1, OPENFLOW_PORT)
    ovs.add_port("br0", "cn", CN)
    ovs.add_port("br0", "tin", TIN)
    for name, number, udp_port in (("tx", 5, 6945), ("rx", 6, 6947)):
        options = ["remote_ip=flow", "local_ip=flow", "key=0", f"dst_port={udp_port}"]
        ovs.vsctl(
            *["add-port", "br0", name, "--", "set", "interface", name, "type=geneve", f"ofport_request={number}"],
            *(f"options:{option}" for option in options),
        )

    def states() -> list[str]:
        announced = {"home_prefixes": ["10.99.0.0/24", "2001:db8:99::/64"], "protocols": ["mipv4", "mipv6"]}
        controller.put(f"/v1/home-agents/{HOME_AGENT}", {**announced, "lease": LEASE})
        if not controller.get("/v1/bindings")["bindings"]:
            controller.put(f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": BINDINGS})
        revision = controller.get("/v1/routers/1/tunnels")["revision"]
        controller.put("/v1/routers/1/tunnels/ack", {"revision": revision, **backend})
        found = {each["home_address"]: each["state"] for each in controller.get("/v1/bindings")["bindings"]}
        return [found[str(binding["home_address"])] for binding in BINDINGS]

    wait_for(f"the bindings are {', '.join(wanted)}", lambda: states() == list(wanted))


@pytest.mark.parametrize("backend", [ROUTE, FLOW], ids=["route", "flow"])
def test_packets_of_both_families_go_by_ipv4_and_come_back(
    ovs: Ovs, controller: Controller, backend: dict[str, Any]
) -> None:
    carrying(ovs, controller, backend)
    sent = INTO_TUNNEL if backend is ROUTE else "set_field:10.2.0.2->tun_dst\n    output:5"
    to_kernel = f"set_field:10.250.0.41->ip_dst\n    set_field:{MAC}->eth_dst\n    LOCAL"
    taken = INTO_TUNNEL if backend is ROUTE else to_kernel
    for towards in (
        f"{IPV4},nw_src=10.1.0.2,nw_dst=10.99.0.100,nw_proto=17",
        f"{IPV4},nw_src=10.1.0.2,nw_dst=10.99.0.101,nw_proto=17",
        f"in_port={CN},ipv6,nw_ttl=64,ipv6_src=2001:db8:1::2,ipv6_dst=2001:db8:99::100,nw_proto=17",
    ):
        assert sent in ovs.trace("br0", towards)
    for protocol in (4, 41):
        assert taken in ovs.trace("br0", f"{IPV4},nw_src=10.2.0.2,nw_dst=10.99.0.1,nw_proto={protocol}")
    for stays in (
        f"{IPV4},nw_src=10.1.0.2,nw_dst=10.99.0.102,nw_proto=17",  # no binding
        f"in_port={CN},ip,nw_ttl=1,nw_src=10.1.0.2,nw_dst=10.99.0.100,nw_proto=17",
        f"in_port={CN},udp,nw_ttl=64,nw_src=10.2.0.2,nw_dst=10.99.0.1,udp_dst=434",  # signalling
        f"{IPV4},nw_src=10.2.0.3,nw_dst=10.99.0.1,nw_proto=4",
        f"{IPV4},nw_src=10.2.0.2,nw_dst=10.99.0.1,nw_proto=4,nw_frag=first",
        f"{IPV4},nw_src=10.1.0.2,nw_dst=224.0.0.9,nw_proto=17",
    ):
        assert "NORMAL" in ovs.trace("br0", stays), stays
    assert controller.get("/v1/routers/1/diff")["in_sync"], "every flow is known when it is read back"


def test_what_comes_out_of_the_tunnel_passes_only_if_its_pair_is_registered(ovs: Ovs, controller: Controller) -> None:
    carrying(ovs, controller, FLOW)
    out = "in_port=6,ip,nw_ttl=64,nw_dst=10.1.0.2,nw_proto=17,tun_dst=10.250.0.41"
    assert FROM_TUNNEL in ovs.trace("br0", f"{out},tun_src=10.2.0.2,nw_src=10.99.0.100")
    for spoofed in ("tun_src=10.2.0.3,nw_src=10.99.0.100", "tun_src=10.2.0.2,nw_src=10.99.0.7"):
        assert "Datapath actions: drop" in ovs.trace("br0", f"{out},{spoofed}")
    without_reverse_tunnel = "tun_src=10.2.0.2,nw_src=10.99.0.101"
    assert "Datapath actions: drop" in ovs.trace("br0", f"{out},{without_reverse_tunnel}")


def test_ipv6_stays_with_the_home_agent_where_the_tunnel_device_carries_none(ovs: Ovs, controller: Controller) -> None:
    problem = "the kernel's ipip device carries no IPv6 in IPv4"
    device = {"flow_ipv4": {**FLOW["flow_ipv4"], "ipv6_problem": problem}}
    carrying(ovs, controller, device, wanted=("active", "active", "pending"))
    assert problem in str(controller.get("/v1/bindings/2001:db8:99::100/explain"))
    assert "ipv6_dst=2001:db8:99::100 " not in ovs.ofctl("dump-flows", "br0")
