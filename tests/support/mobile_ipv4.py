# SPDX-License-Identifier: Apache-2.0
"""The network to roam in with IPv4 addresses: a home agent of Mobile IPv4, and a mobile node with co-located ones."""

from __future__ import annotations

from pathlib import Path

from tests.support.mobility import Lab, Node

HOME_AGENT4, HOME_PREFIX4, HOME_ADDRESS4 = "10.99.0.1", "10.99.0.0/24", "10.99.0.100"
CN4, HOST4, CARE_OF4_1, CARE_OF4_2 = "10.1.0.2", "10.99.0.200", "10.2.0.2", "10.3.0.2"
UPLINK4, UPLINK_HOP4 = "10.10.0.2", "10.10.0.1"
KEY = "686f61666c6f77206f6e6c7920696e2061206c61"


def key_file4(directory: Path, *tables: str) -> str:
    """Write a key file for the mobile node, with further lines for its table, and return its path."""
    file = directory / "keys4.toml"
    file.touch(mode=0o600)
    file.write_text("\n".join([f'["{HOME_ADDRESS4}"]\nspi = 256\nkey = "{KEY}"', *tables, ""]))
    return str(file)


class Ipv4Lab(Lab):
    """The namespaces with their IPv4 addresses."""

    def start_home_agent(self, *arguments: str) -> Node:
        """Start a home agent of Mobile IPv4."""
        own = ["--protocol", "mipv4", "--home-agent", HOME_AGENT4, "--home-prefix", HOME_PREFIX4, "--home-link", "hl"]
        own += ["--log-level", "debug", "--log-addresses"]
        return self._run_module("ha", "hoaflow.home_agent", [*own, *arguments])

    def mobile_node(self, *arguments: str) -> Node:
        """Start the mobile node."""
        own = ["--home-address", f"{HOME_ADDRESS4}/24", "--home-agent", HOME_AGENT4, "--home-link", "m0"]
        own += ["--foreign-link", f"m1={CARE_OF4_1}/24,10.2.0.1", "--foreign-link", f"m2={CARE_OF4_2}/24,10.3.0.1"]
        node = self._run_module("mn", "topologies.ipv4_mobile_node", [*own, *arguments])
        node.event("started")
        return node

    def _start(self) -> None:
        super()._start()
        self.run("rt", "sysctl -qw net.ipv4.ip_forward=1")
        for name, interface, address in (
            ("cn", "c0", CN4),
            ("rt", "r0", "10.1.0.1"),
            ("rt", "r9", UPLINK_HOP4),
            ("ha", "u0", UPLINK4),
            ("rt", "r1", "10.2.0.1"),
            ("rt", "r2", "10.3.0.1"),
            ("ha", "hl", HOME_AGENT4),
            ("hh", "e0", HOST4),
        ):
            self.run(name, f"ip address add {address}/24 dev {interface}")
        self.run("cn", "ip route add default via 10.1.0.1")
        self.run("ha", f"ip route add default via {UPLINK_HOP4} proto dhcp")
        self.run("hh", f"ip route add default via {HOME_AGENT4}")
        self.run("rt", f"ip route add {HOME_PREFIX4} via {UPLINK4}")
