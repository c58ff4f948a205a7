# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Mobile IPv6 on the topology `nemo`: the mobile node is a mobile router."""

from typing import ClassVar

from topologies import addresses as at
from topologies.deployment import Deployment


class NemoDeployment(Deployment):
    """Run a mobile router in node `mn`."""

    further_prefixes: ClassVar[tuple[str, ...]] = (at.MOBILE_NETWORK,)

    def anchor_options(self) -> list[str]:
        """Return the option that lets the mobile router have its network."""
        table = self.bed.logs.parent / "mobile-networks.toml"
        table.write_text(f'"{at.HOME_ADDRESS}" = ["{at.MOBILE_NETWORK}"]\n')
        return ["--mobile-networks", str(table)]

    def mobile_node_options(self) -> list[str]:
        """Return the option that makes it a mobile router."""
        return ["--mobile-network", at.MOBILE_NETWORK]
