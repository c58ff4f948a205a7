# SPDX-License-Identifier: Apache-2.0
"""Have the kernel complete checksums before a packet socket reads packets.

Virtual interfaces leave TCP's and UDP's checksums, and the segmentation of large packets, to a later device. Packets
that are read and sent anew would keep what is not complete, and be dropped by their receiver.
"""

import ctypes
import fcntl
import socket
import struct

from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import LinkError

SIOCETHTOOL = 0x8946
ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM = 0x16, 0x17


class CompleteChecksums:
    """An interface does not offer to compute checksums, so what is sent to it has them. Its segments are small, too."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    def __str__(self) -> str:
        return f"checksums are complete on {self._interface}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        actual.link(None, self._interface)
        return f"{self._interface} leaves checksums to later" if self._ethtool(ETHTOOL_GTXCSUM, 0) else None

    def make(self) -> None:
        """See `Declared`."""
        self._ethtool(ETHTOOL_STXCSUM, 0)

    def remove(self) -> None:
        """Do nothing: it goes with the interface."""

    def _ethtool(self, command: int, value: int) -> int:
        """Call ethtool's interface (linux/ethtool.h, struct ethtool_value) and return the value afterwards."""
        data = ctypes.create_string_buffer(struct.pack("=II", command, value), 8)
        request = struct.pack("16sP16x", self._interface.encode(), ctypes.addressof(data))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
            try:
                fcntl.ioctl(asking, SIOCETHTOOL, request)
            except OSError as error:
                raise LinkError(f"{self}: {error.strerror}") from error
        return int(struct.unpack("=II", data.raw)[1])
