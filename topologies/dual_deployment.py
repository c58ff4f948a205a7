# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Mobile IPv6 on the topology `dual`: the mobile node has an IPv4 home address, too (RFC 5555)."""

from typing import ClassVar

from topologies import addresses as at
from topologies.deployment import Deployment


class DualDeployment(Deployment):
    """Run a dual-stack mobile node in node `mn`."""

    ipv4_home_address: ClassVar[str] = at.ipv4(at.HOME_ADDRESS)
    ipv4_home_agent: ClassVar[str] = at.ipv4(at.HOME_AGENT)
    further_prefixes: ClassVar[tuple[str, ...]] = (at.ipv4(at.HOME_PREFIX),)

    def anchor_options(self) -> list[str]:
        """Return the options that let the mobile node have its IPv4 home address."""
        table = self.bed.logs.parent / "ipv4-home-addresses.toml"
        table.write_text(f'"{at.HOME_ADDRESS}" = "{self.ipv4_home_address}"\n')
        return ["--ipv4-home-agent", f"{self.ipv4_home_agent}/24", "--ipv4-home-addresses", str(table)]

    def mobile_node_options(self) -> list[str]:
        """Return the option that gives it an IPv4 home address."""
        return ["--ipv4-home-address", f"{self.ipv4_home_address}/24,{self.ipv4_home_agent}"]
