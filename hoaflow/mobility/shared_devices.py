# SPDX-License-Identifier: Apache-2.0
"""Decide which home addresses share which tunnel device: one for each care-of address. Nothing here asks the kernel."""

import heapq
from collections import Counter
from typing import NamedTuple


class Assignment(NamedTuple):
    """What changes for a home address: its device, and which device nobody uses any more.

    `points_anew`: the device has another remote address than before, or is new. `leads_anew`: the home address had
    another device before, or none.
    """

    device: str
    points_anew: bool
    leads_anew: bool
    unused: str | None


class SharedDevices:
    """Which device each home address uses. A step costs the same however many home addresses and devices there are.

    `devices` maps home addresses to devices, `remotes` devices to care-of addresses; both are only read by others.
    """

    def __init__(self, prefix: str) -> None:
        """Begin without any; devices are called PREFIX and the smallest number that is free, from 1."""
        self._prefix = prefix
        self.devices: dict[str, str] = {}
        self.remotes: dict[str, str] = {}
        self._leading_to: dict[str, str] = {}  # the inverse of `remotes`
        self._users: Counter[str] = Counter()
        self._free: list[int] = []  # a heap of numbers that were in use
        self._highest = 0

    def assign(self, home_address: str, care_of_address: str) -> Assignment:
        """Have a home address use the device to a care-of address.

        If there is none, the home address's own takes that address, provided that nobody else uses it.
        """
        current, target = self.devices.get(home_address), self._leading_to.get(care_of_address)
        if target is not None and target == current:
            return Assignment(target, False, False, None)
        if target is None and current is not None and self._users[current] == 1:
            del self._leading_to[self.remotes[current]]
            self._point(current, care_of_address)
            return Assignment(current, True, False, None)
        device = target or self._free_name()
        self._point(device, care_of_address)
        self.devices[home_address] = device
        self._users[device] += 1
        return Assignment(device, target is None, True, None if current is None else self._leave(current))

    def release(self, home_address: str) -> str | None:
        """Forget a home address, fine if it had no device; return the device if nobody uses it any more."""
        device = self.devices.pop(home_address, None)
        return None if device is None else self._leave(device)

    def _point(self, device: str, care_of_address: str) -> None:
        self.remotes[device] = care_of_address
        self._leading_to[care_of_address] = device

    def _leave(self, device: str) -> str | None:
        self._users[device] -= 1
        if self._users[device]:
            return None
        del self._users[device], self._leading_to[self.remotes.pop(device)]
        heapq.heappush(self._free, int(device.removeprefix(self._prefix)))
        return device

    def _free_name(self) -> str:
        if self._free:
            return f"{self._prefix}{heapq.heappop(self._free)}"
        self._highest += 1
        return f"{self._prefix}{self._highest}"
