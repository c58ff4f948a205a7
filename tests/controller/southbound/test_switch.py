# SPDX-License-Identifier: Apache-2.0
"""The controller with a real Open vSwitch: what the switch does with packets, and what becomes of failures."""

import contextlib
import ipaddress
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import (
    CN,
    FIRST,
    FOREIGN,
    HOME_ADDRESS,
    HOME_AGENT,
    INTO_TUNNEL,
    LEASE,
    MAC,
    REVERSE,
    SECOND,
    Bench,
    binding,
    sent_again,
)
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for
from topologies.waiting import patient


@pytest.fixture
def controller_settings() -> str:
    """Return settings by which the switch is read back every second, and has to answer within two."""
    return "answer_within = 2\nread_back_every = 1"


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
    told = rf"event=flow-rejected .*serves={other} .*TABLE_FULL"
    wait_for("the log tells of it", lambda: re.search(told, bench.controller.log))
    bench.ovs.vsctl("clear", "Bridge", "br0", "flow_tables")
    wait_for("it is tried again", lambda: bench.is_active() and bench.state(other) == "active")


def test_a_table_that_evicts_keeps_a_binding_that_stands_and_refuses_another(bench: Bench) -> None:
    """Open vSwitch evicts only flows with a timeout (ovs-vswitchd.conf.db(5)), and those of bindings have none."""
    other = "2001:db8:99::200"
    bench.ovs.vsctl(
        *["--", "--id=@full", "create", "Flow_Table", "flow_limit=4", "overflow_policy=evict"],
        *["--", "set", "Bridge", "br0", "flow_tables:1=@full"],
    )
    bench.post(home_address=other, care_of_address=SECOND)

    def flows(table: int) -> int:
        return bench.ovs.ofctl("dump-flows", "br0", f"table={table}").count("priority=100")

    def refused() -> bool:
        bench.announce()
        return "its table is full" in bench.controller.call("GET", "/readyz").body.get("detail", "")

    wait_for("the other binding is refused", refused)
    wait_for("it has none of its flows", lambda: flows(1) == flows(2) == 1)
    assert bench.state() == "active"
    bench.ovs.vsctl("clear", "Bridge", "br0", "flow_tables")
    wait_for("both are there", lambda: bench.is_active() and bench.state(other) == "active")


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
    """Return a packet in the reverse tunnel, in hexadecimal."""
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
        twin = socket.create_connection(("127.0.0.1", OPENFLOW_PORT), timeout=patient(20))
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
        idle = [socket.create_connection(("127.0.0.1", 8080), timeout=patient(20)) for _ in range(100)]
        idle[0].sendall(b"PUT /v1/home-agents/2001:db8:99::1 HTTP/1.1\r\nHost: ::1\r\nContent-Length: 9\r\n\r\n{")
        assert b"408" in idle[0].recv(1000)
        for connection in idle:
            with connection:
                while connection.recv(1000):
                    pass
        assert controller.get("/healthz")
