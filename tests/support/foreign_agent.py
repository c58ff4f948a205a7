# SPDX-License-Identifier: Apache-2.0
"""The network to roam in with IPv4 addresses, and a foreign agent with two mobile nodes on its access link.

rt --- fa === access link (bridge acc: mn's m3, mn2's n3)
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tests.support.mobile_ipv4 import HOME_ADDRESS4, HOME_AGENT4, KEY, Ipv4Lab
from tests.support.mobility import NAMES, Node

CARE_OF_FA, ACCESS_FA, FA_HOP = "10.4.0.2", "10.5.0.1", "10.4.0.1"
OTHER_HOME_ADDRESS4 = "10.99.0.101"
METRICS = "127.0.0.1:9109"


def key_files4(directory: Path) -> str:
    """Write a key file for both mobile nodes and return its path."""
    file = directory / "keys4.toml"
    file.touch(mode=0o600)
    file.write_text("".join(f'["{home}"]\nspi = 256\nkey = "{KEY}"\n' for home in (HOME_ADDRESS4, OTHER_HOME_ADDRESS4)))
    return str(file)


class ForeignAgentLab(Ipv4Lab):
    """The namespaces, with a foreign agent's."""

    names: ClassVar[tuple[str, ...]] = (*NAMES, "fa", "mn2")

    def foreign_agent(self, *arguments: str) -> Node:
        """Start the foreign agent and wait until it serves."""
        own = ["--care-of-address", CARE_OF_FA, "--access-link", "acc", "--metrics", METRICS]
        own += ["--advertise-interval", "1", "--log-level", "debug", "--log-addresses"]
        node = self._run_module("fa", "hoaflow.foreign_agent", [*own, *arguments])
        node.logged("event=started")
        return node

    def visitor(self, namespace: str, home_address: str, interface: str, *arguments: str) -> Node:
        """Start a mobile node on the foreign agent's link, and wait until it has registered there."""
        node = self.start_visitor(namespace, home_address, interface, *arguments)
        node.event("registered")
        return node

    def start_visitor(self, namespace: str, home_address: str, interface: str, *arguments: str) -> Node:
        """Start a mobile node on the foreign agent's link."""
        own = ["--home-address", f"{home_address}/24", "--home-agent", HOME_AGENT4, "--agent-link", interface]
        return self._run_module(namespace, "topologies.ipv4_mobile_node", [*own, *arguments])

    def _start(self) -> None:
        super()._start()
        self._veth("fa", "u1", "rt", "r3")
        self._veth("mn", "m3", "fa", "a1")
        self._veth("mn2", "n3", "fa", "a2")
        self.run("fa", "ip link add acc type bridge mcast_snooping 0")
        for port in ("a1", "a2"):
            self.run("fa", f"ip link set {port} master acc")
        self.run("fa", "ip link set acc up")
        for name, interface, address in (("fa", "u1", CARE_OF_FA), ("rt", "r3", FA_HOP), ("fa", "acc", ACCESS_FA)):
            self.run(name, f"ip address add {address}/24 dev {interface}")
        self.run("fa", f"ip route add default via {FA_HOP} proto dhcp")
        self.run("rt", f"ip route add 10.5.0.0/24 via {CARE_OF_FA}")
