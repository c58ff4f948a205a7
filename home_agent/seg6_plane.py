# SPDX-License-Identifier: Apache-2.0
"""The home agent's tunnels where the kernel has no ip6_tunnel: seg6 reduced encapsulation, End.DT6 decapsulation.

A seg6 route encapsulates before the kernel has forwarded the inner packet: no hop limit is decremented and no Packet
Too Big is sent, so a tunnel's smaller MTU would swallow large packets. So a packet for a home address goes through a
pair of veth devices first, the hairpin, whose MTU is the tunnel's: on its way in it is forwarded as any other packet.

    rule 6   not iif hoaflow-in   lookup 42     table 42   HOA dev hoaflow-out          (forwarded: hop limit, MTU)
             from hoaflow-in      table main               HOA encap seg6 ... segs COA  (encapsulated)

The encapsulating routes name the hairpin as their device, which no packet of theirs leaves by: the kernel looks up
the outer packet anew. So they stay when an uplink goes down and comes back.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from pyroute2 import IPRoute, NetlinkError

from home_agent.home_link import OWNER
from logs import Log
from tunnel import outer_header
from tunnel.local import decapsulate_local, stop_decapsulating_local
from tunnel.seg6 import Seg6Routes

ENTRY, EXIT = "hoaflow-out", "hoaflow-in"
EXIT_ADDRESS = "fe80::2"
HAIRPIN_TABLE = 42
HAIRPIN_OWNER = 104
"""Not OWNER: who follows the kernel's tunnels (protocol 16) is to see the encapsulating routes only."""
RULE_PREFERENCE = 6
FIB_RULE_INVERT = 0x2
IPV6_HEADER = 40
ALL_TABLES = 0
"""End.DT6's lookup by the rules of the namespace: inner packets for the home agent itself are delivered, too."""

LOG = Log("home-agent")


class Seg6Plane:
    """Tunnels by routes; the kernel's state is found again by route protocol, table and device names."""

    name = "seg6"
    relays_errors = False

    def __init__(self, home_agent: str, home_link: str) -> None:
        self._home_agent, self._home_link = home_agent, home_link
        self._netlink = IPRoute()
        self._routes = Seg6Routes(protocol=OWNER)
        self._entry = 0  # index of ENTRY

    def setup(self) -> None:
        """Makes hairpin, rule and decapsulation; what an earlier run left is taken away. Raises OSError, Seg6Error."""
        self._clear()
        self._make_hairpin()
        self._rule("add")
        self._routes.set_source(self._home_agent)
        outer_header.set_outer_header(None, self._home_agent)
        decapsulate_local(None, self._home_agent, self._home_link, lookup_table=ALL_TABLES)

    def tunnels(self) -> Mapping[str, str]:
        """{home address: care-of address} as the kernel has them."""
        return self._routes.installed()

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """Tunnels what comes for a home address; replaces."""
        self._routes.encapsulate(home_address, care_of_address, None, EXIT)
        try:
            self._netlink.route(
                "replace",
                dst=f"{home_address}/128",
                gateway=EXIT_ADDRESS,
                oif=self._entry,
                table=HAIRPIN_TABLE,
                proto=HAIRPIN_OWNER,
                family=socket.AF_INET6,
            )
        except NetlinkError as error:
            raise OSError(error.code, f"route {home_address} of table {HAIRPIN_TABLE}: {error}") from error

    def untunnel(self, home_address: str) -> None:
        """Stops tunnelling for a home address. Fine when there was no tunnel."""
        try:
            self._netlink.route("del", dst=f"{home_address}/128", table=HAIRPIN_TABLE, family=socket.AF_INET6)
        except NetlinkError as error:
            if error.code != errno.ESRCH:
                raise OSError(error.code, f"removing route {home_address} of table {HAIRPIN_TABLE}") from error
        self._routes.remove(home_address)

    def device(self, home_address: str) -> str:
        """What the terminal names as the tunnel."""
        return self.name

    def teardown(self) -> None:
        stop_decapsulating_local(None, self._home_agent)
        outer_header.clear(None)
        self._clear()

    def close(self) -> None:
        self._routes.close()
        self._netlink.close()

    def _clear(self) -> None:
        self._rule("del")
        for index in self._netlink.link_lookup(ifname=ENTRY):
            self._netlink.link("del", index=index)  # its routes go with it
        refused = self._routes.remove_all(self._routes.installed())
        for home_address, reason in refused.items():
            raise OSError(f"removing route {home_address} left by an earlier run: {reason}")

    def _make_hairpin(self) -> None:
        mtu = min(
            link.get("mtu")
            for link in self._netlink.get_links()
            if link.get("operstate") == "UP" and link.get("ifname") != "lo"
        )
        try:
            self._netlink.link("add", ifname=ENTRY, kind="veth", peer={"ifname": EXIT})
            indexes = [self._netlink.link_lookup(ifname=name)[0] for name in (ENTRY, EXIT)]
            for index in indexes:
                self._netlink.link("set", index=index, mtu=mtu - IPV6_HEADER, state="up")
            exit_link = self._netlink.link("get", index=indexes[1])[0]
            self._entry = indexes[0]
            # A permanent neighbour: nothing has to be resolved on a cable that ends in this very kernel.
            self._netlink.neigh(
                "replace", dst=EXIT_ADDRESS, lladdr=exit_link.get("address"), ifindex=indexes[0], family=socket.AF_INET6
            )
        except NetlinkError as error:
            advice = "; with net.ipv6.conf.default.disable_ipv6=1 new devices have no IPv6" * (
                error.code == errno.EINVAL
            )
            raise OSError(error.code, f"veth pair {ENTRY}, {EXIT}: {error}{advice}") from error
        LOG.info("hairpin-made", mtu=mtu - IPV6_HEADER)

    def _rule(self, verb: str) -> None:
        try:
            self._netlink.rule(
                verb,
                family=socket.AF_INET6,
                priority=RULE_PREFERENCE,
                iifname=EXIT,
                flags=FIB_RULE_INVERT,
                table=HAIRPIN_TABLE,
                protocol=HAIRPIN_OWNER,
            )
        except NetlinkError as error:
            if error.code not in (errno.EEXIST, errno.ENOENT):
                raise
