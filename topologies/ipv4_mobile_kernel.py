# SPDX-License-Identifier: Apache-2.0
"""Configure an emulated mobile node of Mobile IPv4 in its network namespace, and carry its tunnel.

The home address stays on `lo`. Away from home, all but what has the care-of address as source leaves by a tun device,
whose packets this process sends to the home agent in IPv4 (RFC 2003): the kernel may have no ipip.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from topologies.foreign_link import CARE_OF_RULE, CARE_OF_TABLE, ForeignLink
from topologies.ip_command import run_ip
from topologies.mobile_tunnels import TUNNEL_DEVICE

T = TypeVar("T")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000
IP_IN_IP = 4
LARGEST = 65535
TUNNEL_MTU = 1480
BATCH = 64


class Ipv4MobileKernel:
    """Configure a mobile node's kernel. Raises OSError."""

    def __init__(self, home_address: str, home_prefix: str, home_agent: str, home_link: str | None) -> None:
        """Take home address and prefix, the home agent, and the interface on the home link, if there is one."""
        self._home_address, self._home_prefix = home_address, home_prefix
        self._home_agent, self._home_link = home_agent, home_link
        self._foreign: ForeignLink | None = None
        self._agent: tuple[str, str] | None = None  # a foreign agent's address, and the interface to it
        self._raw: socket.socket | None = None
        self._tun: int | None = None

    def setup(self, links: Sequence[str]) -> None:
        """Make the tunnel's device, and put the home address on `lo`, where it stays wherever the node is."""
        self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._tun, TUNSETIFF, struct.pack("16sH22x", TUNNEL_DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        # Packets come from anywhere through the tunnel, and the tunnel's own from where no route leads.
        Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")
        for interface in (*((self._home_link,) if self._home_link else ()), *links, TUNNEL_DEVICE):
            Path(f"/proc/sys/net/ipv4/conf/{interface}/rp_filter").write_text("0")
            run_ip(f"-4 address flush dev {interface}")
        Path(f"/proc/sys/net/ipv6/conf/{TUNNEL_DEVICE}/disable_ipv6").write_text("1")
        run_ip(f"link set {TUNNEL_DEVICE} up mtu {TUNNEL_MTU}")
        run_ip(f"address replace {self._home_address}/32 dev lo")

    @property
    def tunnel(self) -> int:
        """The descriptor from which packets for the tunnel are read."""
        assert self._tun is not None
        return self._tun

    def leave(self) -> None:
        """Detach from the current link; safe if the kernel has removed its routes with the interface."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None
        run_ip(f"route del default src {self._home_address}", may_fail=True)
        if self._home_link is not None:
            run_ip(f"route del {self._home_prefix} dev {self._home_link}", may_fail=True)
        run_ip(f"-4 rule del pref {CARE_OF_RULE}", may_fail=True)
        if self._foreign is not None:
            run_ip(f"-4 address flush dev {self._foreign.interface}")
            run_ip(f"-4 route flush table {CARE_OF_TABLE}", may_fail=True)
            self._foreign = None
        if self._agent is not None:
            address, interface = self._agent
            run_ip(f"route del {address}/32 dev {interface}", may_fail=True)
            run_ip(f"neigh del {address} dev {interface}", may_fail=True)
            self._agent = None

    def come_home(self) -> None:
        """Move to the home link: the home agent is the default router, and there is no tunnel."""
        self.leave()
        run_ip(f"route replace {self._home_prefix} dev {self._home_link} src {self._home_address}")
        run_ip(f"route replace default via {self._home_agent} dev {self._home_link} src {self._home_address}")

    def visit(self, link: ForeignLink) -> socket.socket:
        """Move to a foreign link: everything goes through the tunnel; return the socket of what comes out of it."""
        self.leave()
        self._foreign = link
        run_ip(f"address replace {link.care_of_address}/{link.prefix_length} dev {link.interface} noprefixroute")
        run_ip(f"route replace {link.network} dev {link.interface} table {CARE_OF_TABLE}")
        run_ip(f"route replace default via {link.gateway} dev {link.interface} table {CARE_OF_TABLE}")
        run_ip(f"-4 rule add from {link.care_of_address} lookup {CARE_OF_TABLE} pref {CARE_OF_RULE}")
        run_ip(f"route replace default dev {TUNNEL_DEVICE} src {self._home_address}")
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, IP_IN_IP)
        self._raw.bind((link.care_of_address, 0))
        return self._raw

    def visit_agent(self, interface: str, agent: str, mac: bytes) -> None:
        """Move to a foreign agent's link: it is the default router, and there is no tunnel of ours.

        It is not asked for its link-layer address, as we have no address of the link (RFC 5944, section 4.6).
        """
        self.leave()
        self._agent = agent, interface
        run_ip(f"neigh replace {agent} lladdr {mac.hex(':')} dev {interface} nud permanent")
        run_ip(f"route replace {agent}/32 dev {interface} src {self._home_address}")
        run_ip(f"route replace default via {agent} dev {interface} src {self._home_address}")

    def encapsulate(self) -> None:
        """Send what waits at the device to the home agent, in a tunnel."""

        def send(packet: bytes) -> None:
            if self._raw is not None:
                self._raw.sendto(packet, (self._home_agent, 0))

        _each(lambda: os.read(self.tunnel, LARGEST), send)

    def decapsulate(self) -> None:
        """Hand over what has come through the tunnel from the home agent; anybody else's is none of ours."""

        def receive(datagram: tuple[bytes, tuple[str, int]]) -> None:
            packet, (source, _) = datagram
            if source == self._home_agent:
                os.write(self.tunnel, packet[(packet[0] & 15) * 4 :])

        raw = self._raw
        if raw is not None:
            _each(lambda: raw.recvfrom(LARGEST), receive)

    def has_address(self) -> bool:
        """Return whether the current link still has its routes: they go when an interface goes down."""
        return bool(run_ip("-4 route show default"))

    def up(self) -> set[str]:
        """Return the names of the interfaces that carry packets now."""
        directory = Path("/sys/class/net")
        names = (name for _, name in socket.if_nameindex())
        return {name for name in names if _operstate(directory / name) == "up"}

    def teardown(self) -> None:
        """Remove all that was configured, the home address included."""
        self.leave()
        run_ip(f"address del {self._home_address}/32 dev lo", may_fail=True)
        if self._tun is not None:
            os.close(self._tun)


def _each(receive: Callable[[], T], handle: Callable[[T], None]) -> None:
    for _ in range(BATCH):
        try:
            handle(receive())
        except BlockingIOError:
            return
        except OSError:  # the link goes down this moment: its event is on the way
            return


def _operstate(path: Path) -> str:
    try:
        return (path / "operstate").read_text().strip()
    except FileNotFoundError:
        return ""
