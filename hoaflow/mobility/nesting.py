# SPDX-License-Identifier: Apache-2.0
"""Know whose tunnel packets go through the tunnels of mobile networks, too (RFC 3963, section 9)."""

from collections.abc import Iterator, Mapping

from hoaflow.addresses import Prefix, parse_prefix

DEEPEST = 8
"""Mobile networks within each other that are looked at, so that a circle ends."""


class Nesting:
    """How many mobile networks each home address is behind: its care-of address is in one, whose own is in another."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        """Start with nobody.

        `wanted` maps home addresses and mobile network prefixes to care-of addresses; callers keep it up to date.
        """
        self._wanted = wanted
        self._networks: set[Prefix] = set()
        self._depths: dict[str, int] = {}

    def depth(self, home_address: str) -> int:
        """Return how many mobile networks a home address is behind."""
        return self._depths.get(home_address, 0)

    def changed(self, home_address: str) -> set[str]:
        """Take note that a home address or prefix leads elsewhere, or nowhere; return all whose depth that changes."""
        prefix, tunnelled = parse_prefix(home_address), home_address in self._wanted
        before = self.depth(home_address), prefix in self._networks
        if not prefix.is_host:
            (self._networks.add if tunnelled else self._networks.discard)(prefix)
        if prefix.is_host or before == (self._looked_up(home_address), tunnelled):
            return self._note([home_address])
        return self._note([home_address, *self._wanted])  # what is in it may be behind more networks, or fewer

    def _note(self, home_addresses: list[str]) -> set[str]:
        changed = set()
        for home in home_addresses:
            depth = self._looked_up(home)
            if depth != self.depth(home):
                changed.add(home)
            if depth:
                self._depths[home] = depth
            else:
                self._depths.pop(home, None)
        return changed

    def _looked_up(self, home_address: str) -> int:
        return sum(1 for _ in self._behind(home_address)) if self._networks else 0

    def _behind(self, home_address: str) -> Iterator[Prefix]:
        """Yield the networks that a home address is behind, the innermost first."""
        for _ in range(DEEPEST):
            care_of_address = self._wanted.get(home_address)
            network = None if care_of_address is None else self._covering(parse_prefix(care_of_address))
            if network is None:
                return
            yield network
            home_address = str(network)

    def _covering(self, address: Prefix) -> Prefix | None:
        lengths = sorted({network.length for network in self._networks if network.bits == address.bits}, reverse=True)
        return next((found for length in lengths if (found := address.shortened(length)) in self._networks), None)
