# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Mobile IPv4 on the topology `mip4`."""

import re
import sys
from pathlib import Path
from typing import ClassVar

from topologies import addresses as at
from topologies.deployment import HOME, START_TIMEOUT, Deployment, keys_of
from topologies.processes import Process


class Mip4Deployment(Deployment):
    """Run home agent and bridge in node `ha`, the mobile node, whose care-of addresses are its own, in `mn`."""

    anchor: ClassVar[str] = at.ipv4(at.HOME_AGENT)
    anchored_prefix: ClassVar[str] = at.ipv4(at.HOME_PREFIX)
    home: ClassVar[str] = at.ipv4(at.HOME_ADDRESS)
    home_address: ClassVar[str] = at.ipv4(at.HOME_ADDRESS)
    correspondent: ClassVar[str] = at.ipv4(at.CORRESPONDENT)
    bridge_options: ClassVar[tuple[str, ...]] = ("--protocol", "mipv4", "--console", "127.0.0.1:7777")
    wrong_outer: ClassVar[str] = at.ipv4(at.STRANGER)
    wrong_inner: ClassVar[str] = at.ipv4("2001:db8:99::200")
    keys_file: ClassVar[str] = keys_of(home_address)

    def start_anchor(self, journal: Path | None = None) -> Process:
        """Start `hoaflow-ha` and wait until it serves; it has no use for a journal."""
        command = [sys.executable, "-m", "hoaflow.home_agent", "--protocol", "mipv4", "--home-agent", self.anchor]
        command += ["--home-prefix", self.anchored_prefix, "--home-link", "ha-home", "--keys", str(self.keys)]
        process = self.bed.start(self.anchor_program, [*command, "--log-addresses"], node=self.bed.topology.anchor)
        process.wait_for(r"event=started ", START_TIMEOUT)
        return process

    def start_mobile_node(self) -> list[Process]:
        """Start what registers the mobile node, and wait until it can register."""
        command = [sys.executable, "-m", "topologies.ipv4_mobile_node", "--home-address", f"{self.home_address}/24"]
        command += ["--home-agent", self.anchor, "--home-link", "mn-home", "--lifetime", str(self.lifetime)]
        for link in self.bed.topology.foreign_links:
            gateway = at.ipv4(at.foreign_gateway(link))
            command += ["--foreign-link", f"mn-f{link}={self.care_of_address(link)}/24,{gateway}"]
        process = self.bed.start("mobile-node", [*command, "--keys", str(self.keys)], node="mn")
        process.wait_for(r'"event": ?"moved"', START_TIMEOUT)
        return [process]

    def care_of_address(self, link: str | int) -> str:
        """Return the mobile node's care-of address on a link; at home, the home address."""
        return at.ipv4(super().care_of_address(link)) if link != HOME else self.home_address

    def acknowledgement(self, link: str | int) -> str:
        """Return what the home agent logs when it has accepted a move to a link, as a regular expression."""
        ended = f"home_address={self.home_address} care_of_address={self.care_of_address(link)} code=0 "
        return f"event=registration-reply-sent {re.escape(ended)}"
