# SPDX-License-Identifier: Apache-2.0
"""`GET /metrics` of a real controller with a real Open vSwitch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from controller.core.binding_counts import STEP, count_bindings
from controller.core.traffic import DOWNLINK, Counters, Traffic
from tests.support.bench import FIRST, HOME_ADDRESS, HOME_AGENT, SECOND, Bench, binding, registered
from tests.support.controller import Controller
from tests.support.ovs import Ovs
from tests.support.scrape import Scrape
from tests.support.waiting import wait_for
from tests.support.world import DPID, ENDPOINTS, World
from tests.support.world import HOME_AGENT as PACKED
from tests.support.world import binding as core_binding

ROUTER = "0000000000000001"


def measured(bench: Bench) -> Scrape:
    """Return what the controller says."""
    answer = bench.controller.text("/metrics")
    assert answer.status == 200, answer
    return Scrape(answer.body)


@pytest.fixture
def bench(ovs: Ovs, tmp_path: Path) -> Iterator[Bench]:
    """Provide a registered mobile node whose traffic goes direct; the switch is read back every second."""
    with Controller(ovs, tmp_path, "read_back_every = 1\nagent_lease = 60") as running:
        bench = registered(ovs, running)
        bench.announce(lease=60)
        wait_for("its gates are open for long", lambda: bench.state() == "active")
        yield bench
    running.assert_log_clean()


def test_what_is_served_is_what_is(bench: Bench) -> None:
    def told() -> bool:
        return measured(bench)("hoaflow_events_total", name="binding-active") >= 1

    wait_for("the activation is told", told)
    now = measured(bench)
    assert now.by("state", "hoaflow_bindings") == {"active": 1}
    assert now("hoaflow_gate_open", router=ROUTER, home_agent=HOME_AGENT) == 1
    assert now("hoaflow_router_connected", router=ROUTER) == 1
    assert now("hoaflow_router_agent_alive", router=ROUTER) == 1
    assert now("hoaflow_router_draining", router=ROUTER) == 0
    assert now("hoaflow_lease_held", home_agent=HOME_AGENT) == 1
    assert now("hoaflow_home_agent_up", home_agent=HOME_AGENT) == 1
    assert 0 <= now("hoaflow_lease_age_seconds", home_agent=HOME_AGENT) < 60
    assert now("hoaflow_flows", router=ROUTER) == len(bench.controller.get(f"/v1/routers/{ROUTER}/flows")["flows"])
    assert now("process_resident_memory_bytes") > 1e6
    bench.announce(lease=60, status="ha-down")
    bench.controller.put(f"/v1/routers/{ROUTER}/drain", None)
    then = measured(bench)
    assert then("hoaflow_home_agent_up", home_agent=HOME_AGENT) == 0
    assert then("hoaflow_router_draining", router=ROUTER) == 1
    assert then.by("state", "hoaflow_bindings") == {"pending": 1}
    # Whom traffic belongs to is nobody's business but the operator's, who asks the API.
    for address in (HOME_ADDRESS, FIRST):
        assert address not in now.text + then.text


def test_an_activation_is_timed_stage_by_stage(bench: Bench) -> None:
    before = measured(bench)
    bench.post(SECOND, 2, detected_ago=0.25)
    wait_for("the handover is done", lambda: bench.state() == "active")
    after = measured(bench)
    for stage in ("bridge_detect", "rest", "flow", "barrier"):
        counts = [each("hoaflow_activation_seconds_count", stage=stage) for each in (before, after)]
        assert counts[1] == counts[0] + 1, stage
    assert after("hoaflow_activation_seconds_sum", stage="bridge_detect") == 0.25
    # A refresh is none, however long ago its change was.
    bench.post(SECOND, 3, lifetime=600, detected_ago=3600)
    assert measured(bench)("hoaflow_activation_seconds_sum", stage="bridge_detect") == 0.25


def test_what_is_carried_past_the_home_agent_is_counted_and_never_forgotten(bench: Bench) -> None:
    frame = bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IPv6(src="2001:db8:1::2", dst=HOME_ADDRESS)
        / UDP(sport=1, dport=2)
        / bytes(100)
    )

    def send(count: int) -> None:
        for _ in range(count):
            bench.ovs.ofctl("packet-out", "br0", f"in_port=1,packet={frame.hex()},actions=table")

    def carried() -> tuple[float, float]:
        now = measured(bench)
        labels = {"router": ROUTER, "direction": "downlink"}
        packets = now("hoaflow_offloaded_packets_total", **labels)
        return packets, now("hoaflow_offloaded_bytes_total", **labels)

    send(3)
    assert wait_for("three packets are counted", lambda: carried() if carried()[0] == 3 else None)[1] == 3 * len(frame)
    bench.post(SECOND, 2)
    wait_for("the handover is done", lambda: bench.state() == "active")
    assert carried() == (3, 3 * len(frame))
    assert bench.controller.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}").status == 204
    wait_for("its flows are gone", lambda: not any(HOME_ADDRESS in flow for flow in bench.flows()))
    assert carried() == (3, 3 * len(frame))
    bench.post(FIRST, 9)
    wait_for("it is back", lambda: bench.state() == "active")
    send(2)
    wait_for("five packets are counted", lambda: carried() == (5, 5 * len(frame)))


def test_drift_is_counted_and_told_when_it_is_repaired(bench: Bench) -> None:
    before = measured(bench)
    assert before("hoaflow_drift_repaired_total", router=ROUTER) == 0
    bench.ovs.ofctl(
        "add-flow", "br0", f"cookie=0x686f616600000004,table=1,priority=100,ipv6,ipv6_dst={FIRST},actions=drop"
    )
    bench.ovs.ofctl("mod-flows", "--strict", "br0", f"table=1,priority=100,ipv6,ipv6_dst={HOME_ADDRESS},actions=drop")

    def repaired() -> bool:
        return measured(bench)("hoaflow_drift_repaired_total", router=ROUTER) == 2

    wait_for("both are repaired", repaired)
    told = bench.controller.get("/v1/events?follow=no&name=drift-repaired")["events"]
    assert sum(event["flows"] for event in told) == 2
    assert bench.state() == "active"


def test_refusals_are_counted_by_reason(bench: Bench) -> None:
    call = bench.controller.call
    call("POST", "/v1/bindings", binding(FIRST, 0))
    call("POST", "/v1/bindings", {"bindings": [binding(FIRST, 0), binding("fe80::1", 5)]})
    call("POST", "/v1/bindings", raw=b"{")
    call("GET", "/v1/bindings/2001:db8:99::dead")
    call("PATCH", "/v1/bindings")
    now = measured(bench)
    found = {
        reason: now("hoaflow_refused_requests_total", reason=reason)
        for reason in ("stale-sequence", "wrong-value", "not-json", "not-found", "method")
    }
    assert found == {"stale-sequence": 2, "wrong-value": 1, "not-json": 1, "not-found": 1, "method": 1}


def test_openmetrics_is_served_to_who_asks_for_it(bench: Bench) -> None:
    answer = bench.controller.text("/metrics", accept="application/openmetrics-text")
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.body.endswith("# EOF\n")


def test_bindings_are_counted_as_each_would_say_of_itself() -> None:
    world = World()
    world.announce()
    world.agent_starts()
    bindings = [core_binding(now=world.now)]
    world.snapshot(*bindings)

    def counted() -> dict[str, int]:
        *_, counts = count_bindings(world.offload, world.now)
        return {state: count for (_, state), count in counts.items() if count}

    def states() -> dict[str, int]:
        found: dict[str, int] = {}
        for held in world.offload.bindings:
            state = world.offload.states.of(held, world.now).state
            found[state] = found.get(state, 0) + 1
        return found

    assert counted() == states() == {"pending": 1}
    world.agent_follows()
    world.deliver()
    world.offload.tick(world.now)
    assert counted() == states() == {"active": 1}
    assert not world.offload.activations.unconfirmed
    for failures, state in (({bindings[0].home_address: "no route"}, "pending"), ({}, "active")):
        world.offload.acknowledge(DPID, world.revision, ENDPOINTS, {}, failures, world.now)
        world.deliver()
        world.offload.tick(world.now)
        assert counted() == states() == {state: 1}
    world.offload.connections.disconnect(DPID, world.now)
    assert counted() == states() == {"pending": 1}
    world.pass_time(30.0)
    assert counted() == states() == {"held": 1}


def test_counting_many_bindings_is_done_in_steps() -> None:
    world = World()
    world.announce()
    prefix = core_binding().home_address.packed[:-2]
    many = [
        core_binding(core_binding().home_address._replace(packed=prefix + number.to_bytes(2, "big")), now=world.now)
        for number in range(0x200, 0x200 + 3 * STEP)
    ]
    world.snapshot(*many)
    steps = [sum(counts.values()) for counts in count_bindings(world.offload, world.now)]
    assert len(steps) == 4
    assert steps[-1] == len(many) == world.offload.bindings.count(PACKED)


def test_totals_only_grow() -> None:
    traffic = Traffic()
    traffic.observe(DOWNLINK, Counters(10, 1000))
    traffic.observe(DOWNLINK, Counters(6, 600))  # a flow is gone, and only then the switch says so
    assert traffic.total(DOWNLINK) == (10, 1000)
    traffic.retire(DOWNLINK, Counters(4, 400))
    traffic.observe(DOWNLINK, Counters(8, 800))
    assert traffic.total(DOWNLINK) == (12, 1200)
    traffic.disconnect()
    traffic.observe(DOWNLINK, Counters(0, 0))  # all flows have ended while the switch was away
    assert traffic.total(DOWNLINK) == (12, 1200)
    traffic.observe(DOWNLINK, Counters(5, 500))
    assert traffic.total(DOWNLINK) == (17, 1700)
