# SPDX-License-Identifier: Apache-2.0
"""The exchange with one switch: read its flows back, then send what is due and wait for the answer, again and again.

A few greenlets per connection do all the sending, each with one bundle at a time, so a switch that is slow or silent
holds up nobody else and costs the memory of so many bundles. One of them is for what is urgent alone: a handover waits
for no more than the bundle that the switch is at. Whatever goes wrong ends the connection; the switch comes back, its
flows are read anew, and nothing was recorded that it did not confirm.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import eventlet
from eventlet.event import Event
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser

from controller.changes import ChangeSignal
from controller.core.batches import Batch, FlowChange
from controller.core.flows import FlowKey, Kind
from controller.core.offload import Offload
from controller.core.router import Router
from controller.core.traffic import DOWNLINK, UPLINK, Counters
from controller.southbound.decoder import Decoder, FlowStatistics, InstalledFlow, removed_key
from controller.southbound.encoder import Encoder
from controller.southbound.exchange import ChangesRefused, Exchange, SwitchSilent
from logs import Log

if TYPE_CHECKING:
    from ryu.controller.controller import Datapath

LOG = Log("southbound")

# Open vSwitch looks at all flows that have a timeout after each bundle (65 ms with 300,000 flows), so many small ones
# would keep it busy with that; a large one costs it memory, an error in it costs sending the rest again, and what is
# urgent waits for it.
BUNDLE_SIZE = 5000
# A bundle is made of so many changes at a time, with others' turns in between; one of urgent changes is no larger.
SLICE = 500
# Bundles under way at a time besides an urgent one: while the switch carries one out, the next is made.
BULK_LANES = 2
# A switch answers in order, so what is urgent waits while it tells its flows: for no more than this share of the time.
READING_SHARE = 0.01
# The same for those who ask for counters.
COUNTING_SHARE = 0.05
# A REST call waits so many seconds, and no longer, for a switch that is silent to tell its counters.
COUNTERS_WITHIN = 2.0
# How often an answer is waited for as long as others come, as those of a switch that tells its flows.
MOST_WAITS = 12
# How long a lane may sleep when nothing is planned, in seconds.
LONGEST_SLEEP = 60.0
MAX_XID = 0xFFFFFFFF


class SwitchChannel:
    """Keeps one connected switch in step with its ``Router``."""

    def __init__(
        self,
        datapath: "Datapath",
        offload: Offload,
        encoder: Encoder,
        answer_within: float,
        read_back_every: float,
        notify: Callable[[], None],
    ) -> None:
        self.datapath = datapath
        self._offload = offload
        self._encoder = encoder
        self._decoder = Decoder(encoder.names)
        self._answer_within = answer_within
        self._read_back_every = read_back_every
        self._notify = notify
        self._bundles = True
        self._xids = itertools.count(1)
        self._bundle_ids = itertools.count(1)
        self._exchanges: dict[int, Exchange] = {}
        self._woken = ChangeSignal()
        self._end = Event()
        self._heard = 0  # answers of any kind
        self._counted: dict[FlowKey, Counters] = {}
        self._counted_at = -math.inf
        self._counting_took = 0.0
        self.dpid: int = datapath.id
        self.router: Router | None = None
        # Since when the switch has lacked something that it should have; None: it has everything.
        self.behind_since: float | None = None

    # Called by others.

    def wake(self) -> None:
        """Tell the channel that its router may have something to send."""
        self._woken.notify()

    def on_error(self, message: parser.OFPErrorMsg) -> None:
        """The switch reports an error."""
        self._heard += 1
        exchange = self._exchanges.get(message.xid)
        reason = _error_text(message)
        if exchange is None:
            LOG.warning("switch-error", router=f"{self.dpid:016x}", xid=message.xid, reason=reason)
            return
        exchange.errors[message.xid] = reason

    def on_barrier_reply(self, xid: int) -> None:
        """A barrier's reply has come: all that was sent before it is done."""
        self._heard += 1
        exchange = self._exchanges.get(xid)
        if exchange is not None:
            exchange.finish()

    def on_statistics(self, message: parser.OFPFlowStatsReply) -> None:
        """A part of the flow statistics has come."""
        self._heard += 1
        exchange = self._exchanges.get(message.xid)
        if exchange is not None and exchange.take is not None:
            exchange.take(message.body)
            if not message.flags & ofp.OFPMPF_REPLY_MORE:
                exchange.finish()

    def on_total(self, message: parser.OFPAggregateStatsReply) -> None:
        """What the flows of a kind have counted together has come."""
        exchange = self._exchanges.get(message.xid)
        if exchange is not None:
            exchange.total = Counters(message.body.packet_count, message.body.byte_count)
            exchange.finish()

    def on_flow_removed(self, message: parser.OFPFlowRemoved) -> None:
        """A flow of a binding is gone: by us, by its time, or by somebody else."""
        key = removed_key(message, self._encoder.names)
        if key is not None and self.router is not None:
            now = time.monotonic()
            self._offload.removed(self.router, key, message.packet_count, message.byte_count, now)
            self._notify()

    def on_ports(self) -> None:
        """The switch's ports changed."""
        if self.router is not None:
            self._offload.set_ports(self.dpid, self._ports(), time.monotonic())
            self._notify()

    def end(self) -> None:
        """End the exchange: the connection is gone, or has to go, or the switch has connected anew."""
        if not self._end.ready():
            self._end.send()
        self.datapath.close()
        self.wake()

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
        """Have the switch sum up what its flows have counted. Raises SwitchSilent."""
        if self.router is None:
            return
        for direction, kind in ((DOWNLINK, Kind.DOWNLINK), (UPLINK, self.router.uplink_kind)):
            exchange, xid = Exchange(), self._next_xid()
            self._ask(exchange, [xid], self._encoder.total_request(kind, xid))
            self.router.traffic.observe(direction, exchange.total)

    def read_flows(self, within: float | None = None) -> list[InstalledFlow]:
        """Return the switch's flows in our tables, with counters, as of now.

        Raises SwitchSilent when it says nothing for ``within`` seconds (None: as long as it has to answer anything).
        """
        found: list[InstalledFlow] = []
        self._read(found.append, within)
        return found

    def _read(self, take: Callable[[InstalledFlow], None], within: float | None = None) -> None:
        """Have the switch tell its flows in our tables, and take each, while others go on. Raises SwitchSilent."""

        def take_part(statistics: Iterable[FlowStatistics]) -> None:
            for flow in self._decoder.decode(statistics, time.monotonic()):
                take(flow)

        exchange, xid = Exchange(take_part), self._next_xid()
        self._ask(exchange, [xid], self._encoder.flow_stats_request(xid), within)

    # The greenlets.

    def run(self) -> None:
        """Serve the switch until its connection ends."""
        self._serve(self._begin)

    def _begin(self) -> None:
        started = time.monotonic()
        router = self._read_back()
        eventlet.spawn(self._serve, self._run_urgent_lane, router)
        for _ in range(BULK_LANES):
            eventlet.spawn(self._serve, self._run_bulk_lane, router)
        while not self._ended:
            took = time.monotonic() - started
            with eventlet.Timeout(max(self._read_back_every, took / READING_SHARE), False):
                self._end.wait()
                return
            started = time.monotonic()
            self._read_back()

    @property
    def _ended(self) -> bool:
        return self._end.ready()

    def _serve(self, loop: Callable[..., None], *arguments: object) -> None:
        """Run a part of the exchange. The exchange ends with it."""
        try:
            loop(*arguments)
        except SwitchSilent as error:
            if not self._ended:
                LOG.warning("switch-silent", router=f"{self.dpid:016x}", reason=error)
        finally:
            self.end()

    def _run_urgent_lane(self, router: Router) -> None:
        """Send what is urgent, bundle after bundle."""
        while not self._ended:
            if self._send_next(router, router.flows.take_urgent, SLICE):
                continue
            if router.flows.has_urgent:
                eventlet.sleep(0)  # it has looked at many things that need nothing
            else:
                if router.flows.has_bulk:
                    self.wake()  # the other lanes: a gate may open, now that nothing urgent is left
                self._woken.wait(LONGEST_SLEEP)

    def _run_bulk_lane(self, router: Router) -> None:
        """Send all else, bundle after bundle."""
        while not self._ended:
            if self._send_next(router, router.flows.take, BUNDLE_SIZE):
                continue
            if router.flows.has_bulk:
                eventlet.sleep(0)
            else:
                due = router.flows.next_due()
                self._woken.wait(LONGEST_SLEEP if due is None else due - time.monotonic())

    def _send_next(self, router: Router, take: Callable[[float, int], Batch | None], most: int) -> bool:
        """Take changes, about ``most``, and have the switch carry them out. Tell whether there were any."""
        batches: list[Batch] = []
        while sum(len(batch.changes) for batch in batches) < most:
            batch = take(time.monotonic(), SLICE)
            if batch is None:
                break
            batches.append(batch)
            if most > SLICE:
                eventlet.sleep(0)
        if batches:
            self.behind_since = self.behind_since or time.monotonic()
            self._apply(router, batches)
        if router.flows.settled:
            self.behind_since = None
        return bool(batches)

    def _read_back(self) -> Router:
        """Take the switch's own word on its flows: after connecting, and regularly to repair drift."""
        reading = self._offload.begin_reading(self.dpid, time.monotonic())

        def compare(flow: InstalledFlow) -> None:
            if flow.entry is None:
                reading.add_foreign(flow.key)
            else:
                reading.add(flow.entry)

        self._read(compare)
        self._check_connected()
        self.router = self._offload.connect(self.dpid, self._ports(), time.monotonic())
        self._notify()
        return self.router

    def _apply(self, router: Router, batches: list[Batch]) -> None:
        """Send changes and record what the switch made of them."""
        changes = [change for batch in batches for change in batch.changes]
        added = sum(change.add for change in changes)
        router.tally.added += added
        router.tally.deleted += len(changes) - added
        try:
            sent = self._send_bundle(changes) if self._bundles else self._send_plainly(changes)
        except ChangesRefused as refused:
            begin = 0
            for batch in batches:
                places = range(begin, begin + len(batch.changes))
                reasons = {place - begin: refused.reasons[place] for place in places if place in refused.reasons}
                self._check_connected()
                self._offload.refuse(router, batch, reasons, not refused.in_bundle, time.monotonic())
                begin = places.stop
        else:
            answered = time.monotonic()
            for batch in batches:
                self._check_connected()
                self._offload.confirm(router, batch, answered, sent)
                if batch is not batches[-1]:
                    self._notify()
                    eventlet.sleep(0)
        self._notify()

    def _check_connected(self) -> None:
        """Raise SwitchSilent when the connection is gone, and with it what was known of the switch."""
        if self._ended:
            raise SwitchSilent("the connection is closed")

    def _send_bundle(self, changes: list[FlowChange]) -> float:
        """Send changes as one bundle: all or nothing, in order. Returns when. Raises ChangesRefused."""
        bundle = next(self._bundle_ids) & MAX_XID
        opening, closing = self._next_xid(), self._next_xid()
        xids = [self._next_xid() for _ in changes]
        messages = [
            self._encoder.bundle_open(bundle, opening),
            *(self._encoder.bundle_add(bundle, change, xid) for change, xid in zip(changes, xids, strict=True)),
            self._encoder.bundle_commit(bundle, closing),
        ]
        sent, errors = self._send_and_wait([opening, *xids, closing], messages)
        reasons = {position: errors[xid] for position, xid in enumerate(xids) if xid in errors}
        if errors and (opening in errors or not reasons):
            # No bundles here, or a refusal that names no culprit: one by one, the switch will name it.
            LOG.info("bundle-refused", router=f"{self.dpid:016x}", reason="; ".join(errors.values()))
            self._bundles = False
            reasons = {}
        if errors:
            raise ChangesRefused(reasons, in_bundle=True)
        return sent

    def _send_plainly(self, changes: list[FlowChange]) -> float:
        """Send changes one by one. Returns when. Raises ChangesRefused; what it does not name was carried out."""
        xids = [self._next_xid() for _ in changes]
        messages = [self._encoder.flow_mod(change, xid) for change, xid in zip(changes, xids, strict=True)]
        sent, errors = self._send_and_wait(xids, messages)
        if errors:
            reasons = {position: errors[xid] for position, xid in enumerate(xids) if xid in errors}
            raise ChangesRefused(reasons, in_bundle=False)
        return sent

    def _send_and_wait(self, xids: list[int], messages: list[bytes]) -> tuple[float, dict[int, str]]:
        """Send messages with a barrier behind and wait for its reply. Returns when they were sent, and the errors by
        xid. Raises SwitchSilent."""
        barrier = self._next_xid()
        exchange = Exchange()
        self._ask(exchange, [*xids, barrier], b"".join([*messages, self._encoder.barrier(barrier)]))
        return exchange.sent, exchange.errors

    def _ask(self, exchange: Exchange, xids: list[int], messages: bytes, within: float | None = None) -> None:
        """Send ``messages`` and wait until the last reply has come. Raises SwitchSilent."""
        within = self._answer_within if within is None else within
        self._exchanges.update(dict.fromkeys(xids, exchange))
        silent = SwitchSilent(f"no answer within {within} s")
        try:
            with eventlet.Timeout(within, silent):
                if not self.datapath.send(messages):
                    raise SwitchSilent("the connection is closing")
                exchange.sent = time.monotonic()
            for _ in range(MOST_WAITS):
                heard = self._heard
                with eventlet.Timeout(within, False):
                    exchange.done.wait()
                    return
                if self._heard == heard:
                    raise silent
            raise SwitchSilent(f"other answers, but not this one, within {MOST_WAITS * within} s")
        finally:
            for xid in xids:
                del self._exchanges[xid]

    def _next_xid(self) -> int:
        return next(self._xids) & MAX_XID

    def _ports(self) -> dict[str, int]:
        return {port.name.decode(errors="replace"): number for number, port in self.datapath.ports.items()}


def _error_text(message: parser.OFPErrorMsg) -> str:
    if message.type == ofp.OFPET_EXPERIMENTER:
        return f"experimenter error {message.exp_type} of {message.experimenter:#x}"
    return f"{ofp.ofp_error_type_to_str(message.type)} {ofp.ofp_error_code_to_str(message.type, message.code)}"
