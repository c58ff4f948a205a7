# SPDX-License-Identifier: Apache-2.0
"""Identify the home agent's process by its sockets: another process has other sockets."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

_NET = Path("/proc/self/net")
RAW_SOCKETS = _NET / "raw6"
TCP_SOCKETS = (_NET / "tcp", _NET / "tcp6")
# Columns of these files: local address, state and inode.
_LOCAL, _STATE, _INODE = 1, 3, 9
_LISTENING = "0A"
_MOBILITY_HEADER = 135


def mobility_header_sockets(raw_sockets: Path = RAW_SOCKETS) -> frozenset[int]:
    """Return the inodes of the sockets in this network namespace that receive Mobility Headers.

    Every home agent has one.
    """
    # A raw socket has its protocol number in the place of the port.
    return frozenset(int(row[_INODE]) for row in _rows(raw_sockets) if _port(row) == _MOBILITY_HEADER)


def terminal_sockets(host: str, port: int, files: tuple[Path, ...] = TCP_SOCKETS) -> frozenset[int]:
    """Return the inodes of the sockets on which the terminal at `host` listens.

    Empty unless `host` is a loopback address: only that certainly lies in this network namespace.
    """
    if not _is_loopback(host):
        return frozenset()
    return frozenset(
        int(row[_INODE])
        for path in files
        if path.exists()
        for row in _rows(path)
        if row[_STATE] == _LISTENING and _port(row) == port
    )


def _rows(path: Path) -> Iterator[list[str]]:
    return (line.split() for line in path.read_text().splitlines()[1:])


def _port(row: list[str]) -> int:
    return int(row[_LOCAL].rpartition(":")[2], 16)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
