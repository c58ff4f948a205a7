# SPDX-License-Identifier: Apache-2.0
"""Find the local addresses that sockets of this network namespace use."""

import struct
from ipaddress import IPv6Address
from pathlib import Path

TABLES = ("tcp6", "udp6", "raw6")
TIME_WAIT = "06"
"""State of TCP in which no program has the socket any more (Linux's include/net/tcp_states.h)."""


def addresses_in_use() -> set[str]:
    """Return the local addresses of all IPv6 sockets, but for TCP connections that programs have closed."""
    found = set()
    for table in TABLES:
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if table != "tcp6" or fields[3] != TIME_WAIT:
                found.add(_address(fields[1]))
    return found


def _address(text: str) -> str:
    """Return the address of ADDRESS:PORT, whose four words are in the host's byte order."""
    words = text.partition(":")[0]
    return str(IPv6Address(struct.pack("=4I", *(int(words[at : at + 8], 16) for at in range(0, 32, 8)))))
