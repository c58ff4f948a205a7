# SPDX-License-Identifier: Apache-2.0
"""The whole path in Mininet: mobile node, home agent, bridge, controller, agents and Open vSwitch, all of them real."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.conformance import assert_declared
from tests.support.ping import echo
from tests.support.waiting import wait_for
from topologies import addresses as at
from topologies.deployment import HOME, Deployment
from topologies.load import AnchorLoad
from topologies.ovs_router import BRIDGE
from topologies.roaming import RoamingTopo
from topologies.testbed import Testbed
from topologies.traffic import Span, Traffic, lost

SPOOF = Path(__file__).parents[2] / "topologies/spoof.py"
LEASE = 60  # seconds: a busy machine renews it in time, and restarts a controller in time
SHORT_LEASE = 10  # seconds, where it has to end or be renewed during a test
LIFETIME = 40  # seconds
FOREIGN = "cookie=0x5,priority=500,tcp6,tp_dst=9 actions=drop"
COUNTER = "hoaflow_stale"


class Net:
    """A running system and the questions that its operator would ask."""

    def __init__(
        self, bed: Testbed, logs: Path, lifetime: int = LIFETIME, lease: int = LEASE, install: str = "everything"
    ) -> None:
        self.bed = bed
        self.deployment = Deployment(bed, lifetime=lifetime, lease=lease, install=install)
        self.load = AnchorLoad(bed)
        self.records = logs
        self.deployment.start_anchor()
        self.deployment.start_mobile_node()
        self.deployment.start_offload()

    def go(self, link: int) -> None:
        """Move the mobile node to a foreign link and wait until its traffic goes direct."""
        self.deployment.attach(link)
        wait_for(f"the binding is active on link {link}", lambda: self.is_active(link))

    def is_active(self, link: int) -> bool:
        """Tell whether the binding with link's care-of address is active."""
        binding = self.deployment.binding()
        return bool(binding and binding["state"] == "active" and binding["care_of_address"] == at.care_of_address(link))

    def ping(self, count: int = 10) -> int:
        """Return how many data packets passed the home agent while CN and mobile node exchanged `count` of them."""
        before = self.load.packets()
        assert int(self.bed.run(*echo(count, at.HOME_ADDRESS), node="cn")) == count
        return self.load.packets() - before

    def goes_direct(self) -> bool:
        """Tell whether the traffic passes the home agent neither way."""
        return self.ping() == 0

    def goes_via_home_agent(self) -> bool:
        """Tell whether all of the traffic passes the home agent, both ways."""
        return self.ping() == 20

    def flows(self, router: str) -> str:
        """Return a router's flows."""
        return self.bed.run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", BRIDGE, node=router)

    def gates(self) -> int:
        """Return how many gates are open, on all switches."""
        return sum(self.flows(router).count("goto_table") for router in self.deployment.routers)

    def binding_flows(self) -> int:
        """Return how many bindings' flows there are, on all switches."""
        return sum(self.flows(router).count("->eth_dst") for router in self.deployment.routers)

    def tells(self) -> bool:
        """Tell whether all switches tell of packets without flows, in both directions."""
        return all(self.flows(router).count("controller(") == 2 for router in self.deployment.routers)

    def count_packets_to(self, link: int) -> Callable[[], int]:
        """Count, from now on, tunnel packets that reach link's router for the care-of address there."""
        router = f"r{link + 1}"
        rules = f"""
            table ip6 {COUNTER} {{
                counter stale {{ }}
                chain arriving {{
                    type filter hook prerouting priority -450
                    ip6 daddr {at.care_of_address(link)} ip6 nexthdr 41 counter name stale
                }}
            }}
        """
        self.bed.run("nft", "-f", "-", node=router, stdin=rules)

        def packets() -> int:
            shown = self.bed.run("nft", "list", "counter", "ip6", COUNTER, "stale", node=router)
            found = re.search(r"packets (\d+)", shown)
            assert found, shown
            return int(found[1])

        return packets


@pytest.fixture(autouse=True)
def declared_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer that a test here gets has to be one that OpenAPI declares."""
    send = requests.Session.send

    def checked(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        answer = send(session, request, **options)
        content_type = answer.headers.get("Content-Type", "")
        assert_declared(str(request.method), request.path_url, answer.status_code, content_type, answer.content)
        return answer

    monkeypatch.setattr(requests.Session, "send", checked)


@pytest.fixture
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Net]:
    """Start everything, with the mobile node on foreign link 1 and its traffic direct. No log may have an error."""
    allow = [r"connection (dropped|closed|failed)"]
    with Testbed(RoamingTopo(), tmp_path / "logs") as bed:
        net = Net(bed, tmp_path, lease=getattr(request, "param", LEASE))
        net.go(1)
        yield net
        assert bed.errors(allow) == []


def test_a_journey(net: Net) -> None:
    assert net.goes_direct()
    net.bed.run("ovs-ofctl", "-O", "OpenFlow13", "add-flow", BRIDGE, FOREIGN, node="r1")
    net.go(2)
    assert net.goes_direct()
    net.deployment.attach(HOME)
    wait_for("the binding is gone", lambda: net.deployment.binding() is None)
    wait_for("its flows are gone", lambda: net.binding_flows() == 0)
    assert net.ping() == 10  # at home: only the way to the home address leads over the home agent, as a router
    net.go(1)
    assert net.goes_direct()
    assert net.flows("r1").count("cookie=0x5,") == 1
    assert net.flows("r1").count("cookie=0x0,") == 1, "the topology's own flow is left alone"


def test_on_demand_the_first_packets_go_by_the_home_agent_and_none_is_lost(tmp_path: Path) -> None:
    with Testbed(RoamingTopo(), tmp_path / "logs") as bed:
        net = Net(bed, tmp_path, install="on-demand")
        told = [net.deployment.rest("GET", f"/v1/routers/{bed.network[each].dpid}") for each in net.deployment.routers]
        assert {each["install"] for each in told} == {"on-demand"}
        wait_for("gates are open, and the switches tell", lambda: net.gates() and net.tells())
        net.deployment.attach(1)
        wait_for("the mobile node is registered", net.deployment.binding)
        # Until it sends or is sent anything.
        binding = net.deployment.binding()
        assert binding is not None
        assert (binding["state"], net.binding_flows()) == ("idle", 0)
        traffic = Traffic(bed, tmp_path)
        start = time.time()
        wait_for("the binding is active", lambda: net.is_active(1))
        wait_for("its traffic goes direct, both ways", net.goes_direct)
        direct = time.time()
        assert 0 < net.binding_flows() < 6, "only on the routers that see its packets"
        # While it is asked again, what was sent until then arrives: the move may lose what is under way.
        wait_for("its traffic goes on direct", net.goes_direct)
        net.go(2)
        wait_for("its traffic goes direct again", net.goes_direct)
        correspondent, mobile = traffic.stop()
        span = Span(start, direct)
        assert len(correspondent.sent) > 0
        assert lost(correspondent, mobile, span) == []
        assert lost(mobile, correspondent, span) == []
        assert bed.errors([r"connection (dropped|closed|failed)"]) == []


def test_a_lifetime_ends(tmp_path: Path) -> None:
    with Testbed(RoamingTopo(), tmp_path / "logs") as bed:
        net = Net(bed, tmp_path, lifetime=8)
        net.go(1)
        bed.kill("mobile-node")
        wait_for("the binding is gone", lambda: net.deployment.binding() is None)
        wait_for("its flows are gone", lambda: net.binding_flows() == 0)
        assert bed.errors() == []


@pytest.mark.parametrize("net", [SHORT_LEASE], indirect=True)
@pytest.mark.parametrize("killed", ["controller", "bridge", "agents"])
def test_what_dies_gives_the_traffic_back_to_the_home_agent(net: Net, killed: str) -> None:
    agents = [f"agent-{router}" for router in net.deployment.routers]
    for name in agents if killed == "agents" else [killed]:
        net.bed.kill(name)
    # Less than twice the lease: it is not renewed for the dead.
    wait_for("the gates are gone", lambda: net.gates() == 0, timeout=2 * SHORT_LEASE - 1)
    assert net.goes_via_home_agent()
    net.deployment.attach(2)
    # Until the home agent has heard of the move, its own tunnel leads to the former care-of address.
    net.bed.programs["mobile-node"].wait_for(f'"event": "registered".*{at.care_of_address(2)}', 60)
    stale = net.count_packets_to(1)
    assert net.goes_via_home_agent()
    assert stale() == 0, "packets still go to the former care-of address"


def test_traffic_does_not_notice_a_restart_of_the_controller(net: Net) -> None:
    traffic = Traffic(net.bed, net.records)
    start = time.time()
    before = net.binding_flows()
    net.bed.kill("controller")
    controller = net.deployment.start_controller()
    seen = net.binding_flows()
    controller.wait_for("event=home-agent-synced ", 60)
    wait_for("the binding is active", lambda: net.is_active(1))
    correspondent, mobile = traffic.stop()
    span = Span(start, time.time())
    assert (before, seen, net.binding_flows()) == (6, 6, 6)
    assert lost(correspondent, mobile, span) == []
    assert lost(mobile, correspondent, span) == []


def test_draining_routers_loses_nothing(net: Net) -> None:
    routers = [router["dpid"] for router in net.deployment.rest("GET", "/v1/routers")["routers"]]
    traffic = Traffic(net.bed, net.records)
    start = time.time()
    for dpid in routers:
        drained = net.deployment.rest("PUT", f"/v1/routers/{dpid}/drain")
        assert (drained["draining"], drained["gates"]) == (True, [])
        net.ping()
    assert net.ping() >= 20, "what the ping adds to the traffic, both ways"
    explained = net.deployment.rest("GET", f"/v1/bindings/{at.HOME_ADDRESS}/explain")
    assert explained["path"] == "home-agent"
    assert "the router is drained" in explained["reason"]
    for dpid in routers:
        assert net.deployment.rest("DELETE", f"/v1/routers/{dpid}/drain")["draining"] is False
    wait_for("the binding is active", lambda: net.is_active(1))
    restored = time.time()
    assert net.goes_direct()
    correspondent, mobile = traffic.stop()
    span = Span(start, time.time())
    assert max(correspondent.sent.values()) > restored, "the traffic covers all of it"
    assert lost(correspondent, mobile, span) == []
    assert lost(mobile, correspondent, span) == []


def test_a_handover_loses_nothing_once_the_routers_know(net: Net) -> None:
    net.go(2)
    traffic = Traffic(net.bed, net.records)
    start = time.time()
    net.bed.run("ping", "-c", "20", "-i", "0.05", at.HOME_ADDRESS, node="cn")
    correspondent, mobile = traffic.stop()
    span = Span(start, time.time())
    assert len(lost(correspondent, mobile, span)) + len(lost(mobile, correspondent, span)) == 0


@pytest.mark.parametrize("net", [SHORT_LEASE], indirect=True)
def test_established_traffic_rides_out_the_home_agents_death(net: Net) -> None:
    traffic = Traffic(net.bed, net.records)
    start = time.time()
    net.bed.kill("home-agent")
    net.deployment.set_anchor_link(up=False)
    net.bed.programs["controller"].wait_for(r"event=home-agent-announced .*status=ha-down", 60)
    # Longer than the lease: the bridge holds it for the home agent that is down.
    span_end = time.time() + SHORT_LEASE + 2
    wait_for("the lease would have ended", lambda: time.time() > span_end)
    assert net.is_active(1)
    correspondent, mobile = traffic.stop()
    span = Span(start, span_end)
    assert len(correspondent.sent) > 100 * SHORT_LEASE
    assert lost(correspondent, mobile, span) == []
    assert lost(mobile, correspondent, span) == []


def test_established_traffic_rides_out_a_home_agent_that_comes_back_empty(net: Net) -> None:
    traffic = Traffic(net.bed, net.records)
    start = time.time()
    net.bed.kill("home-agent")
    net.bed.programs["controller"].wait_for(r"event=home-agent-announced .*status=ha-down", 60)
    net.deployment.start_anchor()  # without a journal: it knows nobody
    net.bed.programs["bridge"].wait_for(r"event=home-agent-restarted shows=0 frozen=1", 60)
    wait_for(
        "the bridge announces it as up", lambda: net.deployment.rest("GET", "/v1/home-agents?status=up")["home_agents"]
    )
    # The mobile node refreshes its binding in time: from then on it is the home agent's own word again.
    net.bed.programs["home-agent"].wait_for(f"event=binding-registered .*{at.HOME_ADDRESS}", 60)
    assert net.goes_direct()
    correspondent, mobile = traffic.stop()
    span = Span(start, time.time())
    assert len(correspondent.sent) > 100
    assert lost(correspondent, mobile, span) == []
    assert lost(mobile, correspondent, span) == []
    net.deployment.attach(HOME)
    wait_for("what it then ends has ended", lambda: net.deployment.binding() is None)


@pytest.mark.parametrize("kind", ["wrong outer source", "wrong inner source"])
def test_spoofed_packets_do_not_pass(net: Net, kind: str) -> None:
    outer = at.STRANGER if kind == "wrong outer source" else at.care_of_address(1)
    inner = at.HOME_ADDRESS if kind == "wrong outer source" else "2001:db8:99::200"
    listener = net.bed.start("listener", [sys.executable, str(SPOOF), "listen"], node="cn")
    listener.wait_for("event=ready", 60)
    pairs = {"forged": (outer, inner, "stranger"), "genuine": (at.care_of_address(1), at.HOME_ADDRESS, "stranger")}
    for label, (source, home_address, node) in pairs.items():
        tunnel = ["--outer", source, at.HOME_AGENT, "--inner", home_address, at.CORRESPONDENT]
        net.bed.run(sys.executable, str(SPOOF), "send", *tunnel, "--label", label, "--count", "5", node=node)
    # The genuine pair was sent last from the same place, so what was to pass before it has passed.
    listener.wait_for(r"event=arrived .*label=genuine", 60)
    assert not [line for line in listener.lines if "label=forged" in line]


def test_refusals_reach_the_client_and_leave_nothing_in_doubt(net: Net) -> None:
    before = net.deployment.binding()
    assert before is not None
    client, path, timeout = net.deployment.client, "/v1/bindings", (5.0, 5.0)
    update = {"home_address": at.HOME_ADDRESS, "care_of_address": at.care_of_address(2), "home_agent": at.HOME_AGENT}

    def refused(body: dict[str, Any], status: int) -> None:
        answer = client.request("POST", path, timeout, body)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["errors"][0]["reason"]

    # What is old news, or no update at all, changes nothing.
    refused({**update, "sequence": (before["sequence"] - 1) % 65536, "lifetime": 60}, 409)
    assert client.request("POST", path, timeout, "no object").status_code == 422
    assert net.is_active(1)
    assert net.goes_direct()
    # The home agent has accepted it, so the mobile node is not where it was.
    refused({**update, "care_of_address": "ff02::1"}, 422)
    wait_for("its flows are gone", lambda: net.binding_flows() == 0)
    assert net.goes_via_home_agent()
    net.go(2)
    assert net.goes_direct()
