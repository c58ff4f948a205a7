# SPDX-License-Identifier: Apache-2.0
"""Tunnel from an emulated mobile node on a foreign link to a home agent, by seg6 routes or an ip6tnl device."""

import errno
import socket

from pyroute2 import IPRoute, NetlinkError

from hoaflow.linux import IP6_TNL_F_IGN_ENCAP_LIMIT, LOCAL_TABLE, MAIN_TABLE
from hoaflow.tunnel.local_decapsulation import decapsulate_local, stop_decapsulating_local
from hoaflow.tunnel.seg6 import Seg6Routes
from topologies.foreign_link import ForeignLink
from topologies.kernel_settings import OWNER

TUNNEL_DEVICE = "hoamn"


class Seg6Tunnel:
    """Tunnel to the home agent by seg6 routes, where the kernel has no ip6_tunnel."""

    name = "seg6"

    def __init__(self, home_agent: str, lookup_table: int, table: int) -> None:
        """Take the table that routes what is decapsulated, and the one whose packets take the tunnel."""
        self._home_agent, self._lookup_table, self._table = home_agent, lookup_table, table

    def open(self, link: ForeignLink) -> None:
        """Route everything into the tunnel from this link's care-of address, and decapsulate what it receives."""
        decapsulate_local(None, link.care_of_address, link.interface, self._lookup_table)
        with Seg6Routes(protocol=OWNER) as routes:
            routes.set_source(link.care_of_address)
            # No gateway: the kernel looks up the outer packet anew, by its source in the table above.
            routes.encapsulate("::/0", self._home_agent, None, link.interface, self._table)

    def stop_sending(self) -> None:
        """Remove the route into the tunnel; safe if it is gone. Other tunnels of the link go on receiving."""
        with Seg6Routes(protocol=OWNER) as routes:
            if "::/0" in routes.installed(self._table):
                routes.remove("::/0", self._table)

    def forget(self) -> None:
        """Do nothing: what is received belongs to the link, and whoever sends is no concern of it."""

    def close(self, link: ForeignLink) -> None:
        """Remove the tunnel's route and the link's decapsulation; safe if they are gone."""
        self.stop_sending()
        if self._decapsulates(link.care_of_address):
            stop_decapsulating_local(None, link.care_of_address)

    @staticmethod
    def _decapsulates(address: str) -> bool:
        with IPRoute() as netlink:
            rules = netlink.get_rules(family=socket.AF_INET6)
            return any(rule.get_attr("FRA_DST") == address for rule in rules)


class Ip6tnlTunnel:
    """Tunnel to the home agent by an ip6tnl device (local = care-of address, remote = home agent), as UMIP does."""

    name = "ip6tnl"

    def __init__(self, home_agent: str, table: int, device: str) -> None:
        """Take the table whose packets take the tunnel, and what the device is called."""
        self._home_agent, self._table = home_agent, table
        self._device = device if table == MAIN_TABLE else f"{device}{table}"

    def open(self, link: ForeignLink) -> None:
        """Create the device with this link's care-of address and route everything into it."""
        with IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=self._device,
                kind="ip6tnl",
                ip6tnl_local=link.care_of_address,
                ip6tnl_remote=self._home_agent,
                ip6tnl_proto=socket.IPPROTO_IPV6,
                ip6tnl_ttl=64,
                ip6tnl_flags=IP6_TNL_F_IGN_ENCAP_LIMIT,
            )
            index = socket.if_nametoindex(self._device)
            netlink.link("set", index=index, state="up")
            netlink.route("replace", dst="::/0", oif=index, proto=OWNER, family=socket.AF_INET6, table=self._table)

    def stop_sending(self) -> None:
        """Delete the device; safe if it is gone."""
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=self._device):
                netlink.link("del", index=index)

    def forget(self) -> None:
        """Delete the device after another tunnel has its route."""
        self.stop_sending()

    def close(self, _link: ForeignLink) -> None:
        """Delete the device as well."""
        self.stop_sending()


def kernel_has_ip6tnl() -> bool:
    """Return whether this kernel can create ip6tnl devices, found out by creating one and removing it."""
    with IPRoute() as netlink:
        try:
            netlink.link("add", ifname=TUNNEL_DEVICE, kind="ip6tnl", ip6tnl_remote="::1")
        except NetlinkError as error:
            return bool(error.code == errno.EEXIST)
        netlink.link("del", index=socket.if_nametoindex(TUNNEL_DEVICE))
        return True


def mobile_tunnel(
    home_agent: str,
    lookup_table: int = LOCAL_TABLE,
    table: int = MAIN_TABLE,
    ipv4: bool = False,
    device: str = TUNNEL_DEVICE,
) -> Seg6Tunnel | Ip6tnlTunnel:
    """Return the tunnel to a home agent that this kernel can have, closed.

    `lookup_table` routes what seg6 decapsulates; packets routed by `table` take the tunnel.
    `ipv4`: it is to carry IPv4, too, which seg6 does. `device`: a name of its own beside another one's.
    """
    devices = not ipv4 and kernel_has_ip6tnl()
    return Ip6tnlTunnel(home_agent, table, device) if devices else Seg6Tunnel(home_agent, lookup_table, table)
