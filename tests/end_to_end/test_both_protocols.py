# SPDX-License-Identifier: Apache-2.0
"""Mobile IPv6 and Proxy Mobile IPv6 together (RFC 6612), all of it real: one network for the RFC's three scenarios.

    cn ──── r1 ─┐         ┌─ slow ── lma
                ├── core ─┤
    mn ─ mag1 ─ r2        └───────── ha
    (or) ────── r3

The mobile node has two home network prefixes, and moves from its gateway's link to one without a gateway. Home agent
and LMA share a prefix. The core routes all home addresses to the LMA, which has none of the home agent's bindings: what
arrives at a home address of Mobile IPv6 went direct.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.frames import Tap, ends_of, packet_socket
from tests.support.ping import echo
from tests.support.waiting import wait_for
from topologies import addresses as at
from topologies.base import Attachment
from topologies.deployment import EVENT_TIMEOUT, REST, START_TIMEOUT
from topologies.load import AnchorLoad
from topologies.nodes import IpNode
from topologies.ovs_router import BRIDGE, USER
from topologies.processes import Process
from topologies.proxy import ProxyTopo
from topologies.proxy_deployment import KEY, ProxyDeployment
from topologies.testbed import Testbed

FIRST_PREFIX, SECOND_PREFIX = at.HOME_NETWORK_PREFIX, "2001:db8:f1:2::/64"
FIRST, SECOND = at.MOBILE_NODE_ADDRESS, "2001:db8:f1:2:0:ff:fe00:a01"  # of the mobile node, at its gateway
HOME_AGENT, HOME_PREFIX, HOME_ADDRESS = "2001:db8:f1:3::1", "2001:db8:f1:2::/63", "2001:db8:f1:3::100"
MAG, AWAY = at.care_of_address(1), at.care_of_address(2)
HA_NUMBER, HA_MANAGEMENT = 8, "192.0.2.3"
LMA, CN = at.ANCHOR, at.CORRESPONDENT
LIFETIME = 12  # seconds, of a registration whose end is waited for
SEND = "import socket, sys; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'counted', (sys.argv[1], 9))"


class BothTopo(ProxyTopo):
    """The topology `proxy` with a home agent, and with a link without a gateway instead of the second gateway."""

    foreign_links = (1,)

    def build(self, datapath: str = USER, delay: float = 5.0) -> None:
        self.datapath = datapath
        self.add_end_nodes()
        self.add_core(float(delay), at.ANCHORED_PREFIX, f"{LMA}/128")
        self.add_home_agent()
        self.add_edge_router(1, at.CORRESPONDENT_GATEWAY, Attachment("cn", "cn-eth0"))
        self.add_edge_router(
            2, at.foreign_gateway(1), Attachment("mag1", "mag1-up"), Attachment("stranger", "stranger-eth0")
        )
        self.add_edge_router(3, at.foreign_gateway(2), Attachment("mn", "mn-away"))

    def add_home_agent(self) -> None:
        """Add it beside the core, whose routes lead to it for its own address only."""
        self.addHost(
            "ha",
            cls=IpNode,
            address=HOME_AGENT,
            addresses={
                "ha-core": [f"{at.router_side(HA_NUMBER)}/64"],
                "ha-mgmt": [f"{HA_MANAGEMENT}/{at.MANAGEMENT_PREFIX_LENGTH}"],
            },
            routes={"default": at.core_side(HA_NUMBER)},
            forwarding=True,
        )
        self.link("core", "core-ha", "ha", "ha-core")
        self.link("mgmt", "mgmt-ha", "ha", "ha-mgmt")
        core = self.nodeInfo("core")
        core["addresses"]["core-ha"] = [f"{at.core_side(HA_NUMBER)}/64"]
        core["routes"][f"{HOME_AGENT}/128"] = at.router_side(HA_NUMBER)
        # Its address lies in the LMA's prefix, all the rest of which is unreachable there.
        self.nodeInfo("lma")["routes"][f"{HOME_AGENT}/128"] = at.core_side(9)
        self.nodeInfo("mn")["down"].append("mn-away")


class BothDeployment(ProxyDeployment):
    """LMA and gateway as always, and a home agent with a bridge of its own that shares the LMA's prefix."""

    bridge_options: ClassVar[tuple[str, ...]] = (*ProxyDeployment.bridge_options, "--group", "campus")
    prefixes: ClassVar[tuple[str, ...]] = (FIRST_PREFIX, SECOND_PREFIX)
    first_link: ClassVar[int] = 1
    other_clients: ClassVar[Mapping[str, str]] = {
        "ha-bridge": f'may = "bridge"\nhome_agent = "{HOME_AGENT}"\nhome_prefixes = ["{HOME_PREFIX}"]\n'
    }

    def start_anchor(self, journal: Path | None = None) -> Process:
        """Start the home agent, too."""
        self.keys.write_text("".join(f'["{each}"]\nspi = 256\nkey = "{KEY}"\n' for each in (HOME_ADDRESS, SECOND)))
        home = "link add ha-home type veth peer name ha-end\nlink set ha-end up\nlink set ha-home up\n"
        self.bed.run("ip", "-batch", "-", node="ha", stdin=home)
        command = [sys.executable, "-m", "hoaflow.home_agent", "--home-agent", HOME_AGENT, "--log-addresses"]
        command += ["--home-prefix", HOME_PREFIX, "--home-link", "ha-home", "--keys", str(self.keys)]
        self.bed.start("home-agent", command, node="ha").wait_for("event=started ", START_TIMEOUT)
        return super().start_anchor(journal)

    def set_up_routers(self) -> dict[str, str]:
        """Set up endpoints for both anchors."""
        reasons = super().set_up_routers()
        for router in self.routers:
            command = [sys.executable, "-m", "hoaflow.router", "setup", "--bridge", BRIDGE, "--home-agent", HOME_AGENT]
            self.bed.run(*command, node=router)
        return reasons

    def start_bridge(self) -> Process:
        """Start the home agent's bridge, too."""
        command = [sys.executable, "-m", "ha_bridge", "--controller", REST, "--home-agent", HOME_AGENT]
        command += ["--home-prefix", HOME_PREFIX, "--lease", str(self.lease), "--renew", str(self.lease * 0.3)]
        command += ["--group", "campus", "--log-addresses", "--token-file", str(self.tokens.file("ha-bridge"))]
        self.bed.start("ha-bridge", command, node="ha")
        return super().start_bridge()

    def start_host(self, home_address: str, lifetime: int, link: str, care_of_address: str, gateway: str) -> Process:
        """Have the mobile node register a home address itself, from one of its links."""
        command = [sys.executable, "-m", "topologies.mobile_node", "--home-address", home_address]
        command += ["--home-agent", HOME_AGENT, "--home-link", "mn-home", "--lifetime", str(lifetime)]
        command += ["--foreign-link", f"{link}={care_of_address}/64,{gateway}", "--keys", str(self.keys)]
        process = self.bed.start("mobile-node", command, node="mn")
        process.wait_for('"event": "registered"', EVENT_TIMEOUT)
        return process


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[BothDeployment]:
    """Provide the network with the mobile node at its gateway, its two prefixes direct."""
    with Testbed(BothTopo(), tmp_path / "logs") as bed:
        deployment = BothDeployment(bed, lease=60)
        # Where it never is: its home link's interface stays down.
        bed.run("ip", "link", "add", "mn-home", "type", "veth", "peer", "name", "mn-end", node="mn")
        deployment.start_anchor()
        deployment.start_mobile_node()
        deployment.start_offload()
        yield deployment
        assert not bed.errors()


def goes(deployment: BothDeployment, home: str, care_of_address: str) -> None:
    """Wait until the packets for a home address or prefix go straight to a care-of address."""

    def does() -> bool:
        found = deployment.rest("GET", f"/v1/bindings?home_address={home}")["bindings"]
        active = {each["home_address"]: each["care_of_address"] for each in found if each["state"] == "active"}
        return active.get(home) == care_of_address

    wait_for(f"{home} goes to {care_of_address}", does)


def seen(deployment: BothDeployment, address: str, node: str, interface: str) -> list[tuple[str, str]]:
    """Send a packet from the correspondent node; return the ends of all its headers as it comes to a node."""
    bed = deployment.bed
    with packet_socket(bed.namespace(node), interface) as listener:
        bed.run(sys.executable, "-c", SEND, address, node="cn")
        (frame,) = Tap(listener).await_frames(b"counted", 1)
    return ends_of(frame)


def test_the_scenarios_of_both_protocols_together(deployment: BothDeployment) -> None:
    bed = deployment.bed
    load = AnchorLoad(bed, LMA, at.ANCHORED_PREFIX)

    def answered(*addresses: str) -> list[int]:
        """Return how many of three echo requests to each address were answered, and what of it the LMA has seen."""
        before = load.packets()
        return [*(int(bed.run(*echo(3, each), node="cn")) for each in addresses), load.packets() - before]

    goes(deployment, FIRST_PREFIX, MAG)
    goes(deployment, SECOND_PREFIX, MAG)
    wait_for("it has its addresses", lambda: SECOND in bed.run("ip", "-6", "address", node="mn"))
    assert answered(FIRST, SECOND) == [3, 3, 0]

    # A.1: Proxy Mobile IPv6 manages the care-of address of Mobile IPv6. A.2: meanwhile others use one of them only.
    deployment.start_host(HOME_ADDRESS, 600, "mn-f1", FIRST, "fe80::1")
    goes(deployment, HOME_ADDRESS, FIRST)
    assert seen(deployment, HOME_ADDRESS, "mag1", "mag1-up") == [(LMA, MAG), (HOME_AGENT, FIRST), (CN, HOME_ADDRESS)]
    assert seen(deployment, SECOND, "mag1", "mag1-up") == [(LMA, MAG), (CN, SECOND)]
    assert answered(HOME_ADDRESS) == [3, 0]
    bed.stop("mobile-node")

    # B: a home address of the prefix goes where no gateway is, and registers itself there.
    bed.run("ip", "-batch", "-", node="mn", stdin="link set mn-f1 down\nlink set mn-away up\n")
    deployment.start_host(SECOND, LIFETIME, "mn-away", AWAY, at.foreign_gateway(2))
    goes(deployment, SECOND, AWAY)
    assert seen(deployment, SECOND, "mn", "mn-away") == [(HOME_AGENT, AWAY), (CN, SECOND)]
    assert answered(SECOND) == [3, 0]

    # It comes back to its gateway. Its own registration is on top of the prefix until it ends.
    bed.stop("mobile-node")
    bed.run("sysctl", "-qw", "net.ipv6.conf.mn-f1.accept_ra=1", node="mn")
    bed.run("ip", "-batch", "-", node="mn", stdin="link set mn-away down\nlink set mn-f1 up\n")
    goes(deployment, SECOND_PREFIX, MAG)
    wait_for(
        "its own registration has ended",
        lambda: deployment.rest("GET", f"/v1/bindings?home_address={SECOND}")["bindings"] == [],
    )
    wait_for("it is reached at its gateway", lambda: answered(SECOND) == [3, 0])
    assert seen(deployment, SECOND, "mag1", "mag1-up") == [(LMA, MAG), (CN, SECOND)]
