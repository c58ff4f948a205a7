# SPDX-License-Identifier: Apache-2.0
"""The network to roam in with IPv4 besides, but for the foreign links, which have IPv6 only (RFC 5555)."""

from tests.support.checkout import CHECKOUT
from tests.support.mobility import Lab, Node

HOME_AGENT, IPV4_HOME_ADDRESS = "10.99.0.1", "10.99.0.100"
CN, HOST, UPLINK = "10.1.0.2", "10.99.0.200", "10.10.0.2"

TABLE = CHECKOUT / "tests/data/ipv4-home-addresses.toml"
OPTIONS = ("--ipv4-home-agent", f"{HOME_AGENT}/24", "--ipv4-home-addresses", str(TABLE))
NODE_OPTIONS = ("--ipv4-home-address", f"{IPV4_HOME_ADDRESS}/24,{HOME_AGENT}")


class DualStackLab(Lab):
    """The lab with IPv4 addresses. `dual_stack_home_agent` and `dual_stack_node` start the programs."""

    def dual_stack_home_agent(self, *arguments: str) -> Node:
        """Start a home agent that lets the mobile node have an IPv4 home address."""
        return self.home_agent("--insecure", *OPTIONS, *arguments)

    def dual_stack_node(self, *arguments: str) -> Node:
        """Start the mobile node with an IPv4 home address."""
        return self.mobile_node("--insecure", *NODE_OPTIONS, *arguments)

    def _start(self) -> None:
        super()._start()
        for name, address, interface in (
            ("cn", CN, "c0"),
            ("rt", "10.1.0.1", "r0"),
            ("rt", "10.10.0.1", "r9"),
            ("ha", UPLINK, "u0"),
            ("hh", HOST, "e0"),
        ):
            self.run(name, f"ip address add {address}/24 dev {interface}")
        for name in ("rt", "ha"):
            self.run(name, "sysctl -qw net.ipv4.ip_forward=1")
        self.run("cn", "ip route add default via 10.1.0.1")
        self.run("rt", f"ip route add 10.99.0.0/24 via {UPLINK}")
        self.run("ha", "ip route add default via 10.10.0.1 proto dhcp")  # whose protocol number is ours, too
        self.run("hh", f"ip route add default via {HOME_AGENT}")
