# SPDX-License-Identifier: Apache-2.0
"""Read bindings from the virtual terminal, or from the kernel alone. For use in one thread."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ha_bridge.frozen_bindings import FrozenBindings
from ha_bridge.ipsec_policies import Protection
from ha_bridge.kernel_watch import KernelWatch
from ha_bridge.model import CacheEntry, Observed, Reading, ReadingFailed
from ha_bridge.process_sockets import mobility_header_sockets
from ha_bridge.restoration import Restoration
from ha_bridge.selection import HomeRegistrations, Kernel, Selection
from ha_bridge.terminal_client import TerminalClient, TerminalRefused, TerminalUnreadable
from hoaflow.logs import Log

LOG = Log("bridge")

IPSEC = "IPsec: the home agent's kernel protects its payload"
# Seconds after which a home agent that suddenly shows nothing is asked once more.
STILL_THERE = 0.15


class Source(Protocol):
    """A source of the home agent's bindings."""

    def read(self) -> Reading | ReadingFailed:
        """Read the bindings, in bounded time."""
        ...

    def begin_anew(self) -> None:
        """Forget what earlier readings showed: meanwhile another pod may have owned the address."""
        ...


class TerminalSource:
    """Read bindings from the virtual terminal; with the kernel in view, use its IPsec policies and tunnels too.

    With `restore`, bindings that the home agent forgot in a restart are restored through the terminal. `pause` waits
    for that many seconds. `selection`: which entries count, home registrations by default.
    """

    def __init__(
        self,
        terminal: TerminalClient,
        home_agent: str,
        kernel: KernelWatch | None,
        restore: bool = False,
        pause: Callable[[float], None] = time.sleep,
        selection: Selection | None = None,
    ) -> None:
        self._terminal = terminal
        self._selection = selection or HomeRegistrations(home_agent)
        self._kernel = kernel
        self._frozen = FrozenBindings()
        self._restoration = Restoration(home_agent) if restore else None
        self._pause = pause

    def read(self) -> Reading | ReadingFailed:
        """Ask the terminal for the whole binding cache."""
        started = time.monotonic()
        sockets = self._sockets()
        restarted = self._frozen.is_restarted(sockets)
        try:
            entries = self._terminal.read()
            if self._frozen.is_emptied(self._selection.offloadable(entries)) and not restarted:
                # A process that ends may have emptied its cache first.
                self._pause(STILL_THERE)
                started, entries = time.monotonic(), self._terminal.read()
            if self._restoration is not None:
                entries = self._restored(self._restoration, entries, restarted)
        except TerminalRefused as error:
            self._frozen.process_gone()
            return ReadingFailed(started, down=True, detail=str(error))
        except TerminalUnreadable as error:
            confirmed = self._kernel.confirmed() if self._kernel else None
            return ReadingFailed(started, down=False, detail=str(error), confirmed=confirmed)
        if self._sockets() != sockets:
            return ReadingFailed(started, down=False, detail="the home agent's process was replaced during the reading")
        shown = self._selection.offloadable(entries)
        waits_for = self._restoration.waits_for if self._restoration else None
        if waits_for and restarted and not self._frozen.has_new_registrations(shown):
            return ReadingFailed(started, down=True, detail=waits_for)
        if self._restoration is not None:
            self._restoration.observe(entries, time.monotonic())
        frozen = self._frozen.observe(shown, self._selection.decided(entries), sockets, time.monotonic())
        return _reading(started, shown, frozen, restarted, self._kernel.protection() if self._kernel else None)

    def begin_anew(self) -> None:
        """Forget what earlier readings showed."""
        self._frozen = FrozenBindings()

    def _sockets(self) -> frozenset[int]:
        """Return the sockets that identify the home agent's process."""
        return self._terminal.sockets() or (mobility_header_sockets() if self._kernel else frozenset())

    def _restored(self, restoration: Restoration, entries: list[CacheEntry], restarted: bool) -> list[CacheEntry]:
        """Restore what the home agent forgot in a restart; return the entries it then shows."""
        if restarted:
            restoration.restarted()
        if due := restoration.due(entries, time.monotonic()):
            added, refused = self._terminal.add(due)
            restoration.added(added)
            restoration.refused(refused)
            if added:
                LOG.warning("home-agent-restored", bindings=len(added))
                entries = self._terminal.read()
        for home, reason in restoration.take_given_up().items():
            LOG.warning("binding-not-restored", home_address=home, reason=reason)
        return entries


class KernelSource:
    """Read bindings from the kernel alone: without lifetimes and sequence numbers.

    Tunnels outlive the home agent's process, so the process is recognised by its socket for what mobile nodes send:
    `listening` returns those that receive `messages`. A home agent that never had one (it may receive by other means)
    counts as running.
    """

    def __init__(
        self,
        kernel: Kernel,
        listening: Callable[[], frozenset[int]] = mobility_header_sockets,
        pause: Callable[[float], None] = time.sleep,
        messages: str = "Mobility Headers",
    ) -> None:
        self._kernel = kernel
        self._messages = messages
        self._listening = listening
        self._listened = False
        self._frozen = FrozenBindings()
        self._pause = pause

    def read(self) -> Reading | ReadingFailed:
        """Return the bindings known from the kernel's events so far."""
        started = time.monotonic()
        shown, sockets = self._kernel.bindings(), self._listening()
        restarted = self._frozen.is_restarted(sockets)
        if self._frozen.is_emptied(shown) and not restarted:
            # A process that ends may have removed its routes first.
            self._pause(STILL_THERE)
            started, shown, sockets = time.monotonic(), self._kernel.bindings(), self._listening()
            restarted = self._frozen.is_restarted(sockets)
        if sockets:
            self._listened = True
        elif self._listened:
            self._frozen.process_gone()
            return ReadingFailed(started, down=True, detail=f"no process receives {self._messages} any more")
        present = {binding.home_address for binding in shown}
        frozen = self._frozen.observe(shown, present, sockets, time.monotonic())
        return _reading(started, shown, frozen, restarted, self._kernel.protection())

    def begin_anew(self) -> None:
        """Forget what earlier readings showed."""
        self._frozen, self._listened = FrozenBindings(), False


def _reading(
    started: float, shown: list[Observed], frozen: list[Observed], restarted: bool, protection: Protection | None
) -> Reading:
    if restarted and (shown or frozen):
        LOG.warning("home-agent-restarted", shows=len(shown), frozen=len(frozen))
    bindings = [*shown, *frozen]
    if protection is not None:
        bindings = [
            replace(each, withheld=IPSEC) if protection.covers(each.home_address, each.care_of_address) else each
            for each in bindings
        ]
    return Reading(started, bindings)
