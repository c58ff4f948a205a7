# SPDX-License-Identifier: Apache-2.0
"""Keep one switch in step: read its flows back, then send what is due and wait for the answer, again and again.

A few greenlets per connection do all the sending, with a few bundles under way at a time. So a slow or silent switch
delays no other, and costs the memory of those bundles. One greenlet sends urgent changes only: a handover waits for no
more than the bundles that the switch is working on. Any failure ends the connection. The switch comes back, its flows
are read anew, and nothing was recorded that it did not confirm.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import eventlet
from eventlet.event import Event
from eventlet.semaphore import Semaphore
from ryu.ofproto import ofproto_parser
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
from controller.southbound.decoder import ReportedFlow, removed_key
from controller.southbound.encoder import EVICTION, Encoder
from controller.southbound.exchange import ChangesRefused, RoleRefused, SwitchSilent
from controller.southbound.roles import Candidacy, Mastership, is_demotion
from hoaflow.logs import Log

if TYPE_CHECKING:
    from ryu.controller.controller import Datapath

LOG = Log("southbound")

# A large bundle costs Open vSwitch memory and delays urgent changes, and after an error in it the rest is sent again. A
# small one costs the controller more for each flow.
BUNDLE_SIZE = 1000
# Changes that are put into a bundle before other greenlets run; also the most in an urgent bundle.
SLICE = 500
# Urgent bundles under way at a time: a change need not wait for the answer to the one before.
URGENT_AT_A_TIME = 4
# Seconds for which the next urgent bundle waits for the answer to the last one, collecting changes meanwhile.
PROMPT = 0.005
# Bulk bundles under way at a time: while the switch carries one out, the next is made.
BULK_LANES = 2
# Share of the time that may go into reading flows back. A switch answers in order, so urgent changes wait meanwhile.
READING_SHARE = 0.01
# Share of the time that may go into reading counters.
COUNTING_SHARE = 0.05
# Seconds that a REST call waits for the counters of a silent switch.
COUNTERS_WITHIN = 2.0
# Configurations of a port that receives or sends no packets.
UNUSABLE = ofproto.OFPPC_PORT_DOWN | ofproto.OFPPC_NO_RECV | ofproto.OFPPC_NO_FWD
_FLOWS, _TOTAL = (kind.to_bytes(2, "big") for kind in (ofproto.OFPMP_FLOW, ofproto.OFPMP_AGGREGATE))
# Longest sleep of a greenlet when nothing is planned, in seconds.
LONGEST_SLEEP = 60.0


class SwitchChannel:
    """Keep one connected switch in step with its router, which it reaches through a session only."""

    def __init__(
        self,
        datapath: "Datapath",
        session: Session,
        encoder: Encoder,
        answer_within: float,
        read_back_every: float,
        notify: Callable[[], None],
        mastership: Mastership | None,
    ) -> None:
        """Write at once, or with a `mastership` once that and the switch allow it."""
        self.datapath = datapath
        is_slave = None if mastership is None else self._overtaken
        self.conversation = Conversation(datapath, encoder, answer_within, is_slave)
        self.session = session
        self._mastership = mastership
        self._candidacy = None if mastership is None else Candidacy(session, self.conversation, mastership)
        self._names = encoder.names
        self._answer_within = answer_within
        self._read_back_every = read_back_every
        self._notify = notify
        self._woken = ChangeSignal()
        self._end = Event()
        # Of urgent changes, and of others.
        self._sizes = {True: BundleSize(SLICE), False: BundleSize(BUNDLE_SIZE)}
        self._counted: dict[FlowKey, Counters] = {}
        self._counted_at = -math.inf
        self._counting_took = 0.0
        self.dpid: int = datapath.id
        # Time since which the switch has lacked something; None: it has everything.
        self.behind_since: float | None = None
        # What the exchange awaits, by type, and with multipart messages by theirs.
        self._takers: dict[object, Callable[[Any], None]] = {
            ofproto.OFPT_ERROR: self.conversation.on_error,
            ofproto.OFPT_FLOW_REMOVED: self.on_flow_removed,
            ofproto.OFPT_ROLE_REPLY: self.conversation.on_role,
            (ofproto.OFPT_MULTIPART_REPLY, _FLOWS): self.conversation.on_statistics,
            (ofproto.OFPT_MULTIPART_REPLY, _TOTAL): self.conversation.on_total,
        }
        datapath.deliver = self._deliver  # see `controller.southbound.receiving`
        self._asked = 0  # the session's mark of what the switch lacked at `behind_since`

    @property
    def router(self) -> Router | None:
        """Return the router, to be looked at only; None before its flows have been read, and after the end."""
        return self.session.router

    # Called by others.

    def wake(self) -> None:
        """Tell the channel that its router may have something to send."""
        self._woken.notify()

    def on_flow_removed(self, message: parser.OFPFlowRemoved) -> None:
        """Record that a flow is gone: deleted by the controller or by somebody else, timed out, or evicted."""
        key = removed_key(message, self._names)
        if key is not None and not self.session.ended:
            counted = Counters(message.packet_count, message.byte_count)
            self.session.flow_removed(key, counted, message.reason == EVICTION, time.monotonic())
            self._notify()

    def on_ports(self) -> None:
        """Record that the switch's ports have changed."""
        if not self.session.ended:
            self.session.set_ports(self._ports(), time.monotonic())
            self._notify()

    def end(self) -> None:
        """End the channel and its connection. Idempotent."""
        if self._end.ready():
            return
        self._end.send()
        self.datapath.deliver = None
        self.session.end(time.monotonic())
        if self._candidacy is not None:
            self._candidacy.end()
        self.datapath.close()
        self.wake()
        self._notify()

    def take_role(self, generation: int) -> None:
        """Become the switch's MASTER, as the cluster has decided."""
        if self._candidacy is not None and not self._ended:
            self._candidacy.take_role(generation)

    def give_up(self) -> None:
        """End the channel, as the cluster has decided that this controller is not to write to the switch."""
        self._leave("given-up")

    def counters(self, fresh: float) -> Mapping[FlowKey, Counters]:
        """Return the counters of the flows in hoaflow's tables, at most `max(fresh, 20 * the last read)` seconds old.

        Those read before are returned if the switch does not answer within `COUNTERS_WITHIN`.
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
        """Ask the switch for its flows' counters, summed up by direction. Raises SwitchSilent, SessionEnded."""
        for direction, kind in self.session.counting():
            self.session.observe(direction, self.conversation.total(kind))

    def read_flows(self, within: float | None = None) -> list[ReportedFlow]:
        """Return the switch's flows in hoaflow's tables, with counters, as of now.

        Raises SwitchSilent after `within` seconds without an answer (None: `answer_within`).
        """
        found: list[ReportedFlow] = []
        self.conversation.read(found.append, within)
        return found

    def _deliver(self, kind: int, xid: int, message: bytes) -> bool:
        """Take a message if it is one that the exchange awaits; tell whether it is."""
        if kind == ofproto.OFPT_BARRIER_REPLY:
            self.conversation.on_barrier_reply(xid)
            return True
        if kind == ofproto.OFPT_EXPERIMENTER:
            if self._mastership is not None and is_demotion(message):
                self._overtaken()
            return True  # else that a bundle was opened and committed: the barrier behind it says so, too
        take = self._takers.get((kind, message[8:10]) if kind == ofproto.OFPT_MULTIPART_REPLY else kind)
        if take is not None:
            try:
                take(ofproto_parser.msg(self.datapath, message[0], kind, len(message), xid, message))
            except SessionEnded:
                self.end()
        return take is not None

    def _overtaken(self) -> None:
        """End the channel, as the switch says that it has another MASTER."""
        if self._mastership is not None and not self._ended:
            self._mastership.overtaken(self.dpid)
            self._leave("overtaken")

    def _leave(self, why: str) -> None:
        if not self._ended:
            self.session.leave(why, time.monotonic())
            self.end()

    # The greenlets.

    def run(self) -> None:
        """Serve the switch until its connection ends."""
        try:
            self._serve(self._begin)
        finally:
            self.end()

    def _begin(self) -> None:
        if self._candidacy is not None:
            self._candidacy.run(self._ports, self._notify)
            eventlet.spawn(self._serve, self._candidacy.keep_marker)
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
        """Run a part of the channel, and end the channel if that fails or the session has ended."""
        try:
            part(*arguments)
        except SessionEnded:
            self.end()
        except (SwitchSilent, RoleRefused) as error:
            if not self._ended:
                event = "switch-silent" if isinstance(error, SwitchSilent) else "role-refused"
                LOG.warning(event, router=f"{self.dpid:016x}", reason=error)
            self.end()
        except BaseException:
            self.end()
            raise

    def _run_urgent_lane(self) -> None:
        """Send urgent changes, bundle after bundle, a few of them before the first is answered."""
        free = Semaphore(URGENT_AT_A_TIME)
        while not self._ended:
            free.acquire()
            batches = self._take(True)
            if batches:
                applying = eventlet.spawn(self._serve, self._apply_urgent, batches, free)
                with eventlet.Timeout(PROMPT, False):
                    applying.wait()
                continue
            free.release()
            if self.session.has_urgent:
                eventlet.sleep(0)  # it has looked at many subjects that need no change
            else:
                if self.session.has_bulk:
                    self.wake()  # the bulk lanes: a gate may open, now that nothing urgent is left
                self._woken.wait(LONGEST_SLEEP)

    def _apply_urgent(self, batches: list[Batch], free: Semaphore) -> None:
        try:
            self._apply(batches, self._sizes[True])
        finally:
            free.release()

    def _run_bulk_lane(self) -> None:
        """Send all other changes, bundle after bundle."""
        while not self._ended:
            batches = self._take(False)
            if batches:
                self._apply(batches, self._sizes[False])
            elif self.session.has_bulk:
                eventlet.sleep(0)
            else:
                if self.session.has_urgent:
                    self.wake()  # the urgent lane: a gate may open or be renewed, now that nothing is left before it
                due = self.session.next_due()
                self._woken.wait(LONGEST_SLEEP if due is None else due - time.monotonic())

    def _take(self, urgent: bool) -> list[Batch]:
        """Take the changes of one bundle from the session; none if there is nothing to send."""
        if self._mastership is not None:
            self._mastership.wait_until_certain()
        most = self._sizes[urgent].changes
        batches: list[Batch] = []
        while sum(len(batch.changes) for batch in batches) < most:
            batch = self.session.next_batch(urgent, time.monotonic(), min(most, SLICE))
            if batch is None:
                break
            batches.append(batch)
            if most > SLICE:
                eventlet.sleep(0)
        self._note_settled()
        return batches

    def _note_settled(self) -> None:
        """Note the time since which the switch has lacked something.

        A switch that keeps up with new handovers lacks nothing, even if there is always one under way.
        """
        now = time.monotonic()
        if self.behind_since is None or self.session.is_done(self._asked):
            self._asked = self.session.mark()
            self.behind_since = None if self.session.is_done(self._asked) else now

    def _read_back(self) -> None:
        """Read the switch's flows: after connecting, and regularly to repair drift."""
        self.session.begin_reading(time.monotonic())
        self.conversation.read(lambda flow: self.session.read(flow.key, flow.entry))
        self.session.end_reading(self._ports(), time.monotonic())
        self._notify()

    def _apply(self, batches: list[Batch], size: BundleSize) -> None:
        """Have the switch carry changes out, and record what it confirmed and refused."""
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
            size.accepted()
            for batch in batches:
                self.session.confirm(batch, answered, sent)
                if batch is not batches[-1]:
                    self._notify()
                    eventlet.sleep(0)
        self._note_settled()
        self._notify()

    def _ports(self) -> dict[str, int]:
        """Return the ports that packets can enter and leave by: numbers by name."""
        return {
            port.name.decode(errors="replace"): number
            for number, port in self.datapath.ports.items()
            if not (port.config & UNUSABLE or port.state & ofproto.OFPPS_LINK_DOWN)
        }
