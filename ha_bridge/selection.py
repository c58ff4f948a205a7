# SPDX-License-Identifier: Apache-2.0
"""Select, by protocol, the entries of an anchor's terminal that may be offloaded."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from ha_bridge.ipsec_policies import Protection
from ha_bridge.model import SEVERAL_GATEWAYS, CacheEntry, Observed, decided, offloadable
from ha_bridge.proxy_answers import PROXIED, REMOTE
from hoaflow.addresses import canonical_prefix

# Seconds for which a route that is gone still counts. At a handover an LMA deletes it, makes a device and adds it again
# 0.3 s later (OAI PMIPv6, under emulation), and so does a home agent of Mobile IPv4 (proxymip4).
SETTLE = 1.0
REVERSE_TUNNEL = "T"  # among the flags of a registration (RFC 3024)


class Selection(Protocol):
    """Which entries may be offloaded, and on which home addresses the anchor has decided."""

    def offloadable(self, entries: Sequence[CacheEntry]) -> list[Observed]:
        """Return the bindings that may be offloaded."""
        ...

    def decided(self, entries: Sequence[CacheEntry]) -> set[str]:
        """Return the home addresses and prefixes of which the anchor has said anything final."""
        ...


class HomeRegistrations:
    """Select accepted home registrations (RFC 6275)."""

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent

    def offloadable(self, entries: Sequence[CacheEntry]) -> list[Observed]:
        """Return the bindings that may be offloaded."""
        return offloadable(entries, self._home_agent)

    def decided(self, entries: Sequence[CacheEntry]) -> set[str]:
        """Return the home addresses and prefixes on which the home agent has decided."""
        return decided(entries, self._home_agent)


class Kernel(Protocol):
    """What a source asks of `KernelWatch`."""

    def bindings(self) -> list[Observed]:
        """Return the bindings that the kernel shows."""
        ...

    def protection(self) -> Protection:
        """Return the current IPsec protection."""
        ...


class SettledKernel:
    """Show an anchor's routes, with those that have been gone for less than `SETTLE` seconds. For use in one thread."""

    def __init__(self, kernel: Kernel, clock: Callable[[], float] = time.monotonic) -> None:
        self._kernel = kernel
        self._clock = clock
        self._shown: dict[str, Observed] = {}
        self._gone: dict[str, float] = {}

    def bindings(self) -> list[Observed]:
        """Return the bindings that the kernel shows, or did a moment ago."""
        now = self._clock()
        shown = {each.home_address: each for each in self._kernel.bindings()}
        self._gone = {home: self._gone.get(home, now) for home in self._shown if home not in shown}
        lasting = {home: self._shown[home] for home, since in self._gone.items() if now < since + SETTLE}
        self._shown = {**lasting, **shown}
        return list(self._shown.values())

    def protection(self) -> Protection:
        """Return the current IPsec protection."""
        return self._kernel.protection()


class Ipv4Registrations:
    """Select the accepted registrations of Mobile IPv4 (RFC 5944) that `hoaflow-ha` shows."""

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent

    def offloadable(self, entries: Sequence[CacheEntry]) -> list[Observed]:
        """Return the bindings that may be offloaded."""
        return [
            Observed(
                entry.home_address,
                entry.care_of_address,
                entry.left,
                None if entry.left is None else entry.total,  # it does not end
                entry.sequence,
                reverse_tunnel=REVERSE_TUNNEL in entry.flags,
            )
            for entry in self._own(entries)
            if entry.status == "registered" and not entry.overdue
        ]

    def decided(self, entries: Sequence[CacheEntry]) -> set[str]:
        """Return the home addresses on which the home agent has decided."""
        return {entry.home_address for entry in self._own(entries)}

    def _own(self, entries: Sequence[CacheEntry]) -> list[CacheEntry]:
        return [entry for entry in entries if entry.local == self._home_agent]


class ProxyRegistrations:
    """Select the registrations of an LMA (RFC 5213) whose packets go to a MAG.

    Where the kernel is visible its routes count: the LMA keeps an entry for a while after its route is gone (section
    5.3.5, MinDelayBeforeBCEDelete). What the terminal shows as addresses is shortened to prefixes of `prefix_length`.
    """

    def __init__(self, home_agent: str, prefix_length: int, kernel: SettledKernel | None) -> None:
        self._home_agent = home_agent
        self._prefix_length = prefix_length
        self._kernel = kernel

    def offloadable(self, entries: Sequence[CacheEntry]) -> list[Observed]:
        """Return the bindings that may be offloaded."""
        found: dict[str, Observed] = {}
        for entry in self._own(entries):
            if entry.status not in (PROXIED, REMOTE) or entry.overdue:
                continue
            home, known = self._home(entry), found.get(self._home(entry))
            if known is not None and known.care_of_address != entry.care_of_address:
                found[home] = replace(known, withheld=SEVERAL_GATEWAYS)
            elif known is None:
                found[home] = Observed(home, entry.care_of_address, entry.left, entry.total or None)
        if self._kernel is None:
            return list(found.values())
        shown = ((found[route.home_address], route) for route in self._kernel.bindings() if route.home_address in found)
        return [
            replace(entry, care_of_address=route.care_of_address, withheld=entry.withheld or route.withheld)
            for entry, route in shown
        ]

    def decided(self, entries: Sequence[CacheEntry]) -> set[str]:
        """Return the home network prefixes of which the LMA has an entry."""
        return {self._home(entry) for entry in self._own(entries)}

    def _own(self, entries: Sequence[CacheEntry]) -> list[CacheEntry]:
        return [entry for entry in entries if entry.local in (None, self._home_agent)]

    def _home(self, entry: CacheEntry) -> str:
        return canonical_prefix(f"{entry.home_address}/{self._prefix_length}", strict=False)
