# SPDX-License-Identifier: Apache-2.0
"""Where the bindings come from: the virtual terminal, or the kernel alone. For one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from logs import Log

from .console import Console, ConsoleRefused, ConsoleUnreadable
from .kernel import KernelWatch, mobility_header_sockets
from .model import CacheEntry, Observed, Reading, ReadingFailed, offloadable
from .policies import Protection
from .restoration import Restoration

LOG = Log("bridge")

IPSEC = "ipsec: the home agent's kernel protects its payload"


class Source(Protocol):
    """A way to look at the home agent's bindings."""

    def read(self) -> Reading | ReadingFailed:
        """Look once, in bounded time."""
        ...


class ConsoleSource:
    """The virtual terminal; with the kernel in view, its IPsec policies and tunnels are heeded as well.

    With `restore`, what the home agent forgot in a restart is put back through the terminal.
    """

    def __init__(self, console: Console, home_agent: str, kernel: KernelWatch | None, restore: bool = False) -> None:
        self._console = console
        self._home_agent = home_agent
        self._kernel = kernel
        self._restoration = Restoration(home_agent) if restore else None

    def read(self) -> Reading | ReadingFailed:
        """Ask the terminal for the whole binding cache."""
        started = time.monotonic()
        try:
            entries = self._console.read()
            if self._restoration is not None:
                entries = self._restored(self._restoration, entries)
        except ConsoleRefused as error:
            if self._restoration is not None:
                self._restoration.gone()
            return ReadingFailed(started, down=True, detail=str(error))
        except ConsoleUnreadable as error:
            confirmed = self._kernel.confirmed() if self._kernel else None
            return ReadingFailed(started, down=False, detail=str(error), confirmed=confirmed)
        bindings = offloadable(entries, self._home_agent)
        return _reading(started, bindings, self._kernel.protection() if self._kernel else None)

    def _restored(self, restoration: Restoration, entries: list[CacheEntry]) -> list[CacheEntry]:
        """Have the home agent know again what it forgot in a restart; return what it then shows."""
        sockets = mobility_header_sockets() if self._kernel else frozenset()
        forgotten = restoration.forgotten(entries, sockets, time.monotonic())
        if forgotten.entries:
            refused = self._console.add(forgotten.entries)
            forgotten.given_up.update(refused)
            LOG.warning("home-agent-restored", bindings=len(forgotten.entries) - len(refused))
            entries = self._console.read()
        for home, reason in forgotten.given_up.items():
            LOG.warning("binding-not-restored", home_address=home, reason=reason)
        restoration.seen(entries, sockets, time.monotonic())
        return entries


class KernelSource:
    """The kernel alone: no lifetimes, no sequence numbers.

    Its tunnels outlive the home agent's process, so that is looked for by its raw socket for Mobility
    Headers. A home agent that was never seen to have one (it may receive in another way) is taken as running.
    """

    def __init__(self, kernel: KernelWatch, listening: Callable[[], object] = mobility_header_sockets) -> None:
        self._kernel = kernel
        self._listening = listening
        self._listened = False

    def read(self) -> Reading | ReadingFailed:
        """Take what the kernel's events have told so far."""
        started = time.monotonic()
        if self._listening():
            self._listened = True
        elif self._listened:
            return ReadingFailed(started, down=True, detail="no process receives Mobility Headers any more")
        return _reading(started, self._kernel.bindings(), self._kernel.protection())


def _reading(started: float, bindings: Iterable[Observed], protection: Protection | None) -> Reading:
    if protection is None:
        return Reading(started, list(bindings))
    reading = Reading(started, [])
    for binding in bindings:
        if protection.covers(binding.home_address, binding.care_of_address):
            reading.withheld[binding.home_address] = IPSEC
        else:
            reading.bindings.append(binding)
    return reading
