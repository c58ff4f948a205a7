# SPDX-License-Identifier: Apache-2.0
"""On the home link: duplicate address detection and proxy neighbour discovery (RFC 6275, section 10.4.1)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from home_agent.neighbours import claimed_address, dad_solicitation, unsolicited_advertisement
from home_agent.packet_io import LinkSender, PacketReceiver, neighbour_discovery
from logs import Log
from tunnel.rtnetlink import attributes

OWNER = 16
"""Protocol number of our proxy entries and routes: the one UMIP's have."""

NTF_PROXY = 0x08
RTM_GETNEIGH, NLMSG_ERROR, NLMSG_DONE = 30, 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NDA_DST, NDA_PROTOCOL = 1, 12
NETLINK_TIMEOUT = 5.0

LOG = Log("home-agent")


class Sysctls:
    """Settings under /proc/sys/net that are switched on while we run, and put back as they were found."""

    def __init__(self) -> None:
        self._before: dict[Path, str] = {}

    def set(self, name: str, value: str) -> None:
        """Sets `net.NAME` (with slashes), if it is not so. Raises OSError."""
        path = Path("/proc/sys/net") / name
        before = path.read_text().strip()
        if before != value:
            path.write_text(value)
            self._before.setdefault(path, before)
            LOG.info("sysctl-set", name=name, before=before, now=value)

    def proxy_neighbours(self, interface: str) -> None:
        """Has the kernel answer for proxy entries on an interface; enough if it does on all. Raises OSError."""
        if Path("/proc/sys/net/ipv6/conf/all/proxy_ndp").read_text().strip() != "1":
            self.set(f"ipv6/conf/{interface}/proxy_ndp", "1")

    def restore(self) -> None:
        """Puts back what was changed; an interface that is gone has nothing to put back."""
        for path, value in self._before.items():
            if path.exists():
                path.write_text(value)
        self._before.clear()


class HomeLink:
    """The home link's interface. Everything that it leaves in the kernel carries protocol number OWNER."""

    def __init__(self, interface: str, home_agent: str) -> None:
        """Raises OSError when there is no such interface."""
        self.interface, self._home_agent = interface, home_agent
        self._index = socket.if_nametoindex(interface)
        self._netlink = IPRoute()
        self._sender = LinkSender(interface)
        self.receiver = PacketReceiver(neighbour_discovery(), interface)

    def ask(self, address: str) -> None:
        """Starts duplicate address detection: one solicitation; `claims` tells who answers. Raises OSError."""
        self._sender.multicast(dad_solicitation(address))

    def claims(self) -> Iterator[str]:
        """Addresses that neighbours have, or are about to take, by what has come in since."""
        for packet in self.receiver.packets():
            if (address := claimed_address(packet)) is not None:
                yield address

    def defend(self, address: str) -> None:
        """Answers for an address from now on, and tells every node on the link. Idempotent. Raises OSError."""
        self._proxy("replace", address)
        mac = self._sender.link_layer_address
        self._sender.multicast(unsolicited_advertisement(self._home_agent, address, mac))

    def release(self, address: str) -> None:
        """Answers for an address no longer. Fine when it did not. Raises OSError."""
        try:
            self._proxy("del", address)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def defended(self) -> set[str]:
        """The addresses that our proxy entries are for, as the kernel has them. Raises OSError."""
        # pyroute2's dump of neighbours leaves the flag out that asks for proxy entries.
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            netlink.settimeout(NETLINK_TIMEOUT)
            body = struct.pack("=BxxxiHBB", socket.AF_INET6, 0, 0, NTF_PROXY, 0)
            head = struct.pack("=IHHII", 16 + len(body), RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
            netlink.send(head + body)
            found: set[str] = set()
            while True:
                data = netlink.recv(1 << 16)
                while data:
                    length, kind = struct.unpack_from("=IH", data)
                    if kind in (NLMSG_DONE, NLMSG_ERROR):
                        return found
                    entry = dict(attributes(data[28:length]))
                    if data[20:24] == struct.pack("=i", self._index) and entry.get(NDA_PROTOCOL) == bytes([OWNER]):
                        found.add(socket.inet_ntop(socket.AF_INET6, entry[NDA_DST]))
                    data = data[(length + 3) & ~3 :]

    def close(self) -> None:
        self.receiver.close()
        self._sender.close()
        self._netlink.close()

    def _proxy(self, verb: str, address: str) -> None:
        try:
            self._netlink.neigh(
                verb, dst=address, ifindex=self._index, flags=NTF_PROXY, protocol=OWNER, family=socket.AF_INET6
            )
        except NetlinkError as error:
            raise OSError(error.code, f"proxy entry for {address} on {self.interface}: {error}") from error


def own_address(address: str, length: int, interface: str) -> Callable[[], None]:
    """Puts the home agent's address on the home link if it is not there; returns what undoes that. Raises OSError."""
    with IPRoute() as netlink:
        index = socket.if_nametoindex(interface)
        present = {a.get("address") for a in netlink.get_addr(family=socket.AF_INET6, index=index)}
        if address in present:
            return lambda: None
        netlink.addr("add", index=index, address=address, prefixlen=length)
    LOG.info("address-added", home_agent=f"{address}/{length}", interface=interface)

    def remove() -> None:
        with IPRoute() as netlink:
            netlink.addr("del", index=index, address=address, prefixlen=length)

    return remove
