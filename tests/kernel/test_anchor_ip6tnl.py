# SPDX-License-Identifier: Apache-2.0
"""The anchor's ip6tnl plane: a mobile node's packets go through a device to its gateway, and come back if they are its.

lma === mag (the gateway's tunnel is a device, too; the mobile node's address is the gateway's own)
"""

import socket
import time
from pathlib import Path
from typing import ClassVar

from hoaflow.pmipv6.messages import ProxyBindingUpdate, timestamp_of
from hoaflow.pmipv6.wire import build
from hoaflow.tunnel.namespace import in_namespace
from tests.support.mobility import Lab
from tests.support.proxy_mobility import (
    ADDRESS,
    HOME_PREFIX,
    LMA,
    MAG_1,
    MOBILE_NODE,
    MOBILE_NODES,
    OTHER_PREFIX,
    PREFIX,
)
from tests.support.waiting import wait_for

ANCHORS_LINK, FORGED = "2001:db8:2::1", OTHER_PREFIX.replace("/64", "bad")


class AnchorLab(Lab):
    """An anchor with one gateway on its link."""

    names: ClassVar[tuple[str, ...]] = ("lma", "mag")

    def _start(self) -> None:
        self._ip(*(f"netns add {self.namespace(name)}" for name in self.names))
        for name in self.names:
            self.run(name, "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0")
            self._ip("link set lo up", within=name)
        self._veth("lma", "u0", "mag", "u0")
        self._ip(f"address add {ANCHORS_LINK}/64 dev u0 nodad", within="lma")
        self._ip(
            f"address add {MAG_1}/64 dev u0 nodad",
            f"route add {LMA} via {ANCHORS_LINK}",
            f"link add t0 type ip6tnl local {MAG_1} remote {LMA} mode ip6ip6 encaplimit none",
            "link set t0 up",
            f"address add {ADDRESS}/128 dev lo",
            f"address add {FORGED}/128 dev lo",
            "route add ::/0 dev t0 table 99",
            within="mag",
        )
        self.run("mag", f"ip -6 rule add pref 5 from {HOME_PREFIX} lookup 99")

    def register(self, lifetime: int) -> None:
        """Send a Proxy Binding Update from the gateway."""
        stamp = timestamp_of(time.time())
        packet = build(
            ProxyBindingUpdate(
                MAG_1, LMA, 1, lifetime, MOBILE_NODE, ("::/0",), handoff=4, access_technology=3, timestamp=stamp
            ),
            None,
        )

        def send() -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                raw.sendto(packet, (LMA, 0))

        in_namespace(self.namespace("mag"), send)

    def anchor(self, mobile_nodes: Path) -> None:
        """Start the anchor and wait until it serves."""
        mobile_nodes.write_text(MOBILE_NODES)
        own = ["--local-mobility-anchor", LMA, "--home-prefix", HOME_PREFIX, "--mobile-nodes", str(mobile_nodes)]
        node = self._run_module("lma", "hoaflow.local_mobility_anchor", [*own, "--insecure", "--timestamp-window", "3"])
        node.logged("event=started")
        node.logged("event=data-plane", "chosen=ip6tnl")


def test_packets_of_a_mobile_node_pass_a_device_to_its_gateway(tmp_path: Path) -> None:
    with AnchorLab() as lab:
        lab.anchor(tmp_path / "mobile-nodes.toml")

        def route() -> str:
            return lab.run("lma", f"ip -6 route show table 252 {PREFIX} proto 16")

        lab.register(60)
        wait_for("the anchor has a route", route)
        device = route().split(" dev ")[1].split()[0]
        shown = lab.run("lma", f"ip -6 -details link show {device}")
        assert f"remote {MAG_1} local {LMA}" in shown, shown
        assert lab.ping("mag", LMA, source=ADDRESS) == 3
        assert lab.ping("mag", LMA, count=1, source=FORGED) == 0
        lab.register(0)
        wait_for("the route has gone", lambda: not route())
        assert device not in lab.run("lma", "ip link")
