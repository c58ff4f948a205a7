# SPDX-License-Identifier: Apache-2.0
"""Set addresses, routes and rules in an emulated mobile node's namespace, and take its interfaces over."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from hoaflow.linux import IFA_F_NODAD

OWNER = 16
GONE = (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV)


def index_of(interface: str) -> int:
    """Return an interface's index. Raises OSError, ENODEV if there is none of that name."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise OSError(errno.ENODEV, "there is no such interface", interface) from error


def take_over(interface: str) -> None:
    """Keep the kernel from trying addresses out first on an interface, and from learning routers. Raises OSError.

    Addresses and routers of an emulated node are given, or learnt by the program.
    """
    index_of(interface)
    for name in ("accept_dad", "accept_ra"):
        try:
            Path(f"/proc/sys/net/ipv6/conf/{interface}/{name}").write_text("0")
        except OSError as error:
            # A container's settings are read-only. Its own addresses are not tried out in any case.
            if error.errno != errno.EROFS:
                raise


class KernelSettings:
    """IPv6 addresses, routes and rules. With `del`, what is not there is no error. Raises OSError.

    An interface that is gone has taken its addresses and routes along.
    """

    def __init__(self) -> None:
        """Open a netlink socket."""
        self._netlink = IPRoute()

    def address(self, verb: str, interface: str, address: str, length: int, flags: int = 0, **lifetime: int) -> None:
        """Add, replace or delete (`verb`) an address."""
        with _tolerant(verb):
            self._netlink.addr(
                verb,
                index=index_of(interface),
                address=address,
                prefixlen=length,
                family=socket.AF_INET6,
                flags=flags | IFA_F_NODAD,
                **lifetime,
            )

    def route(self, verb: str, interface: str | None = None, **route: object) -> None:
        """Add, replace or delete a route, as pyroute2 describes it, by an interface if there is one."""
        with _tolerant(verb):
            link = {} if interface is None else {"oif": index_of(interface)}
            self._netlink.route(verb, family=socket.AF_INET6, proto=OWNER, **link, **route)

    def rule(self, verb: str, source: str, table: int, priority: int) -> None:
        """Add or delete the rule by which packets with this source are routed by a table."""
        with _tolerant(verb):
            self._netlink.rule(verb, family=socket.AF_INET6, priority=priority, src=source, src_len=128, table=table)

    def has_address(self, interface: str, address: str) -> bool:
        """Return whether an interface has an address: it loses its addresses when it goes down."""
        addresses = self._netlink.get_addr(family=socket.AF_INET6, index=index_of(interface))
        return any(entry.get("address") == address for entry in addresses)

    def up(self) -> set[str]:
        """Return the names of the interfaces that carry packets now."""
        links = self._netlink.get_links()
        return {str(link.get("ifname")) for link in links if link.get("operstate") == "UP"}

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()


@contextmanager
def _tolerant(verb: str) -> Iterator[None]:
    """Ignore "exists" when adding and "not found" when deleting; raise every other error as OSError."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in (GONE if verb == "del" else (errno.EEXIST,)):
            raise OSError(error.code, str(error)) from error
    except OSError as error:
        if verb != "del" or error.errno not in GONE:
            raise
