# SPDX-License-Identifier: Apache-2.0
"""Configure the IPv4 home address of an emulated dual-stack mobile node (RFC 5555) in its network namespace.

Away from home, all IPv4 packets leave by the tunnel to the home agent, encapsulated by a seg6 route. What the home
agent sends in the tunnel is decapsulated by End.DX4, which looks up the inner destination.
"""

import socket
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import NamedTuple

from hoaflow.mobile_ipv4.home_link import HomeLink
from hoaflow.mobility.seg6_plane import BY_DESTINATION, IPV4_DECAPSULATION_TABLE, IPV4_RULE_PREFERENCE
from hoaflow.tunnel.routing import Rule
from hoaflow.tunnel.seg6 import Seg6Routes
from topologies.ip_command import run_ip
from topologies.link_follower import report

DEFAULT = "0.0.0.0/0"


class Ipv4Home(NamedTuple):
    """An IPv4 home address with the home link's prefix length, and the default router there."""

    address: IPv4Interface
    gateway: IPv4Address


def announce(home_link: str, address: str) -> None:
    """Tell everybody on the home link that an address is here: gratuitous ARP (RFC 5944, section 4.6)."""
    sender = HomeLink(home_link)
    try:
        sender.announce(address)
    except OSError as error:  # the home link went down again
        report("advertisement-not-sent", reason=str(error))
    finally:
        sender.close()


class Ipv4Kernel:
    """Configure a mobile node's kernel for IPv4. Raises OSError, TunnelError."""

    def __init__(self, home: Ipv4Home, home_agent: str, home_link: str, owner: int) -> None:
        """Take the home agent's IPv6 address, the interface on the home link, and the protocol number of our routes."""
        self._home, self._home_agent, self._home_link, self._owner = home, home_agent, home_link, owner

    def setup(self) -> None:
        """Put the home address on `lo`, where it stays wherever the node is."""
        # What comes out of the tunnel has come in by a link without any IPv4 address.
        for interface in ("all", "default", *(path.name for path in Path("/sys/class/net").iterdir())):
            Path(f"/proc/sys/net/ipv4/conf/{interface}/rp_filter").write_text("0")
        run_ip(f"address replace {self._home.address.ip}/32 dev lo")

    def come_home(self) -> None:
        """Use the home link."""
        run_ip(f"address replace {self._home.address} dev {self._home_link}")
        source = self._home.address.ip
        run_ip(f"-4 route replace default via {self._home.gateway} dev {self._home_link} src {source}")

    def announce(self) -> None:
        """Tell the home link that the home address is here: gratuitous ARP (RFC 5944, section 4.6)."""
        announce(self._home_link, str(self._home.address.ip))

    def visit(self, interface: str, care_of_address: str) -> None:
        """Send everything through the tunnel from this care-of address, and decapsulate what it receives."""
        run_ip(f"-4 address flush dev {self._home_link}")
        with Seg6Routes(protocol=self._owner) as routes:
            routes.encapsulate(DEFAULT, self._home_agent, None, interface)
            routes.decapsulate_ipv4(care_of_address, BY_DESTINATION, interface, IPV4_DECAPSULATION_TABLE)
        self._rule(care_of_address).make()

    def leave(self, care_of_address: str) -> None:
        """Detach from a foreign link; safe if the kernel has removed its routes with the interface."""
        with Seg6Routes(protocol=self._owner) as routes:
            routes.remove(DEFAULT)
            routes.remove(care_of_address, IPV4_DECAPSULATION_TABLE)
        self._rule(care_of_address).remove()

    def teardown(self) -> None:
        """Remove the home address, so that nothing leaks untunnelled."""
        run_ip(f"-4 address flush dev {self._home_link}", may_fail=True)  # the interface may be gone
        run_ip(f"address del {self._home.address.ip}/32 dev lo", may_fail=True)  # `setup` may have failed before

    def _rule(self, care_of_address: str) -> Rule:
        destination = f"{care_of_address}/128"
        return Rule(None, IPV4_RULE_PREFERENCE, IPV4_DECAPSULATION_TABLE, dst=destination, ip_proto=socket.IPPROTO_IPIP)
