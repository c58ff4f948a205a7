# SPDX-License-Identifier: Apache-2.0
"""Compare the flows that a switch should have with those that it says it has, for an operator; change nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from controller.core.installed import FlowEntry
from controller.core.reconciliation import Reconciliation
from controller.core.timeouts import outlives, span_until

EARLIER_LIFE = "installed by the controller before its restart, and perhaps still needed"
FOREIGN = "another application holds a flow with the same match"
# How many flows are compared at a time.
FLOWS_AT_ONCE = 1000


@dataclass(slots=True)
class FlowDifference:
    """The difference between desired and installed flows of a switch.

    ``missing``: desired flows, each with why it is not sent, None if it will be. ``unexpected``: installed flows, each
    with why it stays, None if it will be deleted. ``different``: pairs of desired and installed.
    """

    missing: list[tuple[FlowEntry, str | None]] = field(default_factory=list)
    unexpected: list[tuple[FlowEntry, str | None]] = field(default_factory=list)
    different: list[tuple[FlowEntry, FlowEntry]] = field(default_factory=list)

    @property
    def in_sync(self) -> bool:
        """Whether there is no difference."""
        return not (self.missing or self.unexpected or self.different)


def compare_flows(flows: Reconciliation, installed: Iterable[FlowEntry], now: float) -> Iterator[FlowDifference]:
    """Compare desired flows with those that a switch says it has.

    Yields the difference so far after every `FLOWS_AT_ONCE` flows, at last all of it.
    """
    found = {entry.flow.key: entry for entry in installed if entry.expires_at is None or entry.expires_at > now}
    difference = FlowDifference()
    for count, desired in enumerate(flows.desired(now)):
        key = desired.flow.key
        entry = found.pop(key, None)
        if span_until(desired.expires_at, now).is_too_short:
            continue  # not worth sending
        if entry is None:
            difference.missing.append((desired, _why_missing(flows, desired)))
        elif entry.flow != desired.flow or _ends_otherwise(entry, desired):
            difference.different.append((desired, entry))
        if count % FLOWS_AT_ONCE == 0:
            yield difference
    for key, entry in found.items():
        difference.unexpected.append((entry, EARLIER_LIFE if flows.installed.is_adopted(key) else None))
    yield difference


def _why_missing(flows: Reconciliation, entry: FlowEntry) -> str | None:
    key = entry.flow.key
    if flows.installed.is_foreign(key):
        return FOREIGN
    refusal = flows.refused.get(key)
    return None if refusal is None else f"the switch refused it: {refusal.reason}"


def _ends_otherwise(entry: FlowEntry, desired: FlowEntry) -> bool:
    """Tell whether a flow ends by itself that should not, or later than it should."""
    if desired.expires_at is None:
        return entry.expires_at is not None
    return outlives(entry.expires_at, desired.expires_at)
