# SPDX-License-Identifier: Apache-2.0
"""Configure a mobile node's namespace with home addresses of several home agents, each with a routing table of its own.

What has a home address as source takes its table: by the site's router on the link of that address, else by the tunnel
to its home agent. Only the home address of the present site is preferred, so new sessions take that one (RFC 6724, rule
3); nftables lets none of the others leave untunnelled.
"""

from collections.abc import Iterable

from hoaflow.mobility.packet_io import Guard, mobility_header_for
from topologies.foreign_link import ForeignLink, attach, detach
from topologies.kernel_settings import KernelSettings, take_over
from topologies.mobile_kernel import GUARD_TABLE, LAST_RESORT_METRIC
from topologies.mobile_tunnels import kernel_has_ip6tnl, mobile_tunnel

FIRST_TABLE = 100
HOME_ADDRESS_RULE = 79


class DistributedKernel:
    """Configure the kernel. Raises OSError, Seg6Error or NftError when it refuses."""

    def __init__(self) -> None:
        self._settings = KernelSettings()
        self._guard = Guard(GUARD_TABLE)
        self._link: ForeignLink | None = None
        self._at_home: str | None = None
        self._home_agents: dict[str, str] = {}  # by home address
        self._tables: dict[str, int] = {}
        self._last_table = FIRST_TABLE
        self.tunnel = "ip6tnl" if kernel_has_ip6tnl() else "seg6"

    def setup(self, interfaces: Iterable[str]) -> None:
        """Take the interfaces over, and let nothing leave without an address of a site."""
        for interface in interfaces:
            take_over(interface)
        self._settings.route("replace", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC)
        self._filter()

    def add(self, home_address: str, home_agent: str) -> None:
        """Have a home address, with the home agent whose tunnel its packets take away from its link."""
        self._home_agents[home_address] = home_agent
        self._last_table += 1
        self._tables[home_address] = self._last_table
        self._settings.address("replace", "lo", home_address, 128, preferred_lft=0)
        self._settings.rule("add", home_address, self._last_table, HOME_ADDRESS_RULE)
        self._settings.route(
            "replace", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC, table=self._last_table
        )
        self._filter()

    def remove(self, home_address: str) -> None:
        """Let go of a home address that is not of the present link."""
        table = self._tables[home_address]
        mobile_tunnel(self._home_agents[home_address], table=table).stop_sending()
        self._settings.route("del", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC, table=table)
        self._settings.rule("del", home_address, table, HOME_ADDRESS_RULE)
        self._settings.address("del", "lo", home_address, 128)
        del self._home_agents[home_address], self._tables[home_address]
        self._filter()

    def visit(self, link: ForeignLink, home_address: str | None) -> None:
        """Move to a link; `home_address`, if any, is of this link. All others are tunnelled from there."""
        self.leave()
        self._link, self._at_home = link, home_address
        attach(self._settings, link)
        if home_address is not None:
            table = self._tables[home_address]
            self._settings.address("replace", link.interface, home_address, link.prefix_length)
            self._settings.route("replace", dst=link.network, interface=link.interface, table=table)
            self._settings.route("replace", dst="::/0", gateway=link.gateway, interface=link.interface, table=table)
            self._settings.route("replace", dst="::/0", gateway=link.gateway, interface=link.interface)
        self._filter()
        for address, home_agent in self._home_agents.items():
            if address != home_address:
                mobile_tunnel(home_agent, table=self._tables[address]).open(link)

    def leave(self) -> None:
        """Detach from the present link; safe if the kernel has removed its routes with the interface."""
        if self._link is None:
            return
        link, self._link = self._link, None
        home_address, self._at_home = self._at_home, None
        if home_address is not None:
            table = self._tables[home_address]
            self._settings.route("del", dst="::/0", interface=link.interface)
            self._settings.route("del", dst="::/0", interface=link.interface, table=table)
            self._settings.route("del", dst=link.network, interface=link.interface, table=table)
            self._settings.address("del", link.interface, home_address, link.prefix_length)
        for address, home_agent in self._home_agents.items():
            if address != home_address:
                mobile_tunnel(home_agent, table=self._tables[address]).close(link)
        detach(self._settings, link)

    def has_address(self) -> bool:
        """Return whether the present link still has its address: an interface loses it when it goes down."""
        return self._link is None or self._settings.has_address(self._link.interface, self._link.care_of_address)

    def up(self) -> set[str]:
        """Return the names of the interfaces that carry packets now."""
        return self._settings.up()

    def teardown(self) -> None:
        """Remove all that was configured."""
        self.leave()
        for home_address in list(self._home_agents):
            self.remove(home_address)
        self._settings.route("del", dst="::/0", type="unreachable", priority=LAST_RESORT_METRIC)
        self._guard.teardown()
        self._settings.close()

    def _filter(self) -> None:
        """Drop what packet sockets have received, tunnel packets of strangers, and home addresses on a wrong link."""
        addresses, arriving, leaving = [*self._home_agents], [], []
        if self._link is not None:
            interface, care_of = self._link.interface, self._link.care_of_address
            addresses.append(care_of)
            ends = "".join(f" ip6 saddr != {home_agent}" for home_agent in sorted(set(self._home_agents.values())))
            arriving = [f"ip6 daddr {care_of}{ends} meta l4proto 41"]
            away = (address for address in self._home_agents if address != self._at_home)
            leaving = [f'oifname "{interface}" ip6 saddr {address}' for address in away]
        self._guard.setup([mobility_header_for(address) for address in addresses], arriving, leaving)
