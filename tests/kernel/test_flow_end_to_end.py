# SPDX-License-Identifier: Apache-2.0
"""The whole path with the `flow` backend: home agent, mobile node, bridge, controller and agent on a stock kernel.

Home agent and mobile node use the kernel's own ip6tnl devices, set as UMIP sets them.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.core.flows import COOKIE_OWNER, Kind
from tests.kernel.lab import BRIDGE, DPID, HA, HA_HOP, HOA, OTHER_HOA, ROUTER, STRANGER, FlowLab
from tests.kernel.lab import CN as CORRESPONDENT
from tests.support.checkout import CHECKOUT
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.ping import echo
from tests.support.router_lab import until
from tests.support.waiting import wait_for
from topologies.processes import Process
from topologies.tokens import OPERATOR, Tokens

MANAGEMENT_ROUTER, MANAGEMENT_HOME_AGENT = "192.0.2.1", "192.0.2.2"
LEASE = 20  # seconds, of bridge and agent
IDLE_AFTER, READ_BACK_EVERY = 10, 5  # seconds: an on-demand router gives up what no packet has come for
LIFETIME, SHORT_LIFETIME = 240, 8  # seconds; the first longer than anything here takes, the second shorter
PATIENCE = 60.0  # seconds, for what a program says
PORTS = (("cn", "e0"), ("mn", "f1"), ("mn", "f2"), ("st", "e0"))  # of the bridge, from 1
FOREIGN_COOKIE = "cookie=0x5,"
FOREIGN = f"{FOREIGN_COOKIE}priority=500,tcp6,tp_dst=9 actions=drop"


def care_of_address(link: int) -> str:
    """Return the care-of address on foreign link 1 or 2."""
    return f"2001:db8:{link + 1}::100"


class MobilityLab(FlowLab):
    """The router of FlowLab with two foreign links, and a home agent with a home link; nothing is set by hand.

    cn ── 1 ┐                ┌ LOCAL ── the router's kernel ── ha ── home link
    f1 ── 2 │  bridge br0    │
    f2 ── 3 │                └         mn has: f1, f2, and home on the home link
    st ── 4 ┘                          st is a stranger on foreign link 1
    """

    nodes = ("cn", "mn", "ha", "st")

    def _build(self) -> None:
        self._add_nodes()
        self.ovs.add_bridge(BRIDGE, DPID, OPENFLOW_PORT)
        ports = [(f"s{number}", *end) for number, end in enumerate(PORTS, start=1)]
        links = [*ports, ("rha", "ha", "e0"), ("mg0", "ha", "mg0")]
        self.ip_batch(
            "rt",
            *(f"link add {name} type veth peer name {peer} netns {self.names[node]}" for name, node, peer in links),
            # Else they have a link-local address once the mobile node was there, and `snapshot` would tell.
            *(f"link set {name} addrgenmode none" for name, _, _ in ports),
            *(f"link set {name} up" for name, _, _ in links),
            f"link set {BRIDGE} up",
            *(f"address add {address}/64 dev {BRIDGE} nodad" for address in (ROUTER, "2001:db8:2::1", "2001:db8:3::1")),
            "address add 2001:db8:10::1/64 dev rha nodad",
            f"address add {MANAGEMENT_ROUTER}/24 dev mg0",
            f"route add 2001:db8:99::/64 via {HA_HOP}",
        )
        self.ovs.vsctl(*(word for name, _, _ in ports for word in ("--", "add-port", BRIDGE, name)))
        self.ip_batch(
            "cn", "link set e0 up", f"address add {CORRESPONDENT}/64 dev e0 nodad", f"route add default via {ROUTER}"
        )
        self.ip_batch(
            "ha",
            *(f"link set {name} up" for name in ("e0", "mg0")),
            f"link add home0 up type veth peer name home netns {self.names['mn']}",
            f"address add {HA_HOP}/64 dev e0 nodad",
            f"address add {HA}/64 dev home0 nodad",
            f"address add {MANAGEMENT_HOME_AGENT}/24 dev mg0",
            "route add default via 2001:db8:10::1",
        )
        self.ip_batch(
            "st",
            "link set e0 up",
            f"address add {STRANGER}/64 dev e0 nodad",
            "route add default via 2001:db8:2::1",
        )
        # The kernel keeps some routes of a link that has had a carrier, and `snapshot` would tell.
        self.ip_batch("mn", "link set f1 up", "link set f2 up")
        until(lambda: self._all_up([name for name, _, _ in ports]), "carriers on the bridge's ports")
        self.move("home")

    def _all_up(self, links: list[str]) -> bool:
        states = {link["ifname"]: link["operstate"] for link in json.loads(self.ip("rt", "-json", "link", "show"))}
        return all(states[name] == "UP" for name in links)

    def move(self, link: str) -> None:
        """Move the mobile node to a link: home, f1 or f2."""
        others = {"home", "f1", "f2"} - {link}
        self.ip_batch("mn", *(f"link set {name} down" for name in others), f"link set {link} up")

    def tunnel_packets_at_home_agent(self) -> int:
        """Return how many packets have passed the home agent's uplink."""
        found = re.findall(r"\n +\d+ +(\d+)", self.ip("ha", "-s", "link", "show", "e0"))
        return sum(map(int, found))


class System:
    """Everything that runs."""

    def __init__(self, lab: MobilityLab, controller: Controller, directory: Path, tokens: Tokens) -> None:
        self.lab = lab
        self.controller = controller
        self.directory = directory
        self.programs: dict[str, Process] = {}
        self.tokens = tokens
        self.start_mobile_node(LIFETIME)
        self.start_agent("everything")
        self.start("ha", "bridge", "-m", "ha_bridge", "--controller", controller.url, "--home-agent", HA,
                   "--home-prefix", "2001:db8:99::/64", "--lease", str(LEASE),
                   "--token-file", str(tokens.file("bridge")))  # fmt: skip
        self.start_home_agent().wait_for(r"event=started", PATIENCE)

    def start_agent(self, install: str) -> Process:
        """Start the router's agent; `install`: which bindings' flows the switch is to have."""
        return self.start("rt", "agent", "-m", "hoaflow.router", "run", "--bridge", BRIDGE, "--install", install,
                          "--controller", self.controller.url, "--token-file", str(self.tokens.file("rt")),
                          f"--db=unix:{self.lab.ovs.database}")  # fmt: skip

    def install(self, install: str) -> None:
        """Start the agent anew, and wait until the controller has taken over which flows the switch is to have."""
        self.programs["agent"].stop()
        self.start_agent(install)
        wait_for(
            f"the router has {install}",
            lambda: self.controller.get(f"/v1/routers/{DPID:x}")["install"] == install and self.gates(),
        )

    def start_home_agent(self) -> Process:
        """Start the home agent."""
        command = ["--home-agent", HA, "--home-prefix", "2001:db8:99::/64", "--home-link", "home0", "--insecure"]
        journal = str(self.directory / "home-agent.journal")
        return self.start("ha", "home-agent", "-m", "hoaflow.home_agent", *command, "--journal", journal)

    def start_mobile_node(self, lifetime: int) -> Process:
        """Start the mobile node, to register for `lifetime` seconds."""
        links = [f"f{link}={care_of_address(link)}/64,2001:db8:{link + 1}::1" for link in (1, 2)]
        foreign = [word for link in links for word in ("--foreign-link", link)]
        command = ["--home-address", HOA, "--home-agent", HA, "--home-link", "home", *foreign, "--insecure"]
        return self.start("mn", "mobile-node", "-m", "topologies.mobile_node", *command, "--lifetime", str(lifetime))

    def start(self, node: str, name: str, *arguments: str) -> Process:
        """Start a Python program in a node."""
        command = [sys.executable, *arguments]
        log = self.directory / f"{name}.log"
        self.programs[name] = Process(name, command, log, self.lab.enter(node), CHECKOUT)
        return self.programs[name]

    def stop(self) -> None:
        """End all."""
        for process in self.programs.values():
            process.stop()

    def binding(self) -> dict[str, object] | None:
        """Return the mobile node's binding as the controller has it."""
        answer = self.controller.call("GET", f"/v1/bindings/{HOA}")
        return answer.body if answer.status == 200 else None

    def go(self, link: int) -> None:
        """Move the mobile node to a foreign link and wait until its traffic goes direct."""
        self.lab.move(f"f{link}")
        wait_for(f"the binding is active on link {link}", lambda: self.is_active(link))

    def is_active(self, link: int) -> bool:
        """Tell whether the binding with the link's care-of address is active."""
        found = self.binding()
        return bool(found and found["state"] == "active" and found["care_of_address"] == care_of_address(link))

    def goes_direct(self) -> bool:
        """Tell whether ten pings pass, and the home agent sees nothing of them."""
        # Twenty in the tunnel and twenty out of it, if it did; a neighbour solicitation or two are no traffic.
        return self.ping() < 10

    def ping(self) -> int:
        """Return how many packets pass the home agent's uplink while ten pings pass; fail if one is lost."""
        before = self.lab.tunnel_packets_at_home_agent()
        assert int(self.lab.run("cn", *echo(10, HOA))) == 10
        return self.lab.tunnel_packets_at_home_agent() - before

    def gates(self) -> int:
        """Return how many gates are open."""
        return self.lab.ovs.ofctl("dump-flows", BRIDGE).count("goto_table:1")

    def tells(self) -> bool:
        """Tell whether the switch tells of packets without flows, in both directions."""
        return self.lab.ovs.ofctl("dump-flows", BRIDGE).count("controller(") == 2

    def is_cold(self, link: int) -> bool:
        """Tell whether the binding with the link's care-of address has no flows, as no packet has come for it."""
        found = self.binding()
        idle = bool(found and found["state"] == "idle" and found["care_of_address"] == care_of_address(link))
        return idle and self.binding_flows() == 0

    def binding_flows(self) -> int:
        """Return how many flows encapsulate or verify for bindings."""
        cookies = tuple(f"cookie={COOKIE_OWNER | kind:#x}," for kind in (Kind.DOWNLINK, Kind.VERIFY))
        return sum(flow.lstrip().startswith(cookies) for flow in self.lab.ovs.ofctl("dump-flows", BRIDGE).splitlines())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MobilityLab, dict[str, object]]]:
    """Provide the network, and what is there before setup."""
    with Ovs(tmp_path_factory.mktemp("ovs"), datapath="system") as switch:
        with MobilityLab(switch) as lab:
            yield lab, lab.snapshot()
        switch.assert_log_clean()


@pytest.fixture(scope="module")
def system(bare: tuple[MobilityLab, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Start everything, with the `flow` backend."""
    lab, before = bare
    directory = tmp_path_factory.mktemp("system")
    lab.setup("--backend", "flow")
    lab.add_flow(FOREIGN)
    tokens = Tokens(directory, HA, ["2001:db8:99::/64"], {"rt": f"{DPID:016x}"})
    settings = f"tokens_file = {tokens.controllers}\nagent_lease = {LEASE}\n"
    settings += f"idle_after = {IDLE_AFTER}\nread_back_every = {READ_BACK_EVERY}"
    token = tokens.file(OPERATOR).read_text().strip()
    with Controller(lab.ovs, directory, settings, host=MANAGEMENT_ROUTER, token=token) as controller:
        system = System(lab, controller, directory, tokens)
        try:
            yield system
            assert FOREIGN_COOKIE in lab.ovs.ofctl("dump-flows", BRIDGE), "a flow that is not the controller's is gone"
        finally:
            system.stop()
            lab.move("home")
    controller.assert_log_clean()
    lab.router("teardown", "--bridge", BRIDGE)
    assert lab.snapshot() == before


@pytest.fixture(autouse=True)
def on_link_1(system: System) -> None:
    """Have the mobile node on foreign link 1, its traffic direct."""
    system.go(1)


def test_registration_and_handover_go_direct_both_ways(system: System) -> None:
    assert system.controller.get(f"/v1/routers/{DPID:x}")["backend"] == "flow"
    assert system.goes_direct()
    system.go(2)
    assert system.goes_direct()
    assert system.binding_flows() == 2, "one to encapsulate and one to verify, those of the former care-of address gone"
    assert FOREIGN_COOKIE in system.lab.ovs.ofctl("dump-flows", BRIDGE)


def test_the_binding_counts_on_over_a_handover(system: System) -> None:
    def counted() -> int:
        routers = system.controller.get(f"/v1/bindings/{HOA}")["routers"]
        return int(routers[f"{DPID:016x}"]["packets"])

    system.goes_direct()
    wait_for("twenty packets are counted", lambda: counted() >= 20)
    before = counted()
    system.go(2)
    assert counted() >= before


def test_return_home_takes_the_flows_away(system: System) -> None:
    system.lab.move("home")
    wait_for("the binding is gone", lambda: system.binding() is None)
    wait_for("its flows are gone", lambda: system.binding_flows() == 0)
    wait_for("it is reached at home", lambda: " 0% packet loss" in system.lab.ping("cn", HOA))


@pytest.mark.parametrize(
    ("outer", "inner"),
    # No flow takes the first off, so it reaches the home agent, which knows the care-of address better.
    [(STRANGER, HOA), (care_of_address(1), OTHER_HOA)],
    ids=["wrong outer source", "wrong inner source"],
)
def test_spoofed_packets_do_not_pass(system: System, outer: str, inner: str) -> None:
    spoof = str(CHECKOUT / "topologies/spoof.py")
    listener = system.start("cn", "listener", spoof, "listen")
    listener.wait_for("event=ready", PATIENCE)
    for label, source, home_address in (("forged", outer, inner), ("genuine", care_of_address(1), HOA)):
        ends = ["--outer", source, HA, "--inner", home_address, CORRESPONDENT]
        system.lab.run("st", sys.executable, spoof, "send", *ends, "--label", label, "--count", "3")
    # The genuine ones were sent last, from the same place: what was to pass before them has passed.
    listener.wait_for(r"event=arrived .*label=genuine", PATIENCE)
    assert not [line for line in listener.lines if "label=forged" in line]
    listener.stop()


def test_the_home_agents_death_is_not_noticed(system: System) -> None:
    system.programs["home-agent"].kill()
    system.lab.ip("ha", "link", "set", "e0", "down")
    wait_for("it is known", lambda: "status=ha-down" in system.controller.log)
    end = time.monotonic() + LEASE + 2
    while time.monotonic() < end:
        assert " 0% packet loss" in system.lab.ping("cn", HOA)
    system.lab.ip("ha", "link", "set", "e0", "up")
    system.lab.ip("ha", "-6", "address", "replace", f"{HA_HOP}/64", "dev", "e0", "nodad")
    system.lab.ip("ha", "-6", "route", "replace", "default", "via", "2001:db8:10::1")
    system.start_home_agent().wait_for(r"event=started", PATIENCE)


def test_a_dead_controller_gives_the_traffic_back(system: System) -> None:
    system.controller.kill()
    try:
        wait_for("the gates are gone", lambda: system.gates() == 0)
        assert not system.goes_direct()
    finally:
        system.controller.start()


@pytest.fixture
def on_demand(system: System) -> Iterator[None]:
    """Let the router have flows of those bindings alone whose packets it sees; afterwards, of all of them again."""
    system.install("on-demand")
    wait_for("the switch tells of packets without flows", system.tells)
    yield
    system.install("everything")


@pytest.mark.usefixtures("on_demand")
def test_on_demand_the_first_packets_go_by_the_home_agent_and_none_is_lost(system: System) -> None:
    mobile_node = system.programs["mobile-node"]
    for link in (1, 2):
        # The second time, after a handover of which the router knows nothing, and its flows have gone before.
        if link == 2:
            since = mobile_node.mark()
            system.lab.move("f2")
            mobile_node.wait_for(rf'"event": "registered".*"{care_of_address(2)}"', PATIENCE, since)
        wait_for(f"no packet has come on link {link}", lambda: system.is_cold(link))  # noqa: B023
        assert system.ping() >= 4, "the first one each way comes to the home agent and leaves it"
        wait_for("the traffic goes direct", system.goes_direct)
        assert system.binding_flows() == 2, "one to encapsulate and one to verify"
        wait_for("what nobody sends to has no flows", lambda: system.is_cold(link))  # noqa: B023


def test_a_lifetime_ends(system: System) -> None:
    system.programs["mobile-node"].kill()
    mobile_node = system.start_mobile_node(SHORT_LIFETIME)
    mobile_node.wait_for(rf'"event": "registered".*"lifetime": {SHORT_LIFETIME}\b', PATIENCE)
    mobile_node.kill()
    wait_for("the binding is gone", lambda: system.binding() is None)
    wait_for("its flows are gone", lambda: system.binding_flows() == 0)
    # The last test: nobody needs the mobile node after it.
