# SPDX-License-Identifier: Apache-2.0
"""The whole path with the `flow` backend: home agent, mobile node, bridge, controller and agent on a stock kernel.

Home agent and mobile node use the kernel's own ip6tnl devices, set as UMIP sets them.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import BRIDGE, DPID, HA, HA_HOP, HOA, OTHER_HOA, ROUTER, STRANGER, FlowLab
from tests.kernel.lab import CN as CORRESPONDENT
from tests.support.controller import OPENFLOW_PORT, Controller, wait_for
from tests.support.ovs import Ovs
from topologies.processes import Process
from topologies.tokens import OPERATOR, Tokens

CHECKOUT = Path(__file__).parents[2]
MANAGEMENT_ROUTER, MANAGEMENT_HOME_AGENT = "192.0.2.1", "192.0.2.2"
LEASE = 10  # seconds
LIFETIME, SHORT_LIFETIME = 60, 8  # seconds
PATIENCE = 120.0  # seconds: everything is slow under emulation
FOREIGN = "cookie=0x5,priority=500,tcp6,tp_dst=9 actions=drop"


def care_of_address(link: int) -> str:
    """The care-of address on foreign link 1 or 2."""
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
        for number, (node, name) in enumerate((("cn", "e0"), ("mn", "f1"), ("mn", "f2"), ("st", "e0")), start=1):
            self._link("rt", f"s{number}", node, name)
            self.ovs.vsctl("add-port", BRIDGE, f"s{number}", "--", "set", "interface", f"s{number}", "type=system")
        self._link("rt", "rha", "ha", "e0")
        self._link("rt", "mg0", "ha", "mg0")
        self._link("ha", "home0", "mn", "home")
        self.ip("rt", "link", "set", BRIDGE, "up")
        for node, device, address in (
            ("rt", BRIDGE, f"{ROUTER}/64"),
            ("rt", BRIDGE, "2001:db8:2::1/64"),
            ("rt", BRIDGE, "2001:db8:3::1/64"),
            ("rt", "rha", "2001:db8:10::1/64"),
            ("cn", "e0", f"{CORRESPONDENT}/64"),
            ("ha", "e0", f"{HA_HOP}/64"),
            ("ha", "home0", f"{HA}/64"),
            ("st", "e0", f"{STRANGER}/64"),
        ):
            self.ip(node, "-6", "address", "add", address, "dev", device, "nodad")
        self.ip("rt", "address", "add", f"{MANAGEMENT_ROUTER}/24", "dev", "mg0")
        self.ip("ha", "address", "add", f"{MANAGEMENT_HOME_AGENT}/24", "dev", "mg0")
        self.ip("cn", "-6", "route", "add", "default", "via", ROUTER)
        self.ip("st", "-6", "route", "add", "default", "via", "2001:db8:2::1")
        self.ip("ha", "-6", "route", "add", "default", "via", "2001:db8:10::1")
        self.ip("rt", "-6", "route", "add", "2001:db8:99::/64", "via", HA_HOP)
        for name in ("f1", "f2"):
            self.ip("mn", "link", "set", name, "down")

    def _link(self, first: str, first_name: str, second: str, second_name: str) -> None:
        peer = f"peer name {second_name} netns {self.names[second]}".split()
        self.ip(first, "link", "add", first_name, "type", "veth", *peer)
        self.ip(first, "link", "set", first_name, "up")
        self.ip(second, "link", "set", second_name, "up")

    def move(self, link: str) -> None:
        """Move the mobile node to a link: home, f1 or f2."""
        for name in ("home", "f1", "f2"):
            if name != link:
                self.ip("mn", "link", "set", name, "down")
        self.ip("mn", "link", "set", link, "up")

    def tunnel_packets_at_home_agent(self) -> int:
        """How many packets have passed the home agent's uplink."""
        found = re.findall(r"\n +\d+ +(\d+)", self.ip("ha", "-s", "link", "show", "e0"))
        return sum(map(int, found))


class System:
    """Everything that runs."""

    def __init__(self, lab: MobilityLab, controller: Controller, directory: Path, tokens: Tokens) -> None:
        self.lab = lab
        self.controller = controller
        self.directory = directory
        self.programs: dict[str, Process] = {}
        self.start_mobile_node(LIFETIME)
        self.start("rt", "agent", "-m", "router", "run", "--bridge", BRIDGE, "--controller", controller.url,
                   "--token-file", str(tokens.file("rt")), f"--db=unix:{lab.ovs.database}")  # fmt: skip
        self.start("ha", "bridge", "-m", "ha_bridge", "--controller", controller.url, "--home-agent", HA,
                   "--home-prefix", "2001:db8:99::/64", "--lease", str(LEASE),
                   "--token-file", str(tokens.file("bridge")))  # fmt: skip
        self.start_home_agent().wait_for(r"event=started", PATIENCE)

    def start_home_agent(self) -> Process:
        """Start the home agent."""
        command = ["--home-agent", HA, "--home-prefix", "2001:db8:99::/64", "--home-link", "home0", "--insecure"]
        return self.start("ha", "home-agent", "-m", "home_agent", *command)

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
        """The mobile node's binding as the controller has it."""
        answer = self.controller.call("GET", f"/v1/bindings/{HOA}")
        return answer.body if answer.status == 200 else None

    def go(self, link: int) -> None:
        """Move the mobile node to a foreign link and wait until its traffic goes direct."""
        self.lab.move(f"f{link}")
        wait_for(f"the binding is active on link {link}", lambda: self.is_active(link), PATIENCE)

    def is_active(self, link: int) -> bool:
        """Tells whether the binding with the link's care-of address is active."""
        found = self.binding()
        return bool(found and found["state"] == "active" and found["care_of_address"] == care_of_address(link))

    def goes_direct(self) -> bool:
        """Tells whether ten pings pass, and the home agent sees nothing of them."""
        before = self.lab.tunnel_packets_at_home_agent()
        assert " 0% packet loss" in self.lab.run("cn", "ping", "-c10", "-i0.1", "-W5", HOA, check=False)
        # Twenty in the tunnel and twenty out of it, if it did; a neighbour solicitation or two are no traffic.
        return self.lab.tunnel_packets_at_home_agent() - before < 10

    def gates(self) -> int:
        """How many gates are open."""
        return self.lab.ovs.ofctl("dump-flows", BRIDGE).count("goto_table:1")

    def binding_flows(self) -> int:
        """How many flows there are for bindings."""
        return sum("tun_ipv6" in flow for flow in self.lab.ovs.ofctl("dump-flows", BRIDGE).splitlines())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MobilityLab, dict[str, object]]]:
    """The network, and what is there before setup."""
    with Ovs(tmp_path_factory.mktemp("ovs"), datapath="system") as switch:
        with MobilityLab(switch) as lab:
            yield lab, lab.snapshot()
        switch.assert_log_clean()


@pytest.fixture(scope="module")
def system(bare: tuple[MobilityLab, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything runs, with the `flow` backend."""
    lab, before = bare
    directory = tmp_path_factory.mktemp("system")
    lab.setup("--backend", "flow")
    tokens = Tokens(directory, HA, ["2001:db8:99::/64"], {"rt": f"{DPID:016x}"})
    settings, token = f"tokens_file = {tokens.controllers}", tokens.file(OPERATOR).read_text().strip()
    with Controller(lab.ovs, directory, settings, host=MANAGEMENT_ROUTER, token=token) as controller:
        system = System(lab, controller, directory, tokens)
        try:
            yield system
        finally:
            system.stop()
            lab.move("home")
    controller.assert_log_clean()
    lab.router("teardown", "--bridge", BRIDGE)
    assert lab.snapshot() == before


@pytest.fixture(autouse=True)
def on_link_1(system: System) -> None:
    """The mobile node is on foreign link 1, its traffic direct."""
    system.go(1)


def test_registration_and_handover_go_direct_both_ways(system: System) -> None:
    assert system.controller.get(f"/v1/routers/{DPID:x}")["backend"] == "flow"
    assert system.goes_direct()
    system.lab.ovs.ofctl("add-flow", BRIDGE, FOREIGN)
    system.go(2)
    assert system.goes_direct()
    assert system.binding_flows() == 2, "one to encapsulate and one to verify, those of the former care-of address gone"
    assert "cookie=0x5," in system.lab.ovs.ofctl("dump-flows", BRIDGE)


def test_the_binding_counts_on_over_a_handover(system: System) -> None:
    def counted() -> int:
        routers = system.controller.get(f"/v1/bindings/{HOA}")["routers"]
        return int(routers[f"{DPID:016x}"]["packets"])

    system.goes_direct()
    wait_for("twenty packets are counted", lambda: counted() >= 20, PATIENCE)
    before = counted()
    system.go(2)
    assert counted() >= before


def test_return_home_takes_the_flows_away(system: System) -> None:
    system.lab.move("home")
    wait_for("the binding is gone", lambda: system.binding() is None, PATIENCE)
    wait_for("its flows are gone", lambda: system.binding_flows() == 0, PATIENCE)
    wait_for("it is reached at home", lambda: " 0% packet loss" in system.lab.ping("cn", HOA), PATIENCE)


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
    wait_for("it is known", lambda: "status=ha-down" in system.controller.log, PATIENCE)
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
        wait_for("the gates are gone", lambda: system.gates() == 0, LEASE + 2.0)
        assert not system.goes_direct()
    finally:
        system.controller.start()


def test_a_lifetime_ends(system: System) -> None:
    system.programs["mobile-node"].kill()
    mobile_node = system.start_mobile_node(SHORT_LIFETIME)
    mobile_node.wait_for(rf'"event": "registered".*"lifetime": {SHORT_LIFETIME}\b', PATIENCE)
    mobile_node.kill()
    wait_for("the binding is gone", lambda: system.binding() is None, SHORT_LIFETIME + PATIENCE)
    wait_for("its flows are gone", lambda: system.binding_flows() == 0, PATIENCE)
    # The last test: nobody needs the mobile node after it.
