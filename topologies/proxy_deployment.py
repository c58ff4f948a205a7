# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Proxy Mobile IPv6 on the topology `proxy`."""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

from topologies import addresses as at
from topologies.deployment import EVENT_TIMEOUT, START_TIMEOUT, Deployment
from topologies.processes import Process

MOBILE_NODE = "mn@example.org"
# Of this emulation only: each gateway shares one with the anchor.
KEY = "686f61666c6f77206f6e6c7920696e2061206c61"
# Seconds. All have the same clock, but a busy machine may let a message wait.
WINDOW = "3"


class ProxyDeployment(Deployment):
    """Run the anchor and its bridge in node `lma`, a gateway in each of `mag1` and `mag2`, nothing in `mn`."""

    anchor_name: ClassVar[str] = "LMA"
    anchor_program: ClassVar[str] = "lma"
    anchor: ClassVar[str] = at.ANCHOR
    anchored_prefix: ClassVar[str] = at.ANCHORED_PREFIX
    home: ClassVar[str] = at.HOME_NETWORK_PREFIX
    home_address: ClassVar[str] = at.MOBILE_NODE_ADDRESS
    bridge_options: ClassVar[tuple[str, ...]] = ("--protocol", "pmipv6", "--home-network-prefix-length", "64")
    unsent_is_lost: ClassVar[bool] = False
    prefixes: ClassVar[tuple[str, ...]] = (at.HOME_NETWORK_PREFIX,)
    """The mobile node's home network prefixes."""
    first_link: ClassVar[int] = 2
    wrong_outer: ClassVar[str] = at.care_of_address(2)
    wrong_inner: ClassVar[str] = "2001:db8:f1:2::200"

    def start_anchor(self, journal: Path | None = None) -> Process:
        """Start `hoaflow-lma` and wait until it serves; it has no use for a journal."""
        gateways = [at.care_of_address(number) for number in self.bed.topology.foreign_links]
        command = [sys.executable, "-m", "hoaflow.local_mobility_anchor", "--local-mobility-anchor", self.anchor]
        command += ["--home-prefix", self.anchored_prefix, *self._common("lma", gateways)]
        process = self.bed.start(self.anchor_program, command, node="lma")
        process.wait_for(r"event=started ", START_TIMEOUT)
        return process

    def start_mobile_node(self) -> list[Process]:
        """Start a `hoaflow-mag` on each gateway, and attach the mobile node to the last one."""
        gateways = [self._start_gateway(number) for number in self.bed.topology.foreign_links]
        self.attach(self.first_link)
        gateways[self.first_link - 1].wait_for("event=served ", EVENT_TIMEOUT)
        return gateways

    def registrars(self) -> dict[str, Callable[[], Process]]:
        """Return how each gateway's program is started, by name."""
        return {f"mag{number}": partial(self._start_gateway, number) for number in self.bed.topology.foreign_links}

    def links(self) -> dict[str | int, str]:
        """Return the mobile node's interface to each gateway, by its number."""
        return {number: f"mn-f{number}" for number in self.bed.topology.foreign_links}

    def acknowledgement(self, link: str | int) -> str:
        """Return what the anchor logs when it has acknowledged a move to a link, as a regular expression."""
        ended = f"mobile_node={MOBILE_NODE} gateway={at.care_of_address(int(link))} status=0 "
        return f"event=binding-ack-sent {re.escape(ended)}"

    def _start_gateway(self, number: int) -> Process:
        node = f"mag{number}"
        command = [sys.executable, "-m", "hoaflow.mobile_access_gateway"]
        command += ["--mobile-access-gateway", at.care_of_address(number), "--local-mobility-anchor", self.anchor]
        command += ["--access-link", f"{node}-mn", "--lifetime", str(self.lifetime), *self._common(node, [self.anchor])]
        process = self.bed.start(node, command, node=node)
        process.wait_for(r"event=started ", START_TIMEOUT)
        return process

    def _common(self, name: str, peers: list[str]) -> list[str]:
        """Return the options that anchor and gateways have in common, and write their files."""
        keys, nodes = self.bed.logs.parent / f"keys-{name}.toml", self.bed.logs.parent / "mobile-nodes.toml"
        keys.touch(mode=0o600)
        keys.write_text("".join(f'["{peer}"]\nspi = 256\nkey = "{KEY}"\n' for peer in peers))
        prefixes = ", ".join(f'"{prefix}"' for prefix in self.prefixes)
        nodes.write_text(f'["{MOBILE_NODE}"]\nprefixes = [{prefixes}]\nlink_layer_address = "{at.MOBILE_NODE_MAC}"\n')
        files = ["--keys", str(keys), "--mobile-nodes", str(nodes)]
        return [*files, "--timestamp-window", WINDOW, "--log-addresses"]
