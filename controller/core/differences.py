# SPDX-License-Identifier: Apache-2.0
"""What a switch should have, compared with what it says that it has, for an operator to look at. Changes nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from controller.core.installed import Entry
from controller.core.reconciliation import Reconciliation
from controller.core.timeouts import hard_timeout, outlives

EARLIER_LIFE = "of an earlier life of the controller, and perhaps still needed"
FOREIGN = "another application holds a flow with the same match"
# How many flows are compared before others may go on.
FLOWS_AT_ONCE = 1000


@dataclass(slots=True)
class Difference:
    """Desired flows against those that a switch has: with why a missing one is not sent, if it is not, and why an
    unexpected one stays, if it does; a different one as desired and as installed."""

    missing: list[tuple[Entry, str | None]] = field(default_factory=list)
    unexpected: list[tuple[Entry, str | None]] = field(default_factory=list)
    different: list[tuple[Entry, Entry]] = field(default_factory=list)

    @property
    def in_sync(self) -> bool:
        """Whether there is none."""
        return not (self.missing or self.unexpected or self.different)


def compare(flows: Reconciliation, installed: Iterable[Entry], now: float) -> Iterator[Difference]:
    """Compare what is desired with what a switch says that it has. Yields the difference found so far, so that others
    may go on in between; the last one is all of it."""
    found = {entry.flow.key: entry for entry in installed if entry.expires_at is None or entry.expires_at > now}
    difference = Difference()
    for count, desired in enumerate(flows.desired(now)):
        key = desired.flow.key
        entry = found.pop(key, None)
        if desired.expires_at is not None and hard_timeout(desired.expires_at, now) < 1:
            continue  # not worth sending
        if entry is None:
            difference.missing.append((desired, _why_missing(flows, desired)))
        elif entry.flow != desired.flow or outlives(entry.expires_at, desired.expires_at):
            difference.different.append((desired, entry))
        if count % FLOWS_AT_ONCE == 0:
            yield difference
    for key, entry in found.items():
        difference.unexpected.append((entry, EARLIER_LIFE if flows.installed.is_adopted(key) else None))
    yield difference


def _why_missing(flows: Reconciliation, entry: Entry) -> str | None:
    key = entry.flow.key
    if flows.installed.is_foreign(key):
        return FOREIGN
    rejection = flows.rejections.get(key)
    return None if rejection is None else f"the switch refused it: {rejection.reason}"
