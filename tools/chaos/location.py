# SPDX-License-Identifier: Apache-2.0
"""Tell where mobile nodes were, and which places a flow's packets depended on: pure."""

from bisect import bisect_right
from collections.abc import Iterable

from tools.chaos.addresses import Flow, MobileNode, Plan
from tools.chaos.packets import Kind, Record, octets
from tools.chaos.timeline import Move

AHEAD = 2.0  # seconds by which a packet may be ahead of the acknowledgement, which an anchor sends last


class Location:
    """Follow each mobile node by its moves, and by the replies that its registrations got.

    Places are `cn`, `link1` and so on, the names of mobile nodes and of home agents.
    """

    def __init__(self, plan: Plan, moves: Iterable[Move], records: Iterable[Record]) -> None:
        self._plan = plan
        self.moves: dict[str, list[Move]] = {node.name: [] for node in plan.mobile_nodes}
        for move in sorted(moves, key=lambda move: move.at):
            self.moves[move.node].append(move)
        self.registered: dict[str, list[tuple[float, bytes]]] = {node.name: [] for node in plan.mobile_nodes}
        self._owner = {
            octets(binding.partition("/")[0]): node.name for node in plan.mobile_nodes for binding in node.bindings
        }
        for record in records:
            if record.kind is Kind.REGISTERED and record.outer_source in self._owner:
                self.registered[self._owner[record.outer_source]].append((record.at, record.outer_destination))

    def link(self, node: str, at: float) -> int | None:
        """Return the link that a mobile node was on, 0 at home, None before it was anywhere."""
        moves = self.moves[node]
        index = bisect_right(moves, at, key=lambda move: move.at)
        return moves[index - 1].link if index else None

    def is_away(self, node: str, at: float) -> bool:
        """Tell whether a mobile node was on a foreign link."""
        return bool(self.link(node, at))

    def left(self, node: str, address: bytes, at: float) -> float | None:
        """Return since when a care-of address is no longer the node's by its last acknowledgement, None if it is.

        It is again a moment before it is acknowledged.
        """
        registrations = self.registered[node]
        index = bisect_right(registrations, at, key=lambda each: each[0])
        if any(address == registered for moment, registered in registrations[index:] if moment <= at + AHEAD):
            return None
        since = None
        for moment, registered in reversed(registrations[:index]):
            if registered == address:
                return since
            since = moment
        return since

    def arrived(self, move: Move) -> float | None:
        """Return when a move was acknowledged by the home agent, None if it never was before the next move."""
        after = next((each.at for each in self.moves[move.node] if each.at > move.at), float("inf"))
        wanted = self._address(move)
        found = (at for at, address in self.registered[move.node] if move.at <= at < after and address == wanted)
        return next(found, None)

    def _address(self, move: Move) -> bytes:
        node = self._plan.mobile_node(move.node)
        assert node is not None
        return octets(node.care_of_address(move.link) if move.link else node.home_address)

    def ends(self, flow: Flow) -> list[MobileNode]:
        """Return the mobile nodes at a flow's ends."""
        nodes = (self._plan.mobile_node(name) for name in (flow.source, flow.destination))
        return [node for node in nodes if node is not None]

    def places(self, flow: Flow, at: float) -> set[str]:
        """Return the places that a flow's packets depended on."""
        found = {flow.source, flow.destination}
        for node in self.ends(flow):
            found |= {node.home_agent.name, f"link{self.link(node.name, at)}"}
        return found
