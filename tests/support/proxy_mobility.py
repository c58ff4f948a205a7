# SPDX-License-Identifier: Apache-2.0
r"""A network of Proxy Mobile IPv6, in namespaces: correspondent node, router, anchor, two access gateways, mobile node.

    cn --- rt --- lma
          /  \
      mag1    mag2
          \  /
           mn          (m1 and m2, of the same MAC address; one of them is up)

Nothing is configured on the mobile node: it takes its address from Router Advertisements.
"""

from pathlib import Path
from typing import ClassVar

from tests.support.mobility import CN, Lab, Node

DATA = Path(__file__).parents[1] / "data" / "pmipv6" / "oai"

LMA, LMA_UPLINK, HOME_PREFIX = "2001:db8:98::1", "2001:db8:10::2", "2001:db8:f1::/48"
MAG_1, MAG_2 = "2001:db8:2::2", "2001:db8:3::2"
GATEWAYS = {"mag1": MAG_1, "mag2": MAG_2}
PREFIX, OTHER_PREFIX = "2001:db8:f1:1::/64", "2001:db8:f1:2::/64"
MAC, OTHER_MAC = "02:00:00:00:0a:01", "02:00:00:00:0a:02"
ADDRESS = "2001:db8:f1:1:0:ff:fe00:a01"
MOBILE_NODE, OTHER_NODE = "mn1@example.org", "mn2@example.org"
MOBILE_NODES = f"""
["{MOBILE_NODE}"]
prefixes = ["{PREFIX}"]
link_layer_address = "{MAC}"

["{OTHER_NODE}"]
prefixes = ["{OTHER_PREFIX}"]
link_layer_address = "{OTHER_MAC}"
"""
# Each gateway has a key of its own.
KEYS = {MAG_1: "00112233445566778899aabbccddee01", MAG_2: "00112233445566778899aabbccddee02"}
WINDOW = "3"
"""Seconds; all have the same clock, but this host may be busy."""


class ProxyLab(Lab):
    """The namespaces, and the programs' files in `directory`."""

    names: ClassVar[tuple[str, ...]] = ("cn", "rt", "lma", "mag1", "mag2", "mn")

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def anchor(self, *arguments: str) -> Node:
        """Start the anchor and wait until it serves."""
        own = ["--local-mobility-anchor", LMA, "--home-prefix", HOME_PREFIX]
        return self._serving("lma", "hoaflow.local_mobility_anchor", own, KEYS, arguments)

    def gateway(self, name: str, *arguments: str) -> Node:
        """Start an access gateway and wait until it serves."""
        own = ["--mobile-access-gateway", GATEWAYS[name], "--local-mobility-anchor", LMA, "--access-link", "a0"]
        return self._serving(name, "hoaflow.mobile_access_gateway", own, {LMA: KEYS[GATEWAYS[name]]}, arguments)

    def attach(self, number: int) -> None:
        """Move the mobile node to the link of a gateway."""
        self.run("mn", "ip -batch /dev/stdin", stdin=f"link set m{3 - number} down\nlink set m{number} up\n")

    def _serving(
        self, name: str, module: str, own: list[str], keys: dict[str, str], arguments: tuple[str, ...]
    ) -> Node:
        key_file, nodes = self._directory / f"keys-{name}.toml", self._directory / "mobile-nodes.toml"
        key_file.touch(mode=0o600)
        key_file.write_text("".join(f'["{peer}"]\nspi = 256\nkey = "{key}"\n' for peer, key in keys.items()))
        nodes.write_text(MOBILE_NODES)
        common = ["--keys", str(key_file), "--mobile-nodes", str(nodes), "--timestamp-window", WINDOW]
        common += ["--log-level", "debug", "--log-addresses"]
        node = self._run_module(name, module, [*own, *common, *arguments])
        node.logged("event=started")
        return node

    def _start(self) -> None:
        for name in self.names:
            self._ip(f"netns add {self.namespace(name)}")
            self.run(name, "ip link set lo up")
            self.run(name, "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0")
        self.run("rt", "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.forwarding=1")
        self._veth("cn", "c0", "rt", "r0")
        self._veth("lma", "u0", "rt", "r9")
        for number in (1, 2):
            self._veth(f"mag{number}", "u0", "rt", f"r{number}")
            self._veth("mn", f"m{number}", f"mag{number}", "a0")
            self.run("mn", f"ip link set m{number} address {MAC}")
        for name, interface, address, hop in (
            ("cn", "c0", CN, "2001:db8:1::1"),
            ("lma", "u0", LMA_UPLINK, "2001:db8:10::1"),
            ("mag1", "u0", MAG_1, "2001:db8:2::1"),
            ("mag2", "u0", MAG_2, "2001:db8:3::1"),
        ):
            router_end = {"cn": "r0", "lma": "r9", "mag1": "r1", "mag2": "r2"}[name]
            self.run("rt", f"ip address add {hop}/64 dev {router_end} nodad")
            self.run(name, f"ip address add {address}/64 dev {interface} nodad")
            self.run(name, f"ip -6 route add default via {hop}")
        for prefix in (HOME_PREFIX, f"{LMA}/128"):
            self.run("rt", f"ip -6 route add {prefix} via {LMA_UPLINK}")
