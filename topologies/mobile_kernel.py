# SPDX-License-Identifier: Apache-2.0
"""Configure addresses, routes and the tunnel of an emulated mobile node in its network namespace.

Away from home everything leaves by the tunnel to the home agent, with the home address as source. Only what has the
care-of address as source (Binding Updates, the tunnel itself) uses the foreign link, by a table of its own; and
nftables lets nothing with the home address as source leave by a foreign link untunnelled. A mobile router forwards for
the nodes in its mobile networks, which is held to the same rules.
"""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from hoaflow.linux import IFA_F_NODAD, IP6_TNL_F_IGN_ENCAP_LIMIT, LOCAL_TABLE
from hoaflow.mobility.objects import RestoredSetting
from hoaflow.mobility.packet_io import Guard, mobility_header_for
from hoaflow.tunnel.local_decapsulation import decapsulate_local, stop_decapsulating_local
from hoaflow.tunnel.seg6 import Seg6Routes

GUARD_TABLE = "hoaflow_mn"
CARE_OF_TABLE = 78
CARE_OF_RULE = 78
LAST_RESORT_METRIC = 4096
OWNER = 16
IFA_F_NOPREFIXROUTE = 0x200
TUNNEL_DEVICE = "hoamn"
ALL_TABLES = 0
"""Has End.DT6 look up by all rules."""
GONE = (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class ForeignLink:
    """Describe a foreign link: its interface, the care-of address there with prefix length, and the default router."""

    interface: str
    care_of_address: str
    prefix_length: int
    gateway: str

    @property
    def network(self) -> str:
        """Return the on-link prefix, such as 2001:db8:2::/64."""
        return str(ip_network((self.care_of_address, self.prefix_length), strict=False))


class MobileKernel:
    """Configure a mobile node's kernel. Raises OSError, Seg6Error or NftError when the kernel refuses."""

    def __init__(
        self, home_address: str, prefix_length: int, home_agent: str, home_link: str, networks: Sequence[str] = ()
    ) -> None:
        """Take the prefixes of the mobile networks behind it; with any, it is a mobile router."""
        self._home_address, self._prefix_length = home_address, prefix_length
        self._home_agent, self._home_link = home_agent, home_link
        self._netlink = IPRoute()
        self._guard = Guard(GUARD_TABLE)
        self._networks = networks
        self._forwarding = RestoredSetting("all.forwarding", "1")
        self._foreign: ForeignLink | None = None
        # A mobile router forwards what it decapsulates, a mobile node takes what is for itself.
        lookup_table = ALL_TABLES if networks else LOCAL_TABLE
        self._tunnel = Ip6tnlTunnel(home_agent) if kernel_has_ip6tnl() else Seg6Tunnel(home_agent, lookup_table)

    @property
    def tunnel(self) -> str:
        """Return how this kernel tunnels: `ip6tnl` or `seg6`."""
        return self._tunnel.name

    def setup(self, links: Sequence[ForeignLink]) -> None:
        """Put the home address on `lo`, where it stays wherever the node is, and load the packet filter."""
        for interface in (self._home_link, *(link.interface for link in links)):
            # Addresses and routers of an emulated node are given: neither tried out first nor learnt.
            for name in ("accept_dad", "accept_ra"):
                try:
                    Path(f"/proc/sys/net/ipv6/conf/{interface}/{name}").write_text("0")
                except OSError as error:
                    # A container's settings are read-only. Its own addresses are not tried out in any case.
                    if error.errno != errno.EROFS:
                        raise
        if self._networks:
            self._forwarding.make()
        addresses = [link.care_of_address for link in links]
        self._guard.setup(
            local=[mobility_header_for(address) for address in (self._home_address, *addresses)],
            # The tunnel's far end is the home agent: anybody else's packets are none of ours.
            arriving=[f"ip6 daddr {a} ip6 saddr != {self._home_agent} meta l4proto 41" for a in addresses],
            leaving=[
                f'oifname "{link.interface}" ip6 saddr {source}'
                for link in links
                for source in (self._home_address, *self._networks)
            ],
        )
        self._address("replace", "lo", self._home_address, 128)
        self._route("replace", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC)
        for link in links:
            self._foreign = link
            self.leave()  # what an earlier run may have left

    def leave(self) -> None:
        """Detach from the current link; safe if the kernel has removed its routes with the interface."""
        self._address("del", self._home_link, self._home_address, self._prefix_length)
        self._route("del", dst="::/0", oif=self._index(self._home_link))
        if self._foreign is None:
            return
        link, self._foreign = self._foreign, None
        index = self._index(link.interface)
        self._tunnel.close(link)
        self._rule("del", link.care_of_address)
        self._route("del", dst=link.network, oif=index, table=CARE_OF_TABLE)
        self._route("del", dst="::/0", oif=index, table=CARE_OF_TABLE)
        self._address("del", link.interface, link.care_of_address, link.prefix_length)

    def come_home(self) -> None:
        """Move to the home link: home address on it, home agent as default router, no tunnel."""
        self.leave()
        self._address("replace", self._home_link, self._home_address, self._prefix_length)
        self._route("replace", dst="::/0", gateway=self._home_agent, oif=self._index(self._home_link))

    def visit(self, link: ForeignLink) -> None:
        """Move to a foreign link: care-of address on it, everything else through the tunnel."""
        self.leave()
        self._foreign = link
        index = self._index(link.interface)
        # Deprecated: no application takes the care-of address as source unless it asks for it (RFC 6724, rule 3).
        self._address(
            "replace", link.interface, link.care_of_address, link.prefix_length, IFA_F_NOPREFIXROUTE, preferred_lft=0
        )
        self._route("replace", dst=link.network, oif=index, table=CARE_OF_TABLE)
        self._route("replace", dst="::/0", gateway=link.gateway, oif=index, table=CARE_OF_TABLE)
        self._rule("add", link.care_of_address)
        self._tunnel.open(link)

    def has_address(self) -> bool:
        """Return whether the current link still has its address: an interface loses it when it goes down."""
        link, address = self._home_link, self._home_address
        if self._foreign is not None:
            link, address = self._foreign.interface, self._foreign.care_of_address
        addresses = self._netlink.get_addr(family=socket.AF_INET6, index=self._index(link))
        return any(entry.get("address") == address for entry in addresses)

    def up(self) -> set[str]:
        """Return the names of the interfaces that carry packets now."""
        links = self._netlink.get_links()
        return {str(link.get("ifname")) for link in links if link.get("operstate") == "UP"}

    def teardown(self) -> None:
        """Remove all that was configured, the home address included, so that nothing leaks untunnelled."""
        self.leave()
        self._route("del", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC)
        self._address("del", "lo", self._home_address, 128)
        self._guard.teardown()
        self._forwarding.remove()
        self._netlink.close()

    def _index(self, interface: str) -> int:
        return socket.if_nametoindex(interface)

    def _address(self, verb: str, interface: str, address: str, length: int, flags: int = 0, **lifetime: int) -> None:
        with _tolerant(verb):
            self._netlink.addr(
                verb,
                index=self._index(interface),
                address=address,
                prefixlen=length,
                family=socket.AF_INET6,
                flags=flags | IFA_F_NODAD,
                **lifetime,
            )

    def _route(self, verb: str, **route: object) -> None:
        with _tolerant(verb):
            self._netlink.route(verb, family=socket.AF_INET6, proto=OWNER, **route)

    def _rule(self, verb: str, care_of_address: str) -> None:
        with _tolerant(verb):
            self._netlink.rule(
                verb,
                family=socket.AF_INET6,
                priority=CARE_OF_RULE,
                src=care_of_address,
                src_len=128,
                table=CARE_OF_TABLE,
            )


class Seg6Tunnel:
    """Tunnel to the home agent by seg6 routes, where the kernel has no ip6_tunnel."""

    name = "seg6"

    def __init__(self, home_agent: str, lookup_table: int) -> None:
        """Take the table that routes what is decapsulated."""
        self._home_agent, self._lookup_table = home_agent, lookup_table

    def open(self, link: ForeignLink) -> None:
        """Route everything into the tunnel from this link's care-of address, and decapsulate what it receives."""
        decapsulate_local(None, link.care_of_address, link.interface, self._lookup_table)
        with Seg6Routes(protocol=OWNER) as routes:
            routes.set_source(link.care_of_address)
            # No gateway: the kernel looks up the outer packet anew, by its source in the table above.
            routes.encapsulate("::/0", self._home_agent, None, link.interface)

    def close(self, link: ForeignLink) -> None:
        """Remove the tunnel's routes and its decapsulation; safe if they are gone."""
        with Seg6Routes(protocol=OWNER) as routes:
            if "::/0" in routes.installed():
                routes.remove("::/0")
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

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent

    def open(self, link: ForeignLink) -> None:
        """Create the device with this link's care-of address and route everything into it."""
        with IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=TUNNEL_DEVICE,
                kind="ip6tnl",
                ip6tnl_local=link.care_of_address,
                ip6tnl_remote=self._home_agent,
                ip6tnl_proto=socket.IPPROTO_IPV6,
                ip6tnl_ttl=64,
                ip6tnl_flags=IP6_TNL_F_IGN_ENCAP_LIMIT,
            )
            index = socket.if_nametoindex(TUNNEL_DEVICE)
            netlink.link("set", index=index, state="up")
            netlink.route("replace", dst="::/0", oif=index, proto=OWNER, family=socket.AF_INET6)

    def close(self, link: ForeignLink) -> None:
        """Delete the device; safe if it is gone."""
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=TUNNEL_DEVICE):
                netlink.link("del", index=index)


def kernel_has_ip6tnl() -> bool:
    """Return whether this kernel can create ip6tnl devices, found out by creating one and removing it."""
    with IPRoute() as netlink:
        try:
            netlink.link("add", ifname=TUNNEL_DEVICE, kind="ip6tnl", ip6tnl_remote="::1")
        except NetlinkError as error:
            return bool(error.code == errno.EEXIST)
        netlink.link("del", index=socket.if_nametoindex(TUNNEL_DEVICE))
        return True


@contextmanager
def _tolerant(verb: str) -> Iterator[None]:
    """Ignore "exists" when adding and "not found" when deleting; raise every other error as OSError."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in (GONE if verb == "del" else (errno.EEXIST,)):
            raise OSError(error.code, str(error)) from error
