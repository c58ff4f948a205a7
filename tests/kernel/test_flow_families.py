# SPDX-License-Identifier: Apache-2.0
"""The `flow` backend under a real controller and agent: each family of home addresses in tunnels of each family.

The home agent forwards nothing while that is seen, so what arrives went direct. Its end of the tunnels, and the mobile
node's, are the kernel's own devices (see tests.kernel.lab); registrations are reported to the REST API.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.kernel.lab import (
    BRIDGE,
    CN,
    COA,
    COA4,
    COA_2,
    DPID,
    HA,
    HA4,
    HA4_HOA,
    HOA,
    HOME_PREFIX4,
    HOME_PREFIXES,
    FlowLab,
)
from tests.support.checkout import CHECKOUT
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.frames import Tap, ends_of, packet_socket
from tests.support.ping import ping
from tests.support.router_lab import CN4, HOA4
from tests.support.waiting import wait_for
from topologies.processes import Process

COA4_2 = "10.2.0.3"
DUAL_HOA = "2001:db8:99::300"  # of a dual-stack mobile node, at the home agent HA4
LEASE, LONGEST = 60, 600  # seconds: of the agent, and of the home agents, which nobody renews
CONTENT = "686f61666c6f77"
SIT_TABLE = "79"


@dataclass(frozen=True, slots=True)
class Combination:
    """A home address, its correspondent, the home agent that has it, and the device of the mobile node's tunnel."""

    home_address: str
    correspondent: str
    home_agent: str
    device: str


FOUR_IN_FOUR = Combination(HA4_HOA, CN4, HA4, "t4")
FOUR_IN_SIX = Combination(HOA4, CN4, HA, "t6")
SIX_IN_SIX = Combination(HOA, CN, HA, "t6")
SIX_IN_FOUR = Combination(DUAL_HOA, CN, HA4, "t64")
DIRECT = (FOUR_IN_FOUR, FOUR_IN_SIX, SIX_IN_SIX)
FILTER = "add table inet t"  # may be there already
FORWARDS_NOTHING = f"{FILTER}; add chain inet t f {{ type filter hook forward priority 0; policy drop; }}"


class System:
    """The lab's router under a controller and an agent."""

    def __init__(self, lab: FlowLab, controller: Controller) -> None:
        self.lab = lab
        self.controller = controller
        self.number = 0xE8F0_0000_8000_0000  # an identification: seconds since 1900, and parts of a second

    def register(self, combination: Combination, care_of_address: str) -> None:
        """Report a registration of the combination's protocol."""
        self.number += 1
        order: dict[str, Any] = {"sequence": self.number & 0xFFFF}
        if combination is FOUR_IN_FOUR:
            order = {"protocol": "mipv4", "identification": self.number, "reverse_tunnel": True}
        body = {
            "home_address": combination.home_address,
            "care_of_address": care_of_address,
            "home_agent": combination.home_agent,
            "lifetime": 600,
        }
        assert self.controller.call("POST", "/v1/bindings", body | order).status in (200, 201)

    def binding(self, combination: Combination) -> dict[str, Any]:
        """Return the binding as the controller lists it."""
        found: list[dict[str, Any]] = self.controller.get(f"/v1/bindings?home_address={combination.home_address}")[
            "bindings"
        ]
        return found[0]

    def await_state(self, combination: Combination, state: str, care_of_address: str) -> None:
        """Wait until the binding has that state with the care-of address."""

        def reached() -> bool:
            found = self.binding(combination)
            return (found["state"], found["care_of_address"]) == (state, care_of_address)

        wait_for(f"{combination.home_address} is {state} at {care_of_address}", reached)

    def answers(self, node: str, *arguments: str) -> bool:
        """Ping once; fails to be answered now and then, as an emulated switch may lose a connection's first packet."""
        return "1 received" in self.lab.run(node, *ping(1, 5, *arguments), check=False)

    def reached_both_ways(self, combination: Combination) -> None:
        """Wait until correspondent and mobile node have an answer, each to its own requests."""
        home_address, correspondent = combination.home_address, combination.correspondent
        wait_for(f"{home_address} answers", lambda: self.answers("cn", home_address))
        wait_for(f"{correspondent} answers", lambda: self.answers("mn", "-I", home_address, correspondent))

    def ends(self, combination: Combination) -> list[tuple[str, str]]:
        """Return the ends of all headers, as they come to the mobile node, of what its correspondent sends."""
        with packet_socket(self.lab.names["mn"], "e0") as listener:
            self.lab.run("cn", *ping(1, 5, "-p", CONTENT, combination.home_address))
            return ends_of(Tap(listener).await_frames(bytes.fromhex(CONTENT), 1)[0])


def move_tunnels(lab: FlowLab, care_of_address: str, care_of_address4: str) -> None:
    """Have the mobile node's tunnels begin at these addresses."""
    lab.ip_batch(
        "mn",
        f"link set t4 type ipip local {care_of_address4} remote {HA4}",
        f"link set t6 type ip6tnl local {care_of_address} remote {HA}",
    )


@pytest.fixture(scope="module")
def tunnels(lab: FlowLab) -> Iterator[None]:
    """Give the mobile node a second care-of address of each family, and a tunnel for IPv6 in IPv4."""
    lab.ip("mn", "address", "add", f"{COA4_2}/24", "dev", "e0")
    lab.ip("mn", "address", "add", f"{COA_2}/64", "dev", "e0", "nodad")
    for node, local, remote in (("ha", HA4, COA4), ("mn", COA4, HA4)):
        lab.ip_batch(node, f"link add t64 type sit local {local} remote {remote}", "link set t64 up")
    lab.ip("ha", "-6", "route", "add", f"{DUAL_HOA}/128", "dev", "t64")
    lab.ip_batch(
        "mn",
        f"address add {DUAL_HOA}/128 dev t64 nodad",
        f"route add ::/0 dev t64 table {SIT_TABLE}",
    )
    rule = ("from", DUAL_HOA, "lookup", SIT_TABLE, "pref", "40")
    lab.ip("mn", "-6", "rule", "add", *rule)
    yield
    # The network is every file's: as it was.
    lab.run("ha", "nft", f"{FILTER}; delete table inet t")
    lab.ip("mn", "-6", "rule", "del", *rule)
    for node in ("ha", "mn"):
        lab.ip(node, "link", "del", "t64")
    move_tunnels(lab, COA, COA4)
    lab.ip("mn", "address", "del", f"{COA4_2}/24", "dev", "e0")
    lab.ip("mn", "address", "del", f"{COA_2}/64", "dev", "e0")


@pytest.fixture(scope="module")
def system(lab: FlowLab, tunnels: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Provide it with both home agents known."""
    directory = tmp_path_factory.mktemp("families")
    lab.setup("--home-agent", HA4)
    lab.setup("--home-agent", HA)
    with Controller(lab.ovs, directory, f"agent_lease = {LEASE}\nlongest_lease = {LONGEST}") as controller:
        lab.ovs.vsctl("set-controller", BRIDGE, f"tcp:127.0.0.1:{OPENFLOW_PORT}")
        command = [sys.executable, "-m", "hoaflow.router", "run", "--bridge", BRIDGE, "--controller", controller.url]
        log = directory / "agent.log"
        agent = Process("agent", [*command, f"--db=unix:{lab.ovs.database}"], log, lab.enter("rt"), CHECKOUT)
        try:
            for home_agent, prefixes in ((HA4, [HOME_PREFIX4, HOME_PREFIXES[0]]), (HA, list(HOME_PREFIXES))):
                known = {"home_prefixes": prefixes, "lease": LONGEST, "protocols": ["mipv4", "mipv6"], "group": "home"}
                controller.put(f"/v1/home-agents/{home_agent}", known)
                controller.put(f"/v1/home-agents/{home_agent}/bindings", {"bindings": []})
            yield System(lab, controller)
        finally:
            agent.stop()
            lab.ovs.vsctl("del-controller", BRIDGE)
            lab.forget_flows()
    controller.assert_log_clean()
    lab.router("teardown", "--bridge", BRIDGE)
    lab.home()


def test_what_the_kernel_can_carry_goes_direct_through_a_handover_and_6_in_4_stays_with_its_home_agent(
    system: System,
) -> None:
    lab = system.lab
    first, second = {4: COA4, 6: COA}, {4: COA4_2, 6: COA_2}

    def care_of_address(combination: Combination, addresses: dict[int, str]) -> str:
        return addresses[6 if ":" in combination.home_agent else 4]

    for combination in (*DIRECT, SIX_IN_FOUR):
        system.register(combination, care_of_address(combination, first))
    for combination in DIRECT:
        system.await_state(combination, "active", care_of_address(combination, first))
    assert system.controller.get(f"/v1/routers/{DPID:x}")["backend"] == "flow"

    # With the flow backend no router's kernel takes IPv6 out of IPv4: that is said, and nothing is lost by it.
    system.await_state(SIX_IN_FOUR, "pending", COA4)
    why = system.controller.get(f"/v1/bindings/{DUAL_HOA}/explain")
    assert "carries no IPv6 in IPv4: a router with the route backend does" in str(why)
    system.reached_both_ways(SIX_IN_FOUR)

    lab.run("ha", "nft", FORWARDS_NOTHING)
    assert not system.answers("cn", DUAL_HOA), "the home agent forwards nothing"
    for addresses in (first, second):
        if addresses is second:
            move_tunnels(lab, COA_2, COA4_2)
        for combination in DIRECT:
            own = care_of_address(combination, addresses)
            if addresses is second:
                system.register(combination, own)
                system.await_state(combination, "active", own)
            system.reached_both_ways(combination)
            inner = (combination.correspondent, combination.home_address)
            assert system.ends(combination) == [(combination.home_agent, own), inner]
