# SPDX-License-Identifier: Apache-2.0
"""The controller with a real Open vSwitch: what the switch does with packets, and what becomes of failures."""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.processes import resident_bytes
from tests.support.bench import (
    CN,
    FIRST,
    FOREIGN,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_PREFIX,
    INTO_TUNNEL,
    LEASE,
    MAC,
    REVERSE,
    SECOND,
    TIN,
    Bench,
    binding,
    registered,
)
from tests.support.controller import OPENFLOW_PORT, Controller, wait_for
from tests.support.ovs import Ovs
from tests.support.proxy import Proxy


def sent_again(before: dict[str, float], after: dict[str, float]) -> set[str]:
    """The flows that were sent between two looks."""
    return {flow for flow, sent in after.items() if sent > before[flow] + 0.2}


@pytest.fixture
def controller(ovs: Ovs, tmp_path: Path) -> Iterator[Controller]:
    """A running controller; its log must be free of errors in the end."""
    with Controller(ovs, tmp_path, "answer_within = 2\nread_back_every = 1") as running:
        yield running
    running.assert_log_clean()


@pytest.fixture
def bench(ovs: Ovs, controller: Controller) -> Bench:
    """A registered mobile node whose traffic goes direct, and a flow of another application."""
    return registered(ovs, controller)


def test_the_switch_takes_off_what_may_bypass_the_home_agent(bench: Bench) -> None:
    assert INTO_TUNNEL in bench.trace()
    assert INTO_TUNNEL in bench.trace(**REVERSE)
    staying: list[dict[str, object]] = [
        {"ipv6_dst": "2001:db8:99::101"},  # no binding
        {"ipv6_dst": "2001:db8:98::100"},  # not our home prefix
        {"ipv6_dst": HOME_AGENT},
        {"nw_proto": 135},  # Mobility Header
        {"nw_ttl": 0},
        {"nw_ttl": 1},
        {"nw_ttl": 2},
        *(dict[str, object](nw_proto=58, icmpv6_type=kind) for kind in range(133, 138)),
        {"ipv6_dst": "ff02::1"},
        {"ipv6_dst": "fe80::1"},
        {**REVERSE, "ipv6_src": SECOND},
        {**REVERSE, "ipv6_dst": "2001:db8:1::2"},
        {**REVERSE, "nw_proto": 17},
        {**REVERSE, "nw_frag": "first"},
        {**REVERSE, "nw_frag": "later", "nw_proto": 44},
    ]
    for stays in staying:
        trace = bench.trace(**stays)
        assert "NORMAL" in trace, (stays, trace)
        assert "output:3" not in trace, (stays, trace)
    assert INTO_TUNNEL in bench.trace(nw_proto=58, icmpv6_type=128)  # an echo request is data


def test_a_handover_moves_the_uplink_and_keeps_the_downlink_flow_and_its_counters(bench: Bench) -> None:
    downlink = [flow for flow in bench.flows() if f"ipv6_dst={HOME_ADDRESS} " in flow]
    assert len(downlink) == 1
    for sent in (UDP_TO_HOME_ADDRESS, tunnel_packet(FIRST)):
        bench.ovs.ofctl("packet-out", "br0", f"in_port={CN},packet={sent},actions=table")

    def counted() -> int:
        bench.announce()
        binding = bench.controller.get(f"/v1/bindings/{HOME_ADDRESS}")
        return int(binding["routers"]["0000000000000001"]["packets"])

    wait_for("one packet is counted each way", lambda: counted() == 2)
    bench.post(SECOND, 2)
    wait_for("the binding is active", bench.is_active)
    assert INTO_TUNNEL in bench.trace(**{**REVERSE, "ipv6_src": SECOND})
    assert "NORMAL" in bench.trace(**REVERSE)
    assert [flow for flow in bench.flows() if f"ipv6_dst={HOME_ADDRESS} " in flow] == downlink
    wait_for("what was counted before still counts", lambda: counted() == 2)
    bench.ovs.ofctl("packet-out", "br0", f"in_port={CN},packet={tunnel_packet(SECOND)},actions=table")
    wait_for("and what comes adds up", lambda: counted() == 3)


def test_the_same_again_sends_no_flow(bench: Bench) -> None:
    before = bench.flows()
    bench.post(sequence=1)
    assert bench.snapshot(binding()) == {"added": 0, "changed": 0, "removed": 0, "unchanged": 1, "refused": []}
    bench.announce()
    wait_for("a later change is through", lambda: bench.announce(status="ha-down")["status"] == "ha-down")
    after = bench.flows()
    assert set(after) == set(before)
    assert all("goto_table" in flow for flow in sent_again(before, after))


def test_a_deregistration_ends_the_detour_around_the_home_agent(bench: Bench) -> None:
    bench.post(sequence=2, lifetime=0)
    wait_for("no flow of the binding is left", lambda: not any(MAC in flow for flow in bench.flows()))
    assert "NORMAL" in bench.trace()
    assert bench.controller.call("GET", f"/v1/bindings/{HOME_ADDRESS}").status == 404


def test_a_lifetime_ends_in_the_switch_itself(bench: Bench) -> None:
    bench.post(sequence=2, lifetime=2)
    bench.controller.kill()
    wait_for("the binding's flows are gone", lambda: not any(MAC in flow for flow in bench.flows()))


def test_every_flow_of_ours_is_known_again_when_it_is_read_back(bench: Bench) -> None:
    listed = bench.controller.get("/v1/routers/1/flows")["flows"]
    assert len(listed) == sum("cookie=0x686f6166" in flow for flow in bench.flows())
    assert sum(flow["kind"] == "gate" for flow in listed) == 2


def test_foreign_flows_are_never_touched(bench: Bench) -> None:
    def foreign() -> list[str]:
        return [flow for flow in bench.flows() if "cookie=0x5," in flow]

    assert len(foreign()) == len(FOREIGN)
    bench.post(sequence=2, lifetime=0)
    bench.controller.kill()
    bench.controller.start()
    wait_for("the switch is back", lambda: bench.controller.get("/v1/routers")["routers"])
    bench.announce()
    bench.snapshot()
    wait_for("gates open again", bench.open_gates)
    assert len(foreign()) == len(FOREIGN)


@pytest.mark.parametrize("killed", ["controller", "bridge", "agent"])
def test_what_dies_gives_the_traffic_back_within_the_lease(bench: Bench, killed: str) -> None:
    def gates_are_gone() -> bool:
        if killed == "agent":
            bench.announce()
        elif killed == "bridge":
            bench.agent()
        return not bench.gates()

    if killed == "controller":
        bench.controller.kill()
    wait_for("the gates are gone", gates_are_gone, timeout=LEASE + 12)  # an agent's lease is 10 s
    assert "NORMAL" in bench.trace()


def test_a_restart_of_the_controller_deletes_and_rewrites_nothing(bench: Bench) -> None:
    bench.announce(lease=40)  # a slow machine restarts a controller slowly
    before = bench.flows()
    bench.controller.kill()
    bench.controller.start()
    wait_for("the switch is back", lambda: bench.controller.get("/v1/routers")["routers"])
    assert INTO_TUNNEL in bench.trace()
    assert bench.announce()["snapshot"] == "wanted"
    bench.snapshot(binding(lifetime=58))
    assert INTO_TUNNEL in bench.trace()
    wait_for("the binding is active", bench.is_active)
    after = bench.flows()
    assert set(after) == set(before)
    assert sent_again(before, after) <= {flow for flow in before if "goto_table" in flow}, "only gates are renewed"


def test_what_somebody_deletes_is_put_back(bench: Bench) -> None:
    bench.ovs.ofctl("del-flows", "br0", "table=1")
    wait_for("the flow is back", lambda: bench.announce() and INTO_TUNNEL in bench.trace())


def test_a_refused_flow_names_its_binding_and_holds_up_no_other(bench: Bench) -> None:
    other = "2001:db8:99::200"
    # Room for a miss flow and one binding in the downlink table, which then is full.
    bench.ovs.vsctl(
        *["--", "--id=@full", "create", "Flow_Table", "flow_limit=3", "overflow_policy=refuse"],
        *["--", "set", "Bridge", "br0", "flow_tables:1=@full"],
    )
    bench.post(home_address=other, care_of_address=SECOND)

    def refused() -> Any:
        bench.announce()
        routers = bench.controller.get(f"/v1/bindings/{other}")["routers"]
        return routers["0000000000000001"] if routers["0000000000000001"]["state"] == "failed" else None

    assert "TABLE_FULL" in wait_for("the binding is refused", refused)["reason"]
    assert bench.state() == "active"
    assert re.search(rf"event=flow-rejected .*serves={other} .*TABLE_FULL", bench.controller.log)
    bench.ovs.vsctl("clear", "Bridge", "br0", "flow_tables")
    wait_for("it is tried again", lambda: bench.is_active() and bench.state(other) == "active")


def test_counters_and_flows_are_shown_with_the_binding_they_serve(bench: Bench) -> None:
    bench.ovs.ofctl("packet-out", "br0", f"in_port={CN},packet={UDP_TO_HOME_ADDRESS},actions=table")

    def counted() -> bool:
        bench.announce()
        held = bench.controller.get(f"/v1/bindings/{HOME_ADDRESS}")["routers"]["0000000000000001"]
        return bool(held["packets"] == 1 and held["bytes"] == len(UDP_TO_HOME_ADDRESS) // 2)

    wait_for("the packet is counted", counted)
    flows = bench.controller.get("/v1/routers/1/flows")["flows"]
    served = {flow["kind"]: flow["home_addresses"] for flow in flows if flow["home_addresses"]}
    assert served == {"downlink": [HOME_ADDRESS], "uplink": [HOME_ADDRESS]}
    assert all(int(flow["cookie"], 16) >> 32 == 0x686F6166 for flow in flows)


def tunnel_packet(care_of_address: str) -> str:
    """A packet in the reverse tunnel, in hexadecimal."""
    ends = "".join(ipaddress.IPv6Address(end).packed.hex() for end in (care_of_address, HOME_AGENT))
    return f"02000000000102000000000286dd6000000000282940{ends}" + "60000000" + "00" * 36


UDP_TO_HOME_ADDRESS = (
    "02000000000102000000000286dd"  # Ethernet
    "6000000000081140"  # IPv6, 8 bytes of UDP, hop limit 64
    "20010db8000100000000000000000002"
    "20010db8009900000000000000000100"
    "0007000700080000"
)


def test_a_second_switch_with_the_same_datapath_id_is_told_and_does_no_harm(bench: Bench) -> None:
    with bench.ovs.inside():
        twin = socket.create_connection(("127.0.0.1", OPENFLOW_PORT), timeout=20)
    with twin:
        for message in ("04000008 00000001", "04060020 00000002 0000000000000001 00000000 fe000000 0000004f 00000000"):
            twin.sendall(bytes.fromhex(message))
        twin.sendall(bytes.fromhex("04130010 00000003 000d0000 00000000"))  # it has no ports
        wait_for("the conflict is told", lambda: "event=switch-replaced" in bench.controller.log)
        assert bench.controller.get("/v1/routers/1")["connected"] is False
    wait_for("the real one is back", bench.is_active)


def test_a_second_controller_does_not_start_beside_the_first(ovs: Ovs, controller: Controller, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Controller(ovs, tmp_path / "second")
    with contextlib.suppress(RuntimeError):  # or it takes the first one's answers for its own
        second.start()
    wait_for("the second has ended", lambda: "can't listen on 127.0.0.1 port 8080" in second.log)
    second.kill()
    assert controller.get("/healthz")


def test_idle_connections_are_closed(ovs: Ovs, tmp_path: Path) -> None:
    with Controller(ovs, tmp_path, "request_timeout = 1") as controller, ovs.inside():
        idle = [socket.create_connection(("127.0.0.1", 8080), timeout=20) for _ in range(100)]
        idle[0].sendall(b"PUT /v1/home-agents/2001:db8:99::1 HTTP/1.1\r\nHost: ::1\r\nContent-Length: 9\r\n\r\n{")
        assert b"408" in idle[0].recv(1000)
        for connection in idle:
            with connection:
                while connection.recv(1000):
                    pass
        assert controller.get("/healthz")


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
            ovs.add_bridge(f"br{dpid}", dpid, port)
            for number, name in enumerate(names.values(), start=5):
                ovs.add_port(f"br{dpid}", name, number)
            ovs.vsctl("set", "controller", f"br{dpid}", "inactivity_probe=0")  # a deaf one hears nothing
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
        # What was under way when it stopped reading, and the newest: two flows each, never the moves in between.
        assert sum(map(len, proxy.committed[sent:])) <= 3 * 2 * len(home_addresses)


FLOW: dict[str, object] = {
    "transmit_port": "tx",
    "receive_port": "rx",
    "decapsulation_address": "2001:db8:2::f1",
    "decapsulation_mac": MAC,
    "router_mac": "02:00:00:00:00:0c",
    "mtu": 1400,
}
IPV4_HOME_ADDRESS, BOTH_PREFIXES = "10.99.0.100", [HOME_PREFIX, "10.99.0.0/24"]


@pytest.fixture
def proxy(ovs: Ovs) -> Iterator[Proxy]:
    """Sees what the controller and the switch of `flow_bench` exchange."""
    with Proxy(ovs, 6654, OPENFLOW_PORT) as running:
        yield running


@pytest.fixture
def flow_bench(ovs: Ovs, controller: Controller, proxy: Proxy) -> Bench:
    """A switch of the flow backend, and two mobile nodes whose traffic goes direct, one of them by IPv4."""
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
    """The states of both bindings, keeping lease and agent alive meanwhile."""
    bench.announce(home_prefixes=BOTH_PREFIXES)
    bench.controller.put("/v1/routers/1/tunnels/ack", {"revision": 0, "flow": FLOW | changes})
    return [bench.state(), bench.state(IPV4_HOME_ADDRESS)]


def test_the_flow_backend_sets_tunnels_and_is_read_back_as_sent(flow_bench: Bench) -> None:
    bench = flow_bench
    sent = bench.flows()
    for expected in (
        "table=0, priority=400,in_port=6 actions=goto_table:3",
        f"table=0, priority=210,ipv6,ipv6_dst={HOME_AGENT},nw_proto=41,nw_frag=no actions=goto_table:2",
        "table=0, priority=200,ip,nw_dst=10.99.0.0/24 actions=check_pkt_larger(1414)->NXM_NX_REG0[0],goto_table:1",
        "table=1, priority=110,ip,reg0=0x1/0x1 actions=NORMAL",
        "table=1, priority=110,ip,nw_frag=first actions=NORMAL",
        "table=1, priority=110,ip,nw_frag=later actions=NORMAL",
        f"table=1, priority=100,ipv6,ipv6_dst={HOME_ADDRESS} actions=dec_ttl,set_field:{HOME_AGENT}->tun_ipv6_src,"
        f"set_field:{FIRST}->tun_ipv6_dst,output:5",
        f"table=1, priority=100,ip,nw_dst={IPV4_HOME_ADDRESS} actions=dec_ttl,set_field:",
        f"table=2, priority=100,ipv6,ipv6_src={FIRST},ipv6_dst={HOME_AGENT},nw_proto=41 "
        f"actions=set_field:2001:db8:2::f1->ipv6_dst,set_field:{MAC}->eth_dst,LOCAL",
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


def test_ipv4_stays_with_the_home_agent_where_the_router_cannot_carry_it(flow_bench: Bench) -> None:
    bench, problem = flow_bench, "the kernel does not forward IPv4"
    stays = ["active", "pending"]
    wait_for("IPv4 stays with the home agent", lambda: flow_states(bench, ipv4_problem=problem) == stays)
    (on_router,) = bench.controller.get(f"/v1/bindings/{IPV4_HOME_ADDRESS}")["routers"].values()
    assert on_router["state"] == "failed"
    assert problem in on_router["reason"]
    wait_for("its flows are gone", lambda: not any(f"nw_dst={IPV4_HOME_ADDRESS}" in flow for flow in bench.flows()))
    wait_for("it is offloaded again", lambda: flow_states(bench) == ["active", "active"])


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
