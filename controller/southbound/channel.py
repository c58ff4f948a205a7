# SPDX-License-Identifier: Apache-2.0
"""The exchange with one switch: read its flows back, then send what is due and wait for the answer, again and again.

A few greenlets per connection do all the sending, with a few bundles under way at a time, so a switch that is slow or
silent holds up nobody else and costs the memory of so many bundles. One of them is for what is urgent alone: a handover
waits for no more than the bundles that the switch is at. Whatever goes wrong ends the connection; the switch comes
back, its flows are read anew, and nothing was recorded that it did not confirm.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import eventlet
from eventlet.event import Event
from eventlet.semaphore import Semaphore
from ryu.ofproto import ofproto_v1_3 as ofproto
from ryu.ofproto import ofproto_v1_3_parser as parser

from controller.changes import ChangeSignal
from controller.core.batches import Batch
from controller.core.flows import FlowKey
from controller.core.router import Router
from controller.core.sessions import Session, SessionEnded
from controller.core.traffic import Counters
from controller.southbound.bundle_size import BundleSize
from controller.southbound.conversation import Conversation
from controller.southbound.decoder import InstalledFlow, removed_key
from controller.southbound.encoder import EVICTION, Encoder
from controller.southbound.exchange import ChangesRefused, SwitchSilent
from hoaflow.logs import Log

if TYPE_CHECKING:
    from ryu.controller.controller import Datapath

LOG = Log("southbound")

# Open vSwitch looks at all flows that have a timeout after each bundle (65 ms with 300,000 flows), so many small ones
# would keep it busy with that; a large one costs it memory, an error in it costs sending the rest again, and what is
# urgent waits for it.
BUNDLE_SIZE = 5000
# A bundle is made of so many changes at a time, with others' turns in between; one of urgent changes is no larger.
SLICE = 500
# Urgent bundles under way at a time: what comes up while a switch is busy need not wait for the answer to what came
# before it as well. While large ones are under way it is one, as each costs these the time of a look at all flows.
URGENT_AT_A_TIME = 4
# While a switch answers within so many seconds, the next urgent bundle waits for that: it takes what comes meanwhile.
PROMPT = 0.005
# Bundles under way at a time besides urgent ones: while the switch carries one out, the next is made.
BULK_LANES = 2
# A switch answers in order, so what is urgent waits while it tells its flows: for no more than this share of the time.
READING_SHARE = 0.01
# The same for those who ask for counters.
COUNTING_SHARE = 0.05
# A REST call waits so many seconds, and no longer, for a switch that is silent to tell its counters.
COUNTERS_WITHIN = 2.0
# Configurations of a port in which it takes no packets, or gives none.
UNUSABLE = ofproto.OFPPC_PORT_DOWN | ofproto.OFPPC_NO_RECV | ofproto.OFPPC_NO_FWD
# How long a lane may sleep when nothing is planned, in seconds.
LONGEST_SLEEP = 60.0


class SwitchChannel:
    """Keeps one connected switch in step with its ``Router``, of which it has no more than a session."""

    def __init__(
        self,
        datapath: "Datapath",
        session: Session,
        encoder: Encoder,
        answer_within: float,
        read_back_every: float,
        notify: Callable[[], None],
    ) -> None:
        self.datapath = datapath
        self.conversation = Conversation(datapath, encoder, answer_within)
        self.session = session
        self._names = encoder.names
        self._answer_within = answer_within
        self._read_back_every = read_back_every
        self._notify = notify
        self._woken = ChangeSignal()
        self._end = Event()
        self._bulk_under_way = 0  # bundles
        # Of urgent changes, and of others.
        self._sizes = {True: BundleSize(SLICE), False: BundleSize(BUNDLE_SIZE)}
        self._counted: dict[FlowKey, Counters] = {}
        self._counted_at = -math.inf
        self._counting_took = 0.0
        self.dpid: int = datapath.id
        # Since when the switch has lacked something that it should have; None: it has everything.
        self.behind_since: float | None = None
        self._asked = 0  # a mark of the flows: what had to be done then, the switch has lacked since

    @property
    def router(self) -> Router | None:
        """The router, for those who only look at it; None before its flows have been read, and after the end."""
        return self.session.router

    # Called by others.

    def wake(self) -> None:
        """Tell the channel that its router may have something to send."""
        self._woken.notify()

    def on_flow_removed(self, message: parser.OFPFlowRemoved) -> None:
        """A flow of ours is gone: by us, by its time, by somebody else, or for want of room."""
        key = removed_key(message, self._names)
        if key is not None and not self.session.ended:
            counted = Counters(message.packet_count, message.byte_count)
            self.session.removed(key, counted, message.reason == EVICTION, time.monotonic())
            self._notify()

    def on_ports(self) -> None:
        """The switch's ports changed."""
        if not self.session.ended:
            self.session.set_ports(self._ports(), time.monotonic())
            self._notify()

    def end(self) -> None:
        """End the exchange: the connection is gone, or has to go, or the switch has connected anew. Idempotent."""
        if self._end.ready():
            return
        self._end.send()
        self.session.end(time.monotonic())
        self.datapath.close()
        self.wake()
        self._notify()

    def counters(self, fresh: float) -> Mapping[FlowKey, Counters]:
        """Return the counters of the flows in our tables, not older than ``fresh`` seconds, or where there are so many
        that to read them takes long, than twenty times that.

        A switch that does not answer in time has those that it told before: its own channel notices that, too.
        """
        now = time.monotonic()
        if now - self._counted_at > max(fresh, self._counting_took / COUNTING_SHARE):
            try:
                flows = self.read_flows(min(COUNTERS_WITHIN, self._answer_within))
            except SwitchSilent:
                return self._counted
            self._counted = {flow.key: Counters(flow.packets, flow.bytes) for flow in flows}
            self._counted_at = time.monotonic()
            self._counting_took = self._counted_at - now
        return self._counted

    def observe_traffic(self) -> None:
        """Have the switch sum up what its flows have counted. Raises SwitchSilent, SessionEnded."""
        for direction, kind in self.session.counting():
            self.session.observe(direction, self.conversation.total(kind))

    def read_flows(self, within: float | None = None) -> list[InstalledFlow]:
        """Return the switch's flows in our tables, with counters, as of now.

        Raises SwitchSilent when it says nothing for ``within`` seconds (None: as long as it has to answer anything).
        """
        found: list[InstalledFlow] = []
        self.conversation.read(found.append, within)
        return found

    # The greenlets.

    def run(self) -> None:
        """Serve the switch until its connection ends."""
        try:
            self._serve(self._begin)
        finally:
            self.end()

    def _begin(self) -> None:
        started = time.monotonic()
        self.conversation.ask_for_notices()
        self._read_back()
        eventlet.spawn(self._serve, self._run_urgent_lane)
        for _ in range(BULK_LANES):
            eventlet.spawn(self._serve, self._run_bulk_lane)
        while not self._ended:
            took = time.monotonic() - started
            with eventlet.Timeout(max(self._read_back_every, took / READING_SHARE), False):
                self._end.wait()
                return
            started = time.monotonic()
            self._read_back()

    @property
    def _ended(self) -> bool:
        ended: bool = self._end.ready()
        return ended

    def _serve(self, part: Callable[..., None], *arguments: object) -> None:
        """Do a part of the exchange, which ends if that fails, or if that finds that the session has ended."""
        try:
            part(*arguments)
        except SessionEnded:
            self.end()
        except SwitchSilent as error:
            if not self._ended:
                LOG.warning("switch-silent", router=f"{self.dpid:016x}", reason=error)
            self.end()
        except BaseException:
            self.end()
            raise

    def _run_urgent_lane(self) -> None:
        """Send what is urgent, bundle after bundle, a few of them before the first is answered."""
        free = Semaphore(URGENT_AT_A_TIME)
        while not self._ended:
            free.acquire()
            batches = self._take(True)
            if batches:
                applying = eventlet.spawn(self._serve, self._apply_urgent, batches, free)
                with eventlet.Timeout(None if self._bulk_under_way else PROMPT, False):
                    applying.wait()
                continue
            free.release()
            if self.session.has_urgent:
                eventlet.sleep(0)  # it has looked at many things that need nothing
            else:
                if self.session.has_bulk:
                    self.wake()  # the other lanes: a gate may open, now that nothing urgent is left
                self._woken.wait(LONGEST_SLEEP)

    def _apply_urgent(self, batches: list[Batch], free: Semaphore) -> None:
        try:
            self._apply(batches, self._sizes[True])
        finally:
            free.release()

    def _run_bulk_lane(self) -> None:
        """Send all else, bundle after bundle."""
        while not self._ended:
            batches = self._take(False)
            if batches:
                self._bulk_under_way += 1
                self._apply(batches, self._sizes[False])
                self._bulk_under_way -= 1
            elif self.session.has_bulk:
                eventlet.sleep(0)
            else:
                due = self.session.next_due()
                self._woken.wait(LONGEST_SLEEP if due is None else due - time.monotonic())

    def _take(self, urgent: bool) -> list[Batch]:
        """Take the changes of one bundle; none if there is nothing to do."""
        most = self._sizes[urgent].changes
        batches: list[Batch] = []
        while sum(len(batch.changes) for batch in batches) < most:
            batch = self.session.take(urgent, time.monotonic(), min(most, SLICE))
            if batch is None:
                break
            batches.append(batch)
            if most > SLICE:
                eventlet.sleep(0)
        self._note_settled()
        return batches

    def _note_settled(self) -> None:
        """Take down since when the switch lacks something. Handovers that keep coming do not count as long as it
        follows."""
        now = time.monotonic()
        if self.behind_since is None or self.session.is_done(self._asked):
            self._asked = self.session.mark()
            self.behind_since = None if self.session.is_done(self._asked) else now

    def _read_back(self) -> None:
        """Take the switch's own word on its flows: after connecting, and regularly to repair drift."""
        self.session.begin_reading(time.monotonic())
        self.conversation.read(lambda flow: self.session.read(flow.key, flow.entry))
        self.session.end_reading(self._ports(), time.monotonic())
        self._notify()

    def _apply(self, batches: list[Batch], size: BundleSize) -> None:
        """Have the switch carry changes out, and record what it made of them."""
        changes = [change for batch in batches for change in batch.changes]
        try:
            sent = self.conversation.carry_out(changes)
        except ChangesRefused as refused:
            self.session.sent([change for place, change in enumerate(changes) if place not in refused.unsent])
            if refused.in_bundle:
                size.refused(len(changes))
            begin = 0
            for batch in batches:
                places = range(begin, begin + len(batch.changes))
                reasons = {place - begin: refused.reasons[place] for place in places if place in refused.reasons}
                unsent = {place - begin for place in places if place in refused.unsent}
                self.session.refuse(batch, reasons, not refused.in_bundle, time.monotonic(), unsent)
                begin = places.stop
        else:
            answered = time.monotonic()
            self.session.sent(changes)
            size.taken()
            for batch in batches:
                self.session.confirm(batch, answered, sent)
                if batch is not batches[-1]:
                    self._notify()
                    eventlet.sleep(0)
        self._note_settled()
        self._notify()

    def _ports(self) -> dict[str, int]:
        """The ports that packets can leave and enter by: numbers by name."""
        return {
            port.name.decode(errors="replace"): number
            for number, port in self.datapath.ports.items()
            if not (port.config & UNUSABLE or port.state & ofproto.OFPPS_LINK_DOWN)
        }
