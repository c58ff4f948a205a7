# SPDX-License-Identifier: Apache-2.0
"""Trace by which nodes of a testbed an echo request and its reply go, in tunnels or not, by looking at every link.

Hop limits do not show it: a tunnel's hops count on the outer header, which its end removes.
"""

import contextlib
import secrets
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hoaflow.tunnel.namespace import in_namespace
from topologies.testbed import Testbed

ETH_P_ALL = 3
SO_TIMESTAMPNS = 35
MAX_FRAME = 2048
PING_SECONDS = 20


class Sighting(NamedTuple):
    """A frame that a node received or sent, and when, in seconds and nanoseconds since the epoch."""

    at: tuple[int, int]
    node: str
    frame: bytes


class Path(NamedTuple):
    """The nodes by which a packet and its answer went, each from its sender to its receiver."""

    there: tuple[str, ...]
    back: tuple[str, ...]

    @property
    def links(self) -> int:
        """How many links both crossed."""
        return len(self.there) + len(self.back) - 2

    def __str__(self) -> str:
        there, back = " ".join(self.there), " ".join(self.back)
        return there if self.back == self.there[::-1] else f"{there}, and back {back}"


def trace(bed: Testbed, nodes: Iterable[str], source: tuple[str, str], destination: str) -> Path:
    """Send an echo request from `source`, a node and its address, to an address, and return by which `nodes` it went.

    Raises ProcessError if it is not answered, OSError.
    """
    node, address = source
    pattern = secrets.token_bytes(8)
    ping = ["ping", "-n", "-c", "1", "-W", str(PING_SECONDS), "-I", address]
    bed.run(*ping, destination, node=node)  # what it waits for (neighbours, flows) does not delay the next one
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(_listen(bed.namespace(name))) for name in nodes}
        bed.run(*ping, "-p", pattern.hex(), destination, node=node)
        seen = sorted(each for name, opened in sockets.items() for each in _sightings(name, opened, pattern))
    ends = [socket.inet_pton(socket.AF_INET6, each) for each in (address, destination)]
    return Path(_nodes(seen, ends[0] + ends[1]), _nodes(seen, ends[1] + ends[0]))


def _listen(namespace: str) -> socket.socket:
    def opened() -> socket.socket:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
        listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        return listener

    return in_namespace(namespace, opened)


def _sightings(node: str, listener: socket.socket, pattern: bytes) -> Iterator[Sighting]:
    """Yield the frames with a pattern that a socket holds."""
    while True:
        try:
            frame, extra, _, _ = listener.recvmsg(MAX_FRAME, 128)
        except BlockingIOError:
            return
        if pattern in frame:
            (stamp,) = (data for level, kind, data in extra if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS))
            yield Sighting(struct.unpack("=qq", stamp), node, frame)


def _nodes(seen: Iterable[Sighting], addresses: bytes) -> tuple[str, ...]:
    """Return the nodes that saw packets with this source and destination, innermost or not, in order."""
    found: list[str] = []
    for sighting in seen:
        if addresses in sighting.frame and found[-1:] != [sighting.node]:
            found.append(sighting.node)
    return tuple(found)
