# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Mobile IPv6 on the topology `nemo`: the mobile node is a mobile router."""

import sys
from typing import ClassVar

from topologies import addresses as at
from topologies.deployment import START_TIMEOUT, Deployment, keys_of
from topologies.processes import Process


class NemoDeployment(Deployment):
    """Run a mobile router in node `mn`, and a mobile node that visits its network in node `node` if asked to."""

    keys_file: ClassVar[str] = keys_of(at.HOME_ADDRESS) + keys_of(at.OTHER_HOME_ADDRESS)

    further_prefixes: ClassVar[tuple[str, ...]] = (at.MOBILE_NETWORK,)

    def anchor_options(self) -> list[str]:
        """Return the option that lets the mobile router have its network."""
        table = self.bed.logs.parent / "mobile-networks.toml"
        table.write_text(f'"{at.HOME_ADDRESS}" = ["{at.MOBILE_NETWORK}"]\n')
        return ["--mobile-networks", str(table)]

    def start_visitor(self) -> Process:
        """Start a mobile node of the same home agent in the mobile network, and wait until it is registered."""
        # It is away from its home link, which does not reach here.
        self.bed.run("ip", "link", "add", "node-home", "type", "veth", "peer", "name", "nobody", node="node")
        command = [sys.executable, "-m", "topologies.mobile_node", "--home-address", at.OTHER_HOME_ADDRESS]
        command += ["--home-agent", at.HOME_AGENT, "--home-link", "node-home", "--lifetime", "600"]
        command += ["--foreign-link", f"node-eth0={at.MOBILE_NETWORK_NODE}/64,{at.MOBILE_NETWORK_GATEWAY}"]
        visitor = self.bed.start("visitor", [*command, "--keys", str(self.keys)], node="node")
        visitor.wait_for(r'"event": ?"registered"', START_TIMEOUT)
        return visitor

    def mobile_node_options(self) -> list[str]:
        """Return the option that makes it a mobile router."""
        return ["--mobile-network", at.MOBILE_NETWORK]
