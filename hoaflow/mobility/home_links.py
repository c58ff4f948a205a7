# SPDX-License-Identifier: Apache-2.0
"""Declare what home agents of either family need of the home link."""

import errno
import socket

from pyroute2 import IPRoute, NetlinkError

from hoaflow.tunnel import links
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import LinkError

IFA_F_NODAD, IFA_F_DADFAILED = 0x02, 0x08


class Up:
    """The home link is up. Only its administrator sets it up, so a link that is down is reported."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    def __str__(self) -> str:
        return f"home link {self._interface} up"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        found = actual.links(None).get(self._interface)
        if found is None:
            return f"home link {self._interface} is missing"
        return None if found.up else f"home link {self._interface} is down"

    def make(self) -> None:
        """See `Declared`."""
        raise LinkError(f"set the home link up: ip link set {self._interface} up")

    def remove(self) -> None:
        """See `Declared`."""


class OwnAddress:
    """The home agent's address is on the home link. If it was there before, `remove` leaves it.

    `owned`: it is this pod's by an ownership. Then nobody else is asked whether he has it (RFC 4862), which takes a
    second and would find a former owner's kernel; and `remove` removes it in any case.
    """

    def __init__(self, address: str, length: int, interface: str, owned: bool = False) -> None:
        self._address, self._length, self._interface, self._owned = address, length, interface, owned
        self._ours = owned

    def __str__(self) -> str:
        return f"address {self._address}/{self._length} dev {self._interface}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        index = actual.link(None, self._interface).number
        found = [a for a in actual.addresses(None) if (a.interface, a.address) == (index, self._address)]
        if not found:
            return f"address {self._address} is missing on {self._interface}"
        duplicate = found[0].flags & IFA_F_DADFAILED
        return f"another node on {self._interface} has {self._address}" if duplicate else None

    def make(self) -> None:
        """Assign it, also anew if another node had it: that node may be gone."""
        with IPRoute() as netlink:
            try:
                index = socket.if_nametoindex(self._interface)
                family = links.family_of(self._address)
                for found in netlink.get_addr(family=family, index=index, address=self._address):
                    netlink.addr("del", index=index, address=self._address, prefixlen=found["prefixlen"])
                flags = IFA_F_NODAD if self._owned else 0
                netlink.addr("add", index=index, address=self._address, prefixlen=self._length, flags=flags)
            except (NetlinkError, OSError) as error:
                raise LinkError(f"{self}: {error}") from error
        self._ours = True

    def remove(self) -> None:
        """See `Declared`."""
        if not self._ours:
            return
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=self._interface):
                try:
                    netlink.addr("del", index=index, address=self._address, prefixlen=self._length)
                except NetlinkError as error:
                    if error.code != errno.EADDRNOTAVAIL:
                        raise
        self._ours = self._owned
