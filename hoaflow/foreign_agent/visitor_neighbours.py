# SPDX-License-Identifier: Apache-2.0
"""Declare the link-layer addresses of visitors, as they register: nobody asks a visitor for it (RFC 5944, 3.7.2.1)."""

from collections.abc import Mapping

from hoaflow.foreign_agent.checks import Station
from hoaflow.linux import AF_INET, NUD_PERMANENT
from hoaflow.mobility.binding_objects import OWNER, summary
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import add_neighbour, remove_neighbour


class VisitorNeighbours:
    """A permanent neighbour entry for each visitor, with protocol number OWNER, and no others of that number."""

    def __init__(self, links: tuple[str, ...], wanted: Mapping[str, Station]) -> None:
        """Declare them on these links. `wanted` maps home addresses to stations; it may change any time."""
        self._links, self._wanted = links, wanted

    def __str__(self) -> str:
        return "link-layer addresses of visitors"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        missing, surplus = self._compared(actual)
        return summary("neighbours", missing, [address for _, address in surplus])

    def make(self) -> None:
        """See `Declared`."""
        with ActualState() as actual:
            missing, surplus = self._compared(actual)
        for link, address in surplus:
            remove_neighbour(None, link, address)
        for address in missing:
            self.put(address)

    def remove(self) -> None:
        """See `Declared`."""
        self._wanted = {}
        self.make()

    def put(self, home_address: str) -> None:
        """Make or replace the entry of a wanted home address. Raises LinkError."""
        link, mac = self._wanted[home_address]
        add_neighbour(None, link, home_address, mac.hex(":"), OWNER)

    def _compared(self, actual: ActualState) -> tuple[list[str], list[tuple[str, str]]]:
        """Return home addresses without an entry, and entries of ours that are wrong as (link, address)."""
        present = actual.links(None)
        names = {present[link].number: link for link in self._links if link in present}
        right: set[str] = set()
        surplus = []
        for found in actual.neighbours(None, AF_INET):
            if found.interface not in names or found.protocol != OWNER:
                continue
            there = Station(names[found.interface], bytes.fromhex(found.mac.replace(":", "")))
            if self._wanted.get(found.address) == there and found.state & NUD_PERMANENT:
                right.add(found.address)
            else:
                surplus.append((there.link, found.address))
        return sorted(self._wanted.keys() - right), surplus
