# SPDX-License-Identifier: Apache-2.0
"""Flows as the controller's decoder hands them on: those alike together, each of all others by itself."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat

from controller.core.first_reading import FirstReading
from controller.core.flow_reading import FlowReading
from controller.core.flows import Shape
from controller.core.installed import AlikeFlows, FlowEntry, ReportedFlow


def as_told(entries: Iterable[FlowEntry]) -> Iterator[ReportedFlow | AlikeFlows]:
    """Return flows of ours, by which no packet has been counted, as the decoder hands them on."""
    alike: dict[Shape, list[bytes]] = {}
    for entry in entries:
        flow = entry.flow
        if entry.expires_at is not None:
            yield ReportedFlow(flow.key, entry, 0, 0)
            continue
        alike.setdefault(flow.shape, []).append(b"".join((*flow.addresses, *flow.values)))
    for shape, rows in alike.items():
        yield AlikeFlows(shape, rows, partial(repeat, (0, 0), len(rows)))


def tell(reading: FirstReading | FlowReading, entries: Iterable[FlowEntry]) -> None:
    """Have a reading take in flows of ours."""
    for told in as_told(entries):
        if isinstance(told, AlikeFlows):
            reading.add_alike(told)
        elif told.entry is not None:
            reading.add(told.entry)
