# SPDX-License-Identifier: Apache-2.0
"""Mobile networks in Mininet (RFC 3963): a node behind a mobile router, and a mobile node that visits the network."""

from pathlib import Path

from tests.support.ping import echo
from tests.support.waiting import wait_for
from topologies import addresses as at
from topologies.deployment import HOME
from topologies.load import AnchorLoad
from topologies.nemo import NemoTopo
from topologies.nemo_deployment import NemoDeployment
from topologies.testbed import Testbed

COUNT = 10


class Net:
    """A running system and the questions that its operator would ask."""

    def __init__(self, bed: Testbed) -> None:
        self.bed, self.deployment = bed, NemoDeployment(bed, lifetime=60, lease=60)
        self.load = AnchorLoad(bed, home=f"{{ {at.MOBILE_NETWORK}, {at.OTHER_HOME_ADDRESS} }}")
        self.deployment.start_anchor()
        self.deployment.start_mobile_node()
        self.deployment.start_offload()

    def go(self, link: int) -> None:
        """Move the mobile router to a foreign link, and wait until the packets of its network go direct."""
        self.deployment.attach(link)
        for home in (at.HOME_ADDRESS, at.MOBILE_NETWORK):
            self.await_active(home, at.care_of_address(link))

    def await_active(self, home: str, care_of_address: str) -> None:
        """Wait until the binding of a home address or mobile network is active, with this care-of address."""
        wait_for(f"{home} is active at {care_of_address}", lambda: self._is_active(home, care_of_address))

    def by_home_agent(self, address: str) -> int:
        """Return how many packets passed the home agent while the CN and an address exchanged twice COUNT of them."""
        before = self.load.packets()
        assert int(self.bed.run(*echo(COUNT, address), node="cn")) == COUNT
        return self.load.packets() - before

    def _is_active(self, home: str, care_of_address: str) -> bool:
        found = self.deployment.binding_of(home)
        return found is not None and (found["state"], found["care_of_address"]) == ("active", care_of_address)


def test_a_node_in_a_mobile_network_is_reached_direct(tmp_path: Path) -> None:
    with Testbed(NemoTopo(), tmp_path / "logs") as bed:
        net = Net(bed)
        net.go(1)
        assert net.by_home_agent(at.MOBILE_NETWORK_NODE) == 0
        net.go(2)
        assert net.by_home_agent(at.MOBILE_NETWORK_NODE) == 0

        # What is for a mobile node that visits the network goes direct, in both tunnels, wherever the mobile router is.
        # What it sends is in a tunnel to the home agent when it comes out of the router's, and goes on there.
        net.deployment.start_visitor()
        net.await_active(at.OTHER_HOME_ADDRESS, at.MOBILE_NETWORK_NODE)
        assert net.by_home_agent(at.OTHER_HOME_ADDRESS) == COUNT
        net.go(1)
        assert net.by_home_agent(at.OTHER_HOME_ADDRESS) == COUNT

        net.deployment.attach(HOME)
        wait_for("the network's binding is gone", lambda: net.deployment.binding_of(at.MOBILE_NETWORK) is None)
        # At home, only the way to it leads over the home agent.
        assert net.by_home_agent(at.MOBILE_NETWORK_NODE) == COUNT
        assert bed.errors([r"connection (dropped|closed|failed)"]) == []
