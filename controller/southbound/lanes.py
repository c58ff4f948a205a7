# SPDX-License-Identifier: Apache-2.0
"""Send one switch what it lacks: bundle after bundle, urgent changes by lanes of their own.

Each lane is a greenlet with one bundle under way at a time. A handover waits for no more than the bundles that the
switch is working on.
"""

import time
from collections.abc import Callable, Iterator

from controller.changes import WorkSignal, give_way
from controller.core.batches import Batch
from controller.core.flow_changes import count, each_change
from controller.core.router import Router
from controller.core.sessions import Session
from controller.southbound.bundle_size import BundleSize
from controller.southbound.conversation import Conversation
from controller.southbound.exchange import ChangesRefused

# A large bundle costs Open vSwitch memory and delays urgent changes, and after an error in it the rest is sent again. A
# small one costs the controller more for each flow.
BUNDLE_SIZE = 1000
# Changes that are put into a bundle before other greenlets run; also the most in an urgent bundle.
SLICE = 500
# Urgent bundles under way at a time: a change need not wait for the answer to the one before.
URGENT_LANES = 4
# Other bundles under way at a time: while the switch carries one out, the next is made.
BULK_LANES = 2


class LaneGroup:
    """What the lanes share that send urgent changes, or all others: the size of bundles, and their waking."""

    def __init__(self, urgent: bool, largest_bundle: int) -> None:
        self.urgent = urgent
        self.size = BundleSize(largest_bundle)
        self.work = WorkSignal()


class Lanes:
    """All lanes to one switch."""

    def __init__(
        self,
        session: Session,
        conversation: Conversation,
        wait_until_certain: Callable[[], None],
        notify: Callable[[], None],
    ) -> None:
        """Send what `session` has by `conversation`.

        `wait_until_certain` returns once it is certain that this controller may write to the switch; `notify` has sent,
        and published, what follows from an answer.
        """
        self._session = session
        self._conversation = conversation
        self._wait_until_certain = wait_until_certain
        self._notify = notify
        self._urgent = LaneGroup(True, SLICE)
        self._bulk = LaneGroup(False, BUNDLE_SIZE)
        # Until when the bulk lanes sleep if nobody wakes them; None: for ever, or they do not sleep.
        self._next_due: float | None = None
        # Time since which the switch has lacked something; None: it has everything.
        self.behind_since: float | None = None
        self._asked = 0  # the session's mark of what the switch lacked at `behind_since`

    def wake(self, router: Router) -> None:
        """Have what the switch lacks sent, if there is anything."""
        flows = router.flows
        if flows.has_urgent:
            self._urgent.work.notify()
        if flows.has_bulk or flows.next_due() != self._next_due:
            self._bulk.work.notify()

    def end(self) -> None:
        """Have the lanes end, whose session has ended."""
        self._urgent.work.notify()
        self._bulk.work.notify()

    def __iter__(self) -> Iterator[LaneGroup]:
        """Iterate over what is to be passed to `run`, each time in a greenlet of its own."""
        return iter((*[self._urgent] * URGENT_LANES, *[self._bulk] * BULK_LANES))

    def run(self, group: LaneGroup) -> None:
        """Send urgent changes, or all others, bundle after bundle."""
        while not self._session.ended:
            if group.urgent and not self._session.has_urgent:
                group.work.wait()
                continue
            batches = self._take(group)
            if batches:
                self._apply(batches, group.size)
            elif self._has_more(group):
                give_way()  # it has looked at many subjects that need no change
            elif not group.urgent:
                self._next_due = due = self._session.next_due()
                group.work.wait(None if due is None else due - time.monotonic())
        group.work.notify()  # another one of them, which then ends as well

    def _take(self, group: LaneGroup) -> list[Batch]:
        """Take the changes of one bundle from the session; none if there is nothing to send."""
        self._wait_until_certain()
        most = group.size.changes
        batches: list[Batch] = []
        while sum(batch.size for batch in batches) < most:
            batch = self._session.next_batch(group.urgent, time.monotonic(), min(most, SLICE))
            if batch is not None:
                batches.append(batch)
            if batch is None or not self._has_more(group):
                break
            if most > SLICE:
                give_way()
        self._note_settled()
        if (router := self._session.router) is not None:
            self.wake(router)  # another lane: there may be more to send, and of the other kind
        return batches

    def _has_more(self, group: LaneGroup) -> bool:
        return self._session.has_urgent if group.urgent else self._session.has_bulk

    def _note_settled(self) -> None:
        """Note the time since which the switch has lacked something.

        A switch that keeps up with new handovers lacks nothing, even if there is always one under way.
        """
        now = time.monotonic()
        if self.behind_since is None or self._session.is_done(self._asked):
            self._asked = self._session.mark()
            self.behind_since = None if self._session.is_done(self._asked) else now

    def _apply(self, batches: list[Batch], size: BundleSize) -> None:
        """Have the switch carry changes out, and record what it confirmed and refused."""
        changes = [each for batch in batches for each in batch.to_send()]
        try:
            sent = self._conversation.carry_out(changes)
        except ChangesRefused as refused:
            sent_ones = (each for place, each in enumerate(each_change(changes)) if place not in refused.unsent)
            self._session.sent(list(sent_ones))
            if refused.in_bundle:
                size.refused(count(changes))
            begin = 0
            for batch in batches:
                places = range(begin, begin + batch.size)
                reasons = {place - begin: refused.reasons[place] for place in places if place in refused.reasons}
                unsent = {place - begin for place in places if place in refused.unsent}
                self._session.refuse(batch, reasons, not refused.in_bundle, time.monotonic(), unsent)
                begin = places.stop
        else:
            answered = time.monotonic()
            self._session.sent(changes)
            size.accepted()
            for batch in batches:
                self._session.confirm(batch, answered, sent)
                if batch is not batches[-1]:
                    self._notify()
                    give_way()
        self._note_settled()
        self._notify()
