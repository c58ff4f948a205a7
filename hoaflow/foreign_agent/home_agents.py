# SPDX-License-Identifier: Apache-2.0
"""Exchange registrations with home agents, and hear from the network that one is unreachable (RFC 5944, 3.7.2.3)."""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hoaflow.mobile_ipv4.messages import REGISTRATION_PORT, Code
from hoaflow.mobility.packet_io import BATCH

LARGEST = 65535
IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000
EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err
FROM_ICMP = 2  # SO_EE_ORIGIN_ICMP
UNREACHABLE = 3  # type
CODES = {
    0: Code.HOME_NETWORK_UNREACHABLE,
    1: Code.HOME_AGENT_HOST_UNREACHABLE,
    3: Code.HOME_AGENT_PORT_UNREACHABLE,
}
"""Of ICMP's codes of unreachable destinations (RFC 5944, section 3.4); others are HOME_AGENT_UNREACHABLE."""


class Received(NamedTuple):
    """A message of a home agent. With `error` it is one of ours, about which the network has sent an ICMP error."""

    message: bytes
    home_agent: str
    error: Code | None = None


class HomeAgents:
    """The socket towards home agents: it has the care-of address."""

    def __init__(self, care_of_address: str) -> None:
        """Open it. Raises OSError."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        self._socket.bind((care_of_address, 0))

    def fileno(self) -> int:
        """Return its descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, message: bytes, home_agent: str) -> None:
        """Send a Registration Request. Raises OSError."""
        self._socket.sendto(message, (home_agent, REGISTRATION_PORT))

    def received(self) -> Iterator[Received]:
        """Yield messages and errors that have arrived, at most BATCH of each."""
        yield from self._errors()
        for _ in range(BATCH):
            try:
                message, (home_agent, port) = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # an error that `_errors` has, too
                continue
            if port == REGISTRATION_PORT:
                yield Received(message, home_agent)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _errors(self) -> Iterator[Received]:
        for _ in range(BATCH):
            try:
                message, ancillary, _, (home_agent, _) = self._socket.recvmsg(LARGEST, 512, MSG_ERRQUEUE)
            except BlockingIOError:
                return
            for level, kind, data in ancillary:
                if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR):
                    _, origin, icmp_type, code, _, _, _ = EXTENDED_ERROR.unpack_from(data)
                    if origin == FROM_ICMP and icmp_type == UNREACHABLE:
                        yield Received(message, home_agent, CODES.get(code, Code.HOME_AGENT_UNREACHABLE))
