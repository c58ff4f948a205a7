# SPDX-License-Identifier: Apache-2.0
"""Identify the home agent's process by its sockets, and who owns them: another process has other sockets."""

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NET = Path("/proc/thread-self/net")
RAW_SOCKETS = _NET / "raw6"
TCP_SOCKETS = (_NET / "tcp", _NET / "tcp6")
UDP_SOCKETS = (_NET / "udp", _NET / "udp6")
# Columns of these files: local address, state, user and inode.
_LOCAL, _STATE, _USER, _INODE = 1, 3, 7, 9
_LISTENING = "0A"
_MOBILITY_HEADER = 135
_REGISTRATION = 434  # the UDP port of Registration Requests (RFC 5944 section 3.3)


class Listener(NamedTuple):
    """A listening TCP socket: its inode, the user who opened it, and its address as the kernel writes it."""

    inode: int
    user: int
    address: str

    def takes(self, address: str) -> bool:
        """Tell whether connections to an address come to it."""
        return not self.address.strip("0") or self.address in _written(address)


def mobility_header_sockets(raw_sockets: Path = RAW_SOCKETS) -> frozenset[int]:
    """Return the inodes of the sockets in this network namespace that receive Mobility Headers.

    Every home agent of Mobile IPv6 has one.
    """
    # A raw socket has its protocol number in the place of the port.
    return frozenset(int(row[_INODE]) for row in _rows(raw_sockets) if _port(row) == _MOBILITY_HEADER)


def registration_sockets(files: tuple[Path, ...] = UDP_SOCKETS) -> frozenset[int]:
    """Return the inodes of the sockets in this network namespace that receive Registration Requests.

    Every home agent of Mobile IPv4 has one.
    """
    rows = (row for path in files if path.exists() for row in _rows(path))
    return frozenset(int(row[_INODE]) for row in rows if _port(row) == _REGISTRATION)


def terminal_sockets(host: str, port: int, files: tuple[Path, ...] = TCP_SOCKETS) -> frozenset[int]:
    """Return the inodes of the sockets on which the terminal at `host` listens.

    Empty unless `host` is a loopback address: only that certainly lies in this network namespace.
    """
    if not is_loopback(host):
        return frozenset()
    return frozenset(listener.inode for listener in listeners(port, files))


def listeners(port: int, files: tuple[Path, ...] = TCP_SOCKETS) -> frozenset[Listener]:
    """Return who listens at a port in this network namespace, whatever the address."""
    return frozenset(
        Listener(int(row[_INODE]), int(row[_USER]), row[_LOCAL].rpartition(":")[0])
        for path in files
        if path.exists()
        for row in _rows(path)
        if row[_STATE] == _LISTENING and _port(row) == port
    )


def _rows(path: Path) -> Iterator[list[str]]:
    return (line.split() for line in path.read_text().splitlines()[1:])


def _port(row: list[str]) -> int:
    return int(row[_LOCAL].rpartition(":")[2], 16)


def _written(address: str) -> frozenset[str]:
    """Return an address as the kernel writes it: by words of 32 bits in the processor's order."""
    packed = ipaddress.ip_address(address).packed
    words = "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", packed))
    if len(packed) > 4:
        return frozenset({words})
    mapped = "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", bytes(10) + b"\xff\xff" + packed))
    return frozenset({words, mapped})


def is_loopback(host: str) -> bool:
    """Tell whether a host is this one by its loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
