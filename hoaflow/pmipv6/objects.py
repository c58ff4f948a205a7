# SPDX-License-Identifier: Apache-2.0
"""Declare kinds of objects that only anchors and access gateways have; `hoaflow.tunnel` has the others."""

from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.objects import IpAddress

LOOPBACK = "lo"


class OwnAddress:
    """Some interface has the address by which peers know this host; by default, the loopback interface."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._on_loopback = IpAddress(None, LOOPBACK, address, 128)
        self._ours = False

    def __str__(self) -> str:
        return f"address {self._address}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        there = any(found.address == self._address for found in actual.addresses(None))
        return None if there else f"no interface has {self._address}"

    def make(self) -> None:
        """See `Declared`."""
        self._on_loopback.make()
        self._ours = True

    def remove(self) -> None:
        """See `Declared`. An address that was there before stays."""
        if self._ours:
            self._on_loopback.remove()
        self._ours = False
