# SPDX-License-Identifier: Apache-2.0
"""Several controllers, one switch: a real Open vSwitch, real controllers; the test decides which of them is master."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import CN, HOME_ADDRESS, INTO_TUNNEL, SECOND, TIN, Bench, binding, sent_again
from tests.support.controller import OPENFLOW_PORT
from tests.support.ovs import Ovs
from tests.support.played_cluster import Member, connect
from tests.support.proxy import Proxy
from tests.support.waiting import wait_for

ROUTER = f"{1:016x}"
MARKER = "100::"


@pytest.fixture
def members(ovs: Ovs, tmp_path: Path) -> Iterator[list[Member]]:
    """Provide two controllers of a cluster, and a switch `br0` that is connected to none yet."""
    ovs.add_bridge("br0", 1)
    ovs.add_port("br0", "cn", CN)
    ovs.add_port("br0", "tin", TIN)
    with Member(ovs, tmp_path, 1) as one, Member(ovs, tmp_path, 2) as two:
        yield [one, two]
    for each in (one, two):
        each.assert_log_clean()


@pytest.fixture
def benches(ovs: Ovs, members: list[Member]) -> list[Bench]:
    """Provide a bridge and an agent at each member, a mobile node, and the switch with all members as SLAVE."""
    connect(ovs, "br0", *(each.openflow for each in members))
    benches = [Bench(ovs, each) for each in members]
    for each in benches:
        each.announce()
        each.snapshot(binding())
        each.agent()
        each.controller.hear("switch_connected", 1, 0)  # type: ignore[attr-defined]
    return benches


def carries(bench: Bench, others: list[Bench]) -> None:
    """Wait until the traffic goes direct by one member's word, with leases and agents alive at all of them."""

    def is_active() -> bool:
        for other in others:
            other.announce()
            other.agent()
        return bench.is_active()

    wait_for("the binding is active", is_active)
    assert INTO_TUNNEL in bench.trace()


def test_only_the_master_writes_and_the_others_stand_by(benches: list[Bench], members: list[Member]) -> None:
    (one, two), bench = members, benches[0]
    assert bench.flows() == {}, "nobody has written before a master is chosen"
    assert one.get("/v1/routers/1")["connected"] is True
    one.tell("take_role", 1, 5)
    one.hear("role_taken", 1, 5)
    two.tell("mastered_by", 1, "controller-1")
    carries(bench, benches[1:])
    assert any(MARKER in flow for flow in bench.flows())
    before = bench.flows().keys()
    assert two.call("POST", "/v1/bindings", binding(SECOND, 2)).status == 200
    benches[1].agent()
    assert bench.flows().keys() == before, "who stands by writes nothing"
    standing_by = two.get("/v1/routers/1")
    assert (standing_by["connected"], standing_by["master"]) == (True, "controller-1")
    explained = two.get(f"/v1/bindings/{HOME_ADDRESS}/explain")
    assert explained["routers"][ROUTER]["reason"].startswith("controller-1 is its master")
    benches[1].announce()
    wait_for("it is ready all the same", lambda: two.call("GET", "/readyz").status == 200)
    assert not two.events("router-disconnected")


def test_a_takeover_closes_no_gate_and_sends_no_flow_again(benches: list[Bench], members: list[Member]) -> None:
    (one, two), (first, second) = members, benches
    one.tell("take_role", 1, 5)
    carries(first, [second])
    before = first.flows()
    one.tell("mastered_by", 1, "controller-2")
    two.tell("take_role", 1, 6)
    wait_for("one has left the switch", lambda: one.events("mastership-lost"))
    assert "not connected" not in str(one.call("GET", "/readyz").body), "the switch is about to come back"
    two.hear("role_taken", 1, 6)
    one.hear("switch_connected", 1, 6)
    assert [said[0] for said in one.tell()[-3:]] == ["overtaken", "switch_gone", "switch_connected"]
    assert first.gates(), "no gate has closed"
    carries(second, [first])
    after = first.flows()
    assert after.keys() == before.keys()
    assert all("goto_table" in flow or MARKER in flow for flow in sent_again(before, after)), "what ends is renewed"
    assert len(one.events("mastership-lost")) == 1
    assert not one.events("router-disconnected")
    second.post(SECOND, 2)
    carries(second, [first])


def test_a_former_master_that_was_not_told_finds_out_when_it_writes(
    ovs: Ovs, members: list[Member], benches: list[Bench]
) -> None:
    (one, two), (first, second) = members, benches
    with Proxy(ovs, 6654, OPENFLOW_PORT, members[0].address) as proxy:
        proxy.notices = False
        connect(ovs, "br0", "127.0.0.1:6654", two.openflow)
        wait_for("it comes through the proxy", lambda: len([s for s in one.tell() if s[0] == "switch_connected"]) == 2)
        one.tell("take_role", 1, 5)
        carries(first, [second])
        two.tell("take_role", 1, 6)
        two.hear("role_taken", 1, 6)
        assert one.tell()[-1] == ["role_taken", 1, 5], "it knows nothing of it"
        assert one.call("POST", "/v1/bindings", binding("2001:db8:66::2", 2)).status == 200
        first.agent()
        wait_for("the switch has refused it", lambda: ["overtaken", 1] in one.tell())
        assert not any("2001:db8:66::2" in flow for flow in first.flows())
    assert "bundle-refused" not in one.log


def test_a_stale_generation_is_refused_and_a_newer_one_taken(benches: list[Bench], members: list[Member]) -> None:
    one, two = members
    one.tell("take_role", 1, 7)
    one.hear("role_taken", 1, 7)
    two.tell("take_role", 1, 3)
    two.hear("role_refused", 1, 7)
    two.tell("take_role", 1, 8)
    two.hear("role_taken", 1, 8)
    one.hear("switch_connected", 1, 8)


def test_an_equal_generation_is_its_first_owners(benches: list[Bench], members: list[Member]) -> None:
    one, two = members
    one.tell("take_role", 1, 5)
    one.hear("role_taken", 1, 5)
    two.tell("take_role", 1, 5)
    two.hear("role_refused", 1, 5)
    assert one.tell()[-1] == ["role_taken", 1, 5]
    one.tell("give_up", 1)
    one.hear("switch_connected", 1, 5)
    one.tell("take_role", 1, 5)
    one.hear("role_taken", 1, 5)
    two.tell("take_role", 1, 6)
    two.hear("role_taken", 1, 6)


def test_who_gives_up_comes_back_as_slave(benches: list[Bench], members: list[Member]) -> None:
    one, two = members
    one.tell("take_role", 1, 5)
    carries(benches[0], benches[1:])
    one.tell("give_up", 1)
    one.hear("switch_connected", 1, 5)
    two.tell("take_role", 1, 6)
    carries(benches[1], benches[:1])
    assert len(one.events("mastership-lost")) == 1
    one.tell("give_up", 1)
    one.hear("switch_connected", 1, 6)


def test_another_cluster_leaves_the_switch_alone(
    ovs: Ovs, tmp_path: Path, benches: list[Bench], members: list[Member]
) -> None:
    one, two = members
    one.tell("take_role", 1, 5)
    carries(benches[0], benches[1:])
    with Member(ovs, tmp_path, 3, cluster="other") as stranger:
        connect(ovs, "br0", one.openflow, two.openflow, stranger.openflow)
        wait_for("it says so", lambda: stranger.events("router-of-another-cluster"))
        benches[0].announce()
        stranger.tell("take_role", 1, 9)
        assert stranger.tell() == [], "it does not ask to be master"
        assert one.tell()[-1] == ["role_taken", 1, 5]
        assert "another cluster" in str(stranger.call("GET", "/readyz").body)
        one.tell("give_up", 1)
        marker = next(flow for flow in benches[0].flows() if MARKER in flow)
        assert "priority=1,ipv6,ipv6_dst=100::" in marker
        ovs.ofctl("del-flows", "br0", "table=1,ipv6,ipv6_dst=100::/64")
        stranger.hear("switch_connected", 1, 5)
    stranger.assert_log_clean()


def test_a_stranger_that_takes_the_switch_is_told_of_until_it_is_over(
    benches: list[Bench], members: list[Member]
) -> None:
    one, _ = members
    one.tell("take_role", 1, 5)
    carries(benches[0], benches[1:])
    assert one.call("GET", "/readyz").status == 200
    one.tell("taken_by_stranger", 1, 5)
    wait_for("it says so", lambda: "generation=5" in "".join(one.events("router-taken-by-stranger")))
    assert "not of the cluster" in str(one.call("GET", "/readyz").body)
    one.tell("give_up", 1)
    one.hear("switch_connected", 1, 5)
    assert "not of the cluster" in str(one.get(f"/v1/bindings/{HOME_ADDRESS}/explain")["routers"][ROUTER])
    one.tell("take_role", 1, 6)
    carries(benches[0], benches[1:])
    one.tell("taken_by_stranger", 1, None)
    assert one.call("GET", "/readyz").status == 200
