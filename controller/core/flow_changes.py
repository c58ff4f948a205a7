# SPDX-License-Identifier: Apache-2.0
"""Represent what is sent to a switch: changes of flows, one by one or many alike, in a safe order."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec import Struct

from controller.core.flows import Flow, Kind, Row, Shape, flow_of


class FlowChange(Struct, frozen=True, gc=False):
    """One message to a switch: add ``flow`` (replacing in place what has the same key), or delete it."""

    flow: Flow
    add: bool
    expires_at: float | None = None
    hard_timeout: int = 0

    @property
    def shape(self) -> Shape:
        """The flow's shape."""
        return self.flow.shape


class AlikeChanges(Struct, frozen=True, gc=False):
    """Changes of flows of one shape, all of which come, or all go, and none of which ends by itself.

    ``rows``: the addresses of each. Of the flows of thousands of bindings no other object is made.
    """

    shape: Shape
    add: bool
    rows: list[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[FlowChange]:
        """Iterate over the changes, one by one."""
        return (FlowChange(flow_of(self.shape, row), self.add) for row in self.rows)


FlowChanges = Sequence[FlowChange | AlikeChanges]
Change = TypeVar("Change", bound=FlowChange | AlikeChanges)


def each_change(changes: Iterable[FlowChange | AlikeChanges]) -> Iterator[FlowChange]:
    """Iterate over changes, each by itself."""
    for each in changes:
        yield from each if isinstance(each, AlikeChanges) else (each,)


def count(changes: Iterable[FlowChange | AlikeChanges]) -> int:
    """Return how many changes there are."""
    return sum(len(each) if isinstance(each, AlikeChanges) else 1 for each in changes)


def in_order(changes: Iterable[Change]) -> list[Change]:
    """Return changes in a safe order."""
    return sorted(changes, key=_order)


def _order(change: FlowChange | AlikeChanges) -> int:
    """Return the rank of a change in its batch.

    Gates close first and open last. Guards come first and go last. What verifies comes before what decapsulates and
    goes after it. Nothing is deleted before its replacement is there.

    Flows of a kind come together: Open vSwitch lays them into memory as they come, and walks over all that have a
    timeout again and again, which takes four times as long where neighbours differ in size.
    """
    return _COMES[change.shape.kind] if change.add else _GOES[change.shape.kind]


def stages(changes: Sequence[FlowChange]) -> list[list[int]]:
    """Return the places of changes by stage, for a switch that takes them one by one.

    All of a stage must be done before the next may begin. An uplink flow alone would lose its packets, so what verifies
    them stands before it comes and until it is gone; likewise guards for gates.
    """
    found: dict[int, list[int]] = {}
    for place, change in enumerate(changes):
        found.setdefault(_stage(change), []).append(place)
    return [found[stage] for stage in sorted(found)]


def _stage(change: FlowChange) -> int:
    if change.flow.kind is Kind.GATE:
        return 4 if change.add else 0
    leads_on = change.flow.kind in (Kind.UPLINK, Kind.DOWNLINK)
    return (1 if leads_on else 0) if change.add else (2 if leads_on else 3)


_COMING = (Kind.CLUSTER, Kind.MISS, Kind.DRAIN, Kind.GUARD, Kind.VERIFY, Kind.UPLINK, Kind.DOWNLINK)
# Ranks by kind, in lists, as the members of an enumeration are slow to hash.
_COMES, _GOES = [0] * 256, [0] * 256
for _place, _kind in enumerate(_COMING, start=1):
    _COMES[_kind], _GOES[_kind] = _place, 200 - _place
_COMES[Kind.GATE], _GOES[Kind.GATE] = 200, 0
