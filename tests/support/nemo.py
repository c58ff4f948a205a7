# SPDX-License-Identifier: Apache-2.0
"""The network to roam in with a mobile router in place of the mobile node, and a node `nn` behind it (RFC 3963)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.support.mobility import HOME_ADDRESS, HOME_AGENT, NAMES, UPLINK, Lab, Node

NETWORK, OTHER_NETWORK = "2001:db8:aa:1::/64", "2001:db8:aa:2::/64"
ROUTER_SIDE, NODE = "2001:db8:aa:1::1", "2001:db8:aa:1::100"
VISITOR = "2001:db8:99::101"
"""The home address of a mobile node that visits the mobile network."""


def prefix_table(directory: Path, table: Mapping[str, list[str]] | None = None) -> str:
    """Return a file of mobile networks by home address; by default, the mobile router may have NETWORK."""
    path = directory / "mobile-networks.toml"
    lines = table or {HOME_ADDRESS: [NETWORK]}
    path.write_text("".join(f'"{router}" = {prefixes!r}\n' for router, prefixes in lines.items()))
    return str(path)


class NemoLab(Lab):
    """The lab with a node in the mobile network. `mobile_router` starts the mobile router."""

    names: ClassVar[tuple[str, ...]] = (*NAMES, "nn")

    def mobile_router(self, *arguments: str) -> Node:
        """Start the mobile node as a mobile router, without authentication."""
        return self.mobile_node("--insecure", "--mobile-network", NETWORK, *arguments)

    def visitor(self) -> Node:
        """Start a mobile node of the same home agent that visits the mobile network, without authentication."""
        own = ["--home-address", VISITOR, "--home-agent", HOME_AGENT, "--home-link", "h0", "--insecure"]
        return self._run_module("nn", "topologies.mobile_node", [*own, "--foreign-link", f"n0={NODE}/64,{ROUTER_SIDE}"])

    def _start(self) -> None:
        super()._start()
        self.run("nn", "ip link add h0 type veth peer name h0-far")  # its home link, where nobody is
        self._veth("nn", "n0", "mn", "net0")
        self.run("nn", f"ip address add {NODE}/64 dev n0 nodad")
        self.run("mn", f"ip address add {ROUTER_SIDE}/64 dev net0 nodad")
        self.run("nn", f"ip -6 route add default via {ROUTER_SIDE}")
        self.run("rt", f"ip -6 route add {NETWORK} via {UPLINK}")
