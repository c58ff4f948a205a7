# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Mobile IPv6 on the topology `nemo`: the mobile node is a mobile router."""

import sys
from typing import Any, ClassVar

from topologies import addresses as at
from topologies.deployment import START_TIMEOUT, Deployment
from topologies.processes import Process


class NemoDeployment(Deployment):
    """Run a mobile router in node `mn`, and on request a mobile node in `visitor`."""

    mobile_networks: ClassVar[tuple[str, ...]] = (at.MOBILE_NETWORK,)
    keys_of: ClassVar[tuple[str, ...]] = (at.HOME_ADDRESS, at.VISITOR)

    def anchor_options(self) -> list[str]:
        """Return the option that lets the mobile router have its network."""
        table = self.bed.logs.parent / "mobile-networks.toml"
        table.write_text(f'"{at.HOME_ADDRESS}" = ["{at.MOBILE_NETWORK}"]\n')
        return ["--mobile-networks", str(table)]

    def mobile_node_options(self) -> list[str]:
        """Return the option that makes it a mobile router."""
        return ["--mobile-network", at.MOBILE_NETWORK]

    def start_visitor(self) -> Process:
        """Start the visitor, and wait until it can register. Attach it by its interfaces."""
        command = [sys.executable, "-m", "topologies.mobile_node", "--home-address", at.VISITOR]
        command += ["--home-agent", at.HOME_AGENT, "--home-link", "visitor-home", "--lifetime", str(self.lifetime)]
        link = f"visitor-net={at.VISITOR_CARE_OF_ADDRESS}/64,{at.MOBILE_NETWORK_GATEWAY}"
        process = self.bed.start(
            "visitor", [*command, "--foreign-link", link, "--keys", str(self.keys)], node="visitor"
        )
        process.wait_for(r'"event": ?"started"', START_TIMEOUT)
        return process

    def attach_visitor(self) -> None:
        """Take the visitor off its home link and attach it to the mobile network."""
        commands = "link set dev visitor-home down\nlink set dev visitor-net up\n"
        self.bed.run("ip", "-batch", "-", node="visitor", stdin=commands)

    def binding_of(self, home_address: str) -> dict[str, Any] | None:
        """Return the binding of a home address or mobile network as the controller reports it, else None."""
        (found,) = self.rest("GET", f"/v1/bindings?home_address={home_address}")["bindings"] or [None]
        return dict(found) if found else None
