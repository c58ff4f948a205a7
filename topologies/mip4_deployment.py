# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Mobile IPv4 on the topology `mip4`."""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

from topologies import addresses as at
from topologies.deployment import HOME, START_TIMEOUT, Deployment, keys_of
from topologies.processes import Process


class Mip4Deployment(Deployment):
    """Run home agent and bridge in node `ha`, the mobile nodes in `mn` and `mn2`, foreign agents in `fa1` and `fa2`."""

    anchor: ClassVar[str] = at.ipv4(at.HOME_AGENT)
    anchored_prefix: ClassVar[str] = at.ipv4(at.HOME_PREFIX)
    home: ClassVar[str] = at.ipv4(at.HOME_ADDRESS)
    home_address: ClassVar[str] = at.ipv4(at.HOME_ADDRESS)
    other_home_address: ClassVar[str] = at.ipv4(at.OTHER_HOME_ADDRESS)
    correspondent: ClassVar[str] = at.ipv4(at.CORRESPONDENT)
    bridge_options: ClassVar[tuple[str, ...]] = ("--protocol", "mipv4", "--console", "127.0.0.1:7777")
    wrong_outer: ClassVar[str] = at.ipv4(at.STRANGER)
    wrong_inner: ClassVar[str] = at.ipv4("2001:db8:99::200")
    keys_file: ClassVar[str] = keys_of(home_address) + keys_of(other_home_address)

    def start_anchor(self, journal: Path | None = None) -> Process:
        """Start `hoaflow-ha` and wait until it serves; it has no use for a journal."""
        command = [sys.executable, "-m", "hoaflow.home_agent", "--protocol", "mipv4", "--home-agent", self.anchor]
        command += ["--home-prefix", self.anchored_prefix, "--home-link", "ha-home", "--keys", str(self.keys)]
        process = self.bed.start(self.anchor_program, [*command, "--log-addresses"], node=self.bed.topology.anchor)
        process.wait_for(r"event=started ", START_TIMEOUT)
        return process

    def start_mobile_node(self) -> list[Process]:
        """Start foreign agents and what registers the mobile node, and wait until it can register."""
        return [start() for start in self.registrars().values()]

    def registrars(self) -> dict[str, Callable[[], Process]]:
        """Return how each program is started that registers the mobile node, by name."""
        numbers = self.bed.topology.agent_links
        agents: dict[str, Callable[[], Process]] = {f"fa{n}": partial(self._start_foreign_agent, n) for n in numbers}
        return agents | {"mobile-node": self._start_first_mobile_node}

    def _start_first_mobile_node(self) -> Process:
        options = ["--home-link", "mn-home"]
        for link in self.bed.topology.foreign_links:
            gateway = at.ipv4(at.foreign_gateway(link))
            options += ["--foreign-link", f"mn-f{link}={self.care_of_address(link)}/24,{gateway}"]
        for number in self.bed.topology.agent_links:
            options += ["--agent-link", f"mn-a{number}"]
        return self._start_mobile_node("mobile-node", "mn", self.home_address, *options)

    def start_other_mobile_node(self, *options: str) -> Process:
        """Start what registers the second mobile node, and wait until it can register."""
        own = ["--home-link", "mn2-home", "--agent-link", "mn2-a1", *options]
        return self._start_mobile_node("other-mobile-node", "mn2", self.other_home_address, *own)

    def _start_foreign_agent(self, number: int) -> Process:
        """Start `hoaflow-fa` and wait until it serves."""
        node = f"fa{number}"
        command = [sys.executable, "-m", "hoaflow.foreign_agent", "--care-of-address", self.care_of_address(node)]
        process = self.bed.start(node, [*command, "--access-link", f"{node}-link", "--log-addresses"], node=node)
        process.wait_for(r"event=started ", START_TIMEOUT)
        return process

    def links(self) -> dict[str | int, str]:
        """Return the mobile node's interface on each link: HOME, a foreign link's number, `faN` of a foreign agent."""
        return super().links() | {f"fa{number}": f"mn-a{number}" for number in self.bed.topology.agent_links}

    def care_of_address(self, link: str | int) -> str:
        """Return the mobile node's care-of address on a link; at home, the home address."""
        if str(link).startswith("fa"):
            return at.ipv4(at.foreign_agent(int(str(link)[2:])))
        return at.ipv4(super().care_of_address(link)) if link != HOME else self.home_address

    def acknowledgement(self, link: str | int) -> str:
        """Return what the home agent logs when it has accepted a move to a link, as a regular expression."""
        ended = f"home_address={self.home_address} care_of_address={self.care_of_address(link)} code=0 "
        return f"event=registration-reply-sent {re.escape(ended)}"

    def _start_mobile_node(self, name: str, node: str, home_address: str, *options: str) -> Process:
        command = [sys.executable, "-m", "topologies.ipv4_mobile_node", "--home-address", f"{home_address}/24"]
        command += ["--home-agent", self.anchor, "--lifetime", str(self.lifetime), "--keys", str(self.keys), *options]
        process = self.bed.start(name, command, node=node)
        process.wait_for(r'"event": ?"moved"', START_TIMEOUT)
        return process
