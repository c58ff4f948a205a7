# SPDX-License-Identifier: Apache-2.0
"""What the controller sends to a real Open vSwitch, seen on the way.

Bundles; a switch that is silent, deaf or slow; the flow backend's flows.
"""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import (
    CN,
    FIRST,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_PREFIX,
    INTO_TUNNEL,
    MAC,
    SECOND,
    TIN,
    Bench,
    binding,
    sent_again,
)
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.proxy import Proxy
from tests.support.waiting import wait_for
from tools.benchmarks.processes import resident_bytes

FLOW: dict[str, object] = {
    "transmit_port": "tx",
    "receive_port": "rx",
    "decapsulation_address": "2001:db8:2::f1",
    "decapsulation_mac": MAC,
    "router_mac": "02:00:00:00:00:0c",
    "mtu": 1400,
}
TABLE_OF_FLOW_MOD = 24  # where it stands in the message
IPV4_HOME_ADDRESS, BOTH_PREFIXES = "10.99.0.100", [HOME_PREFIX, "10.99.0.0/24"]


@pytest.fixture
def controller_settings() -> str:
    """Return settings by which the switch is read back every second, and has to answer within two."""
    return "answer_within = 2\nread_back_every = 1"


@pytest.fixture
def proxy(ovs: Ovs) -> Iterator[Proxy]:
    """See what the controller and the switch of `flow_bench` exchange."""
    with Proxy(ovs, 6654, OPENFLOW_PORT) as running:
        yield running


@pytest.fixture
def flow_bench(ovs: Ovs, controller: Controller, proxy: Proxy) -> Bench:
    """Provide a switch of the flow backend, and two mobile nodes whose traffic goes direct, one of them by IPv4."""
    return carrying_by_flow(ovs, controller)


def carrying_by_flow(ovs: Ovs, controller: Controller) -> Bench:
    """Return what `flow_bench` is, behind a proxy that is there."""
    ovs.add_bridge("br0", 1, 6654)
    ovs.add_port("br0", "cn", CN)
    for name, number, udp_port in (("tx", 5, 6941), ("rx", 6, 6943)):
        options = ["remote_ip=flow", "local_ip=flow", "key=0", f"dst_port={udp_port}"]
        ovs.vsctl(
            *["add-port", "br0", name, "--", "set", "interface", name, "type=geneve", f"ofport_request={number}"],
            *(f"options:{option}" for option in options),
        )
    bench = Bench(ovs, controller)
    bench.announce(home_prefixes=BOTH_PREFIXES)
    bench.snapshot(binding(), binding(home_address=IPV4_HOME_ADDRESS))
    wait_for("both bindings are active", lambda: flow_states(bench) == ["active", "active"])
    return bench


def flow_states(bench: Bench, **changes: object) -> list[str]:
    """Return the states of both bindings, keeping lease and agent alive meanwhile."""
    bench.announce(home_prefixes=BOTH_PREFIXES)
    bench.controller.put("/v1/routers/1/tunnels/ack", {"revision": 0, "flow": FLOW | changes})
    return [bench.state(), bench.state(IPV4_HOME_ADDRESS)]


def test_a_switch_without_bundles_is_served_as_well(ovs: Ovs, controller: Controller) -> None:
    with Proxy(ovs, 6654, OPENFLOW_PORT) as proxy:
        proxy.bundles = False
        ovs.add_bridge("br0", 1, 6654)
        ovs.add_port("br0", "cn", CN)
        ovs.add_port("br0", "tin", TIN)
        bench = Bench(ovs, controller)
        bench.announce()
        bench.snapshot()
        bench.post()
        wait_for("the binding is active", bench.is_active)
        assert proxy.refused > 0
        assert INTO_TUNNEL in bench.trace()


def test_a_switch_without_bundles_gets_no_uplink_flow_before_it_has_taken_what_verifies(
    ovs: Ovs, controller: Controller, proxy: Proxy
) -> None:
    proxy.bundles = False
    bench = carrying_by_flow(ovs, controller)
    limit = ovs.ofctl("dump-flows", "br0", "table=3").count("table=3")
    create = ["--", "--id=@full", "create", "Flow_Table", f"flow_limit={limit}", "overflow_policy=refuse"]
    ovs.vsctl(*create, "--", "set", "bridge", "br0", "flow_tables:3=@full")
    other, care_of_address = "2001:db8:99::200", "2001:db8:5::2"

    def tables() -> list[int]:
        packed = ipaddress.IPv6Address(care_of_address).packed
        return [message[TABLE_OF_FLOW_MOD] for message in proxy.plain if packed in message]

    def failed() -> bool:
        flow_states(bench)
        (on_router,) = controller.get(f"/v1/bindings/{other}")["routers"].values()
        return bool(on_router["state"] == "failed")

    assert controller.call("POST", "/v1/bindings", binding(care_of_address, home_address=other)).status == 201
    wait_for("what verifies is refused", failed)
    assert set(tables()) == {3}, "nothing else of the binding is sent"
    ovs.vsctl("clear", "bridge", "br0", "flow_tables")
    wait_for("it is active", lambda: flow_states(bench) and bench.state(other) == "active")
    assert sorted(tables()[-3:]) == [1, 2, 3]
    assert tables()[-3] == 3, "what verifies comes first"


@pytest.mark.expected_ovs_log(r"no response to inactivity probe", r"connection .*(closed|dropped|timed out)")
def test_a_silent_switch_delays_nobody_else_and_comes_back(ovs: Ovs, controller: Controller) -> None:
    with Proxy(ovs, 6654, OPENFLOW_PORT) as proxy:
        for number, (bridge, port) in enumerate({"br0": OPENFLOW_PORT, "br1": 6654}.items(), start=1):
            ovs.add_bridge(bridge, number, port)
            ovs.add_port(bridge, "tin" if bridge == "br0" else "tin1", TIN)
        bench = Bench(ovs, controller)
        bench.announce()
        bench.snapshot()
        other = {"endpoints": [{"home_agent": HOME_AGENT, "port": "tin1", "mac": MAC}]}

        def both_active() -> bool:
            bench.agent(2, **other)
            return bench.is_active() and len(bench.controller.get(f"/v1/bindings/{HOME_ADDRESS}")["routers"]) == 2

        bench.post()
        wait_for("the binding is active on both", both_active)
        proxy.silent.set()
        bench.post(SECOND, 2)
        bench.agent(2, **other)
        routers = wait_for(
            "the other switch has it",
            lambda: (
                (found := bench.controller.get(f"/v1/bindings/{HOME_ADDRESS}")["routers"])[f"{1:016x}"]["state"]
                == "active"
                and found
            ),
        )
        assert routers[f"{2:016x}"]["state"] == "pending"
        wait_for("the silent one is dropped and comes back", both_active)
        assert "event=switch-silent router=0000000000000002" in controller.log


def test_a_switch_that_reads_nothing_delays_nobody_else_and_gets_only_the_newest(ovs: Ovs, tmp_path: Path) -> None:
    home_addresses = [f"2001:db8:99::1:{number:x}" for number in range(1, 1001)]
    settings = "answer_within = 300\nagent_lease = 300\nlongest_lease = 300\nchanges_a_second = 1000"
    with Controller(ovs, tmp_path, settings) as controller, Proxy(ovs, 6654, OPENFLOW_PORT) as proxy:
        bench = Bench(ovs, controller)
        bench.announce(lease=300)
        for dpid, port in enumerate((OPENFLOW_PORT, 6654), start=1):
            names = {"transmit_port": f"tx{dpid}", "receive_port": f"rx{dpid}"}
            ovs.add_bridge(f"br{dpid}", dpid, port, inactivity_probe=0)  # a deaf one hears no answer
            for number, name in enumerate(names.values(), start=5):
                ovs.add_port(f"br{dpid}", name, number)
            controller.put(f"/v1/routers/{dpid}/tunnels/ack", {"revision": 0, "flow": FLOW | names})

        def move(sequence: int) -> None:
            moved = [
                binding(
                    home_address=home_address, sequence=sequence, care_of_address=f"2001:db8:2::{sequence:x}:{number:x}"
                )
                for number, home_address in enumerate(home_addresses)
            ]
            assert controller.call("POST", "/v1/bindings", {"bindings": moved}).status == 200

        def states() -> list[str]:
            routers = controller.get(f"/v1/bindings/{home_addresses[-1]}")["routers"].values()
            return [router["state"] for router in routers]

        bench.snapshot()
        for sequence in range(1, 31):
            move(sequence)
        wait_for("both switches have them", lambda: states() == ["active", "active"])
        sent = len(proxy.committed)
        proxy.hearing.clear()
        resident = []
        for begin in (31, 61):
            for sequence in range(begin, begin + 30):
                move(sequence)
            wait_for("the other switch has the last of 30,000 moves", lambda: states()[0] == "active")
            assert states()[1] == "pending"
            resident.append(resident_bytes(controller.pid))
        assert resident[1] - resident[0] < 10e6, "moves that only wait for the newest cost no memory"
        proxy.hearing.set()
        wait_for("it has the last ones, too", lambda: states() == ["active", "active"])
        # What was under way when it stopped reading, and the newest, never the 60 moves in between: a handover is five
        # flow messages (see test_a_handover_is_one_bundle).
        assert sum(map(len, proxy.committed[sent:])) <= 2 * 5 * len(home_addresses)


def test_the_flow_backend_sets_tunnels_and_is_read_back_as_sent(flow_bench: Bench) -> None:
    bench = flow_bench
    sent = bench.flows()
    for expected in (
        "table=0, priority=410,pkt_mark=0x68653c36,ipv6,in_port=6,ipv6_src=fe80::/10 actions=set_field:0->pkt_mark,"
        f"set_field:{HOME_AGENT}->tun_ipv6_dst,output:5",
        "table=0, priority=400,in_port=6 actions=set_field:0->pkt_mark,goto_table:3",
        f"table=0, priority=210,ipv6,ipv6_dst={HOME_AGENT},nw_proto=41,nw_frag=no "
        "actions=set_field:0x68653c36->pkt_mark,goto_table:2",
        "table=2, priority=1 actions=set_field:0->pkt_mark,NORMAL",
        "table=0, priority=200,ip,nw_dst=10.99.0.0/24 actions=check_pkt_larger(1414)->NXM_NX_REG0[0],goto_table:1",
        "table=1, priority=110,ip,reg0=0x1/0x1 actions=NORMAL",
        "table=1, priority=110,ip,nw_frag=first actions=NORMAL",
        "table=1, priority=110,ip,nw_frag=later actions=NORMAL",
        f"table=1, priority=100,ipv6,ipv6_dst={HOME_ADDRESS} actions=set_field:0->vlan_tci,dec_ttl,"
        f"set_field:{HOME_AGENT}->tun_ipv6_src,set_field:{FIRST}->tun_ipv6_dst,output:5",
        f"table=1, priority=100,ip,nw_dst={IPV4_HOME_ADDRESS} actions=set_field:0->vlan_tci,dec_ttl,set_field:",
        f"table=2, priority=100,ipv6,ipv6_src={FIRST},ipv6_dst={HOME_AGENT},nw_proto=41 "
        f"actions=set_field:0->vlan_tci,set_field:2001:db8:2::f1->ipv6_dst,set_field:{MAC}->eth_dst,LOCAL",
        f"table=2, priority=100,ipv6,ipv6_src={FIRST},ipv6_dst={HOME_AGENT},nw_proto=4 ",
        f"table=3, priority=100,ipv6,tun_ipv6_src={FIRST},ipv6_src={HOME_ADDRESS} "
        "actions=set_field:02:00:00:00:00:0c->eth_dst,LOCAL",
        f"table=3, priority=100,ip,tun_ipv6_src={FIRST},nw_src=10.99.0.100 ",
        "table=3, priority=0 actions=drop",
    ):
        assert any(expected in flow for flow in sent), (expected, sent)
    read_back = [shown["flow"] for shown in bench.controller.get("/v1/routers/1/flows?limit=100")["flows"]]
    for guard in ("reg0=1", "ip_frag=1", "ip_frag=3"):
        assert f"table=downlink,priority=110,ip,{guard} actions=NORMAL" in read_back
    checked = "ipv4_dst=10.99.0.0/24 actions=check_pkt_larger(1414)->reg0[0],goto_table:downlink"
    assert f"table=classify,priority=200,ip,{checked}" in read_back
    bench.ovs.ofctl("del-flows", "br0", "table=3")
    wait_for("the flows read back and repaired", lambda: flow_states(bench) and set(bench.flows()) == set(sent))
    assert {flow for flow in sent_again(sent, bench.flows()) if "goto_table" not in flow} <= {
        flow for flow in sent if "table=3" in flow
    }, "what is read back is not what was sent"


def test_a_handover_is_one_bundle(flow_bench: Bench, proxy: Proxy) -> None:
    before = len(proxy.committed)
    flow_bench.controller.call("POST", "/v1/bindings", binding(SECOND, 2))
    wait_for("the binding is active", lambda: flow_states(flow_bench)[0] == "active")
    ends = [ipaddress.IPv6Address(address).packed for address in (FIRST, SECOND)]
    # Others renew the gates meanwhile.
    (handover,) = [b for b in proxy.committed[before:] if any(end in message for message in b for end in ends)]
    # The flow that encapsulates is changed in place; that of the tunnel's packets, and their check, go and come.
    assert [sum(end in message for message in handover) for end in ends] == [2, 3]
    assert len(handover) == 5


def test_a_handover_does_not_wait_for_the_answer_to_another(flow_bench: Bench, proxy: Proxy) -> None:
    before, third = len(proxy.committed), "2001:db8:4::2"
    proxy.silent.set()
    flow_bench.controller.call("POST", "/v1/bindings", binding(SECOND, 2))
    first = ipaddress.IPv6Address(SECOND).packed
    wait_for("the switch has one", lambda: any(first in message for b in proxy.committed[before:] for message in b))
    flow_bench.controller.call("POST", "/v1/bindings", binding(third, 2, home_address=IPV4_HOME_ADDRESS))
    other = ipaddress.IPv6Address(third).packed
    wait_for("it has the other", lambda: any(other in message for b in proxy.committed[before:] for message in b))
    assert "event=switch-silent" not in flow_bench.controller.log, "both before the first answer was overdue"


def test_flows_that_are_long_in_telling_end_no_later_for_that(flow_bench: Bench, proxy: Proxy) -> None:
    held = [binding(), binding(home_address=IPV4_HOME_ADDRESS)]
    many = [binding(home_address=f"2001:db8:99::1:{number:x}", lifetime=60) for number in range(1, 501)]
    flow_bench.snapshot(*held, *many)
    last = str(many[-1]["home_address"])
    wait_for("all are active", lambda: flow_states(flow_bench) and flow_bench.state(last) == "active")
    wait_for("nothing is amiss", lambda: flow_bench.controller.get("/v1/routers/1/diff")["in_sync"])
    proxy.late = 1.2
    assert flow_bench.controller.get("/v1/routers/1/diff")["different"] == []


def test_a_switch_that_answers_late_is_read_back_as_often_as_any(ovs: Ovs, tmp_path: Path) -> None:
    # A late answer is none that is missing, however busy the machine is.
    settings = "answer_within = 60\nread_back_every = 1"
    with Controller(ovs, tmp_path, settings) as controller, Proxy(ovs, 6654, OPENFLOW_PORT) as proxy:
        bench = carrying_by_flow(ovs, controller)
        bench.snapshot(binding(lifetime=3600), binding(home_address=IPV4_HOME_ADDRESS, lifetime=3600))
        proxy.late = 1.2

        def carried() -> bool:
            flow_states(bench)  # leases go on
            return not any("table=1," in flow and "actions=drop" in flow for flow in bench.flows())

        for _ in range(2):  # the second time, after a reading that was answered late
            ovs.ofctl("mod-flows", "br0", "table=1,actions=drop")  # of which a switch tells nobody
            wait_for("the flows are as before", carried)


def test_ipv4_stays_with_the_home_agent_where_the_router_cannot_carry_it(flow_bench: Bench) -> None:
    bench, problem = flow_bench, "the kernel does not forward IPv4"
    stays = ["active", "pending"]
    wait_for("IPv4 stays with the home agent", lambda: flow_states(bench, ipv4_problem=problem) == stays)
    (on_router,) = bench.controller.get(f"/v1/bindings/{IPV4_HOME_ADDRESS}")["routers"].values()
    assert on_router["state"] == "failed"
    assert problem in on_router["reason"]
    wait_for("its flows are gone", lambda: not any(f"nw_dst={IPV4_HOME_ADDRESS}" in flow for flow in bench.flows()))
    wait_for("it is offloaded again", lambda: flow_states(bench) == ["active", "active"])


def test_a_broken_flow_backend_carries_nothing_until_its_agent_has_mended_it(flow_bench: Bench) -> None:
    bench, problem = flow_bench, "link hoaflow6 is missing"
    wait_for("both are active", lambda: flow_states(bench) == ["active", "active"])
    wait_for("neither is", lambda: flow_states(bench, problem=problem) == ["pending", "pending"])
    assert problem in str(bench.controller.get(f"/v1/bindings/{HOME_ADDRESS}/explain"))
    wait_for("the gates are closed", lambda: not any("goto_table:" in flow for flow in bench.flows()))
    wait_for("both are active again", lambda: flow_states(bench) == ["active", "active"])


def test_an_agent_of_the_flow_backend_is_told_of_no_tunnels(flow_bench: Bench) -> None:
    controller, path = flow_bench.controller, "/v1/routers/1/tunnels"
    first = controller.get(path)
    assert (first["full"], first["tunnels"]) == (True, [])
    assert controller.call("POST", "/v1/bindings", binding(SECOND, 2)).status == 200
    flow_bench.snapshot(binding(SECOND, 2))
    later = controller.get(f"{path}?after={first['revision']}")
    assert later == {**first, "full": False}
    flow_bench.agent()
    (tunnel,) = controller.get(path)["tunnels"]
    assert tunnel["care_of_address"] == SECOND, "the route backend is told, once it is announced"
