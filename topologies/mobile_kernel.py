# SPDX-License-Identifier: Apache-2.0
"""Configure addresses, routes and the tunnel of an emulated mobile node in its network namespace.

Away from home everything leaves by the tunnel to the home agent, with the home address as source. Only what has the
care-of address as source (Binding Updates, the tunnel itself) uses the foreign link, by a table of its own; and
nftables lets nothing with the home address as source leave by a foreign link untunnelled. A mobile router forwards for
the nodes in its mobile networks, which is held to the same rules.
"""

from collections.abc import Sequence
from itertools import cycle

from hoaflow.linux import LOCAL_TABLE
from hoaflow.mobility.objects import RestoredSetting
from hoaflow.mobility.packet_io import Guard, mobility_header_for
from topologies.foreign_link import ForeignLink, attach, detach
from topologies.ipv4_home import Ipv4Home, Ipv4Kernel
from topologies.kernel_settings import OWNER, KernelSettings, take_over
from topologies.mobile_tunnels import TUNNEL_DEVICE, Ip6tnlTunnel, Seg6Tunnel, mobile_tunnel

OTHER_TUNNEL_DEVICE = f"{TUNNEL_DEVICE}b"
GUARD_TABLE = "hoaflow_mn"
LAST_RESORT_METRIC = 4096
ALL_TABLES = 0
"""Has End.DT6 look up by all rules."""


class MobileKernel:
    """Configure a mobile node's kernel. Raises OSError, Seg6Error or NftError when the kernel refuses."""

    def __init__(
        self,
        home_address: str,
        prefix_length: int,
        home_agent: str,
        home_link: str,
        networks: Sequence[str] = (),
        ipv4: Ipv4Home | None = None,
    ) -> None:
        """Take the prefixes of the mobile networks behind it; with any, it is a mobile router.

        `ipv4`: its IPv4 home address, if it has one.
        """
        self._ipv4 = None if ipv4 is None else Ipv4Kernel(ipv4, home_agent, home_link, OWNER)
        self._home_address, self._prefix_length = home_address, prefix_length
        self._home_agent, self._home_link = home_agent, home_link
        self._settings = KernelSettings()
        self._guard = Guard(GUARD_TABLE)
        self._networks = networks
        self._forwarding = RestoredSetting("all.forwarding", "1")
        self._foreign: ForeignLink | None = None
        # A mobile router forwards what it decapsulates, a mobile node takes what is for itself.
        self._lookup_table = ALL_TABLES if networks else LOCAL_TABLE
        self._tunnel = mobile_tunnel(home_agent, self._lookup_table, ipv4=ipv4 is not None)
        self._links: Sequence[ForeignLink] = ()
        self._other: str | None = None  # a second home agent, beside the one to which the tunnel leads
        self._former: Seg6Tunnel | Ip6tnlTunnel | None = None  # of the second home agent, if it was the first
        self._devices = cycle((OTHER_TUNNEL_DEVICE, TUNNEL_DEVICE))

    @property
    def tunnel(self) -> str:
        """Return how this kernel tunnels: `ip6tnl` or `seg6`."""
        return self._tunnel.name

    def setup(self, links: Sequence[ForeignLink]) -> None:
        """Put the home address on `lo`, where it stays wherever the node is, and load the packet filter."""
        for interface in (self._home_link, *(link.interface for link in links)):
            take_over(interface)
        if self._networks:
            self._forwarding.make()
        self._links = links
        self._load_guard()
        self._settings.address("replace", "lo", self._home_address, 128)
        self._settings.route("replace", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC)
        if self._ipv4 is not None:
            self._ipv4.setup()
        for link in links:
            self._foreign = link
            self.leave()  # what an earlier run may have left

    def expect(self, home_agent: str | None) -> None:
        """Take the packets of a second home agent, too; None: only those of the one to which the tunnel leads."""
        self._other = home_agent
        self._load_guard()
        if home_agent is None:
            self._forget_former()

    def change_home_agent(self) -> None:
        """Tunnel to the second home agent from now on, and go on taking the packets of the first."""
        if self._other is None:
            raise ValueError("there is no second home agent")
        self._home_agent, self._other = self._other, self._home_agent
        self._forget_former()
        self._former, device = self._tunnel, next(self._devices)
        self._tunnel = mobile_tunnel(self._home_agent, self._lookup_table, ipv4=self._ipv4 is not None, device=device)
        if self._foreign is not None:
            self._tunnel.open(self._foreign)

    def leave(self) -> None:
        """Detach from the current link; safe if the kernel has removed its routes with the interface."""
        self._settings.address("del", self._home_link, self._home_address, self._prefix_length)
        self._settings.route("del", dst="::/0", interface=self._home_link)
        if self._foreign is None:
            return
        link, self._foreign = self._foreign, None
        if self._ipv4 is not None:
            self._ipv4.leave(link.care_of_address)
        self._tunnel.close(link)
        detach(self._settings, link)

    def come_home(self) -> None:
        """Move to the home link: home address on it, home agent as default router, no tunnel."""
        self.leave()
        self._settings.address("replace", self._home_link, self._home_address, self._prefix_length)
        self._settings.route("replace", dst="::/0", gateway=self._home_agent, interface=self._home_link)
        if self._ipv4 is not None:
            self._ipv4.come_home()

    def announce_ipv4(self) -> None:
        """Tell the home link that the IPv4 home address is here, if there is one."""
        if self._ipv4 is not None:
            self._ipv4.announce()

    def visit(self, link: ForeignLink) -> None:
        """Move to a foreign link: care-of address on it, everything else through the tunnel."""
        self.leave()
        self._foreign = link
        attach(self._settings, link)
        self._tunnel.open(link)
        if self._ipv4 is not None:
            self._ipv4.visit(link.interface, link.care_of_address)

    def has_address(self) -> bool:
        """Return whether the current link still has its address: an interface loses it when it goes down."""
        link, address = self._home_link, self._home_address
        if self._foreign is not None:
            link, address = self._foreign.interface, self._foreign.care_of_address
        return self._settings.has_address(link, address)

    def up(self) -> set[str]:
        """Return the names of the interfaces that carry packets now."""
        return self._settings.up()

    def teardown(self) -> None:
        """Remove all that was configured, the home address included, so that nothing leaks untunnelled."""
        self.leave()
        self._forget_former()
        if self._ipv4 is not None:
            self._ipv4.teardown()
        self._settings.route("del", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC)
        self._settings.address("del", "lo", self._home_address, 128)
        self._guard.teardown()
        self._forwarding.remove()
        self._settings.close()

    def _forget_former(self) -> None:
        if self._former is not None:
            self._former.forget()
            self._former = None

    def _load_guard(self) -> None:
        peers = ", ".join([self._home_agent, *([] if self._other is None else [self._other])])
        addresses = [link.care_of_address for link in self._links]
        self._guard.setup(
            local=[mobility_header_for(address) for address in (self._home_address, *addresses)],
            # The tunnel's far end is a home agent: anybody else's packets are none of ours.
            arriving=[f"ip6 daddr {a} ip6 saddr != {{ {peers} }} meta l4proto {{ 4, 41 }}" for a in addresses],
            leaving=[
                f'oifname "{link.interface}" ip6 saddr {source}'
                for link in self._links
                for source in (self._home_address, *self._networks)
            ],
        )
