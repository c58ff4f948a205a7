# SPDX-License-Identifier: Apache-2.0
"""Send requests to one switch and await the answers: flow changes in bundles, and questions about its flows."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import eventlet
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser

from controller.core.flow_changes import FlowChange, FlowChanges, each_change, stages
from controller.core.flows import Flow, Kind
from controller.core.full_tables import NO_ROOM
from controller.core.installed import AlikeFlows, ReportedFlow, one_by_one
from controller.core.traffic import Counters
from controller.southbound.decoder import Decoder, part_of
from controller.southbound.encoder import Encoder, Meter
from controller.southbound.exchange import (
    ChangesRefused,
    Exchange,
    RoleRefused,
    RoleReply,
    StaleGeneration,
    SwitchSilent,
)
from controller.southbound.sending import send
from hoaflow.logs import Log

if TYPE_CHECKING:
    from ryu.controller.controller import Datapath

LOG = Log("southbound")

# Times that an answer is awaited while others come, such as the many parts of flow statistics.
MOST_WAITS = 12
# Flows that are no part of what is desired, and end by themselves.
PASSING = (Kind.CLUSTER, Kind.SUPPRESS)
# What a switch answers NOCHANGE before it has been given any generation.
NO_GENERATION = (1 << 64) - 1
STALE = "its generation is older than one that the switch knows"


class Conversation:
    """Send requests to a switch, several at a time, and match its answers to them by xid."""

    def __init__(
        self, datapath: "Datapath", encoder: Encoder, answer_within: float, is_slave: Callable[[], None] | None = None
    ) -> None:
        """Allow the switch `answer_within` seconds for each answer.

        Call `is_slave` when it refuses something because another controller is its master; None: as any refusal.
        """
        self._datapath = datapath
        self._encoder = encoder
        self.names = encoder.names  # of hoaflow's tables, by number
        self.decoder = Decoder(encoder.names)
        self._answer_within = answer_within
        self._is_slave = is_slave
        self._bundles = True
        self._exchanges: dict[int, Exchange] = {}  # by the xid of the reply that ends each
        self._heard = 0  # answers of any kind

    # Messages from the switch.

    def on_error(self, message: parser.OFPErrorMsg) -> None:
        """Record an error for the request that it answers."""
        self._heard += 1
        if self._is_slave is not None and (message.type, message.code) == (ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_IS_SLAVE):
            self._is_slave()
            return
        exchange = self._exchange_with(message.xid)
        reason = _error_text(message)
        if exchange is None:
            LOG.warning("switch-error", router=f"{self._datapath.id:016x}", xid=message.xid, reason=reason)
            return
        exchange.errors[message.xid] = reason

    def on_barrier_reply(self, xid: int) -> None:
        """End the request that the barrier belongs to: all messages before it have been handled."""
        self._heard += 1
        exchange = self._exchanges.get(xid)
        if exchange is not None:
            exchange.finish()

    def on_statistics(self, xid: int, message: bytes) -> None:
        """Pass on a part of the flow statistics. Raises ValueError, also struct.error, for a malformed one."""
        self._heard += 1
        exchange = self._exchanges.get(xid)
        if exchange is not None and exchange.take is not None:
            statistics, is_last = part_of(message)
            exchange.take(statistics)
            if is_last:
                exchange.finish()

    def on_total(self, message: parser.OFPAggregateStatsReply) -> None:
        """Record the sum of the counters of one kind of flow."""
        exchange = self._exchanges.get(message.xid)
        if exchange is not None:
            exchange.total = Counters(message.body.packet_count, message.body.byte_count)
            exchange.finish()

    def on_meters(self, message: parser.OFPMeterConfigStatsReply | parser.OFPMeterStatsReply) -> None:
        """Record a part of the meters, which the barrier behind the request then ends."""
        exchange = self._exchange_with(message.xid)
        if exchange is not None:
            exchange.meters += message.body

    def on_role(self, message: parser.OFPRoleReply) -> None:
        """Record the role that the switch has given, which the barrier behind the request then ends."""
        exchange = self._exchange_with(message.xid)
        if exchange is not None:
            generation = None if message.generation_id == NO_GENERATION else message.generation_id
            exchange.role = RoleReply(message.role, generation)

    # Requests.

    def ask_role(self, role: int, generation: int = 0) -> RoleReply:
        """Ask the switch for a role, or with OFPCR_ROLE_NOCHANGE which one it has given, and return its answer.

        Raises StaleGeneration, RoleRefused, SwitchSilent.
        """
        xids = self._encoder.next_xids(2)
        exchange = self._send_and_wait(xids, [self._encoder.role_request(role, generation, xids[0])])
        if reason := exchange.errors.get(xids[0]):
            raise StaleGeneration(reason) if reason == STALE else RoleRefused(reason)
        if exchange.role is None or (role != ofp.OFPCR_ROLE_NOCHANGE and exchange.role.role != role):
            raise RoleRefused(f"it was asked for role {role} and answered {exchange.role}")
        return exchange.role

    def carry_out(self, changes: FlowChanges) -> float:
        """Have the switch carry out changes, in order, and return the time at which the last was sent.

        Raises ChangesRefused, SwitchSilent.
        """
        return self._send_bundle(changes) if self._bundles else self._send_plainly(list(each_change(changes)))

    def read(self, take: Callable[[Sequence[ReportedFlow | AlikeFlows]], None], within: float | None = None) -> float:
        """Read the switch's flows in hoaflow's tables, and call `take` with them as they come.

        Neither clusters' markers nor flows of `Kind.SUPPRESS` are among them, which end by themselves. Returns the
        seconds from the answer's begin to its end: that it came late costs nobody anything.

        Raises SwitchSilent after `within` seconds without an answer (None: `answer_within`).
        """

        def take_lasting(flows: Sequence[ReportedFlow | AlikeFlows]) -> None:
            take([flow for flow in flows if isinstance(flow, AlikeFlows) or not _is_passing(flow)])

        return self._read(take_lasting, None, within)

    def read_markers(self) -> list[Flow]:
        """Read the markers of clusters that have written to the switch lately. Raises SwitchSilent."""
        found: list[Flow] = []

        def take(flows: Sequence[ReportedFlow | AlikeFlows]) -> None:
            found.extend(flow.entry.flow for flow in one_by_one(flows) if flow.entry is not None)

        self._read(take, Kind.CLUSTER, None)
        return found

    def _read(
        self, take: Callable[[Sequence[ReportedFlow | AlikeFlows]], None], kind: Kind | None, within: float | None
    ) -> float:
        as_of: float | None = None

        def take_part(statistics: bytes) -> None:
            nonlocal as_of
            # Open vSwitch reports all ages as of the request, however long the answer takes.
            as_of = as_of or time.monotonic()
            take(self.decoder.decode(statistics, as_of))

        exchange = Exchange(self._encoder.next_xids(1), take_part)
        self._ask(exchange, self._encoder.flow_stats_request(exchange.last_xid, kind), within)
        return 0.0 if as_of is None else time.monotonic() - as_of

    def make_meter(self, number: int, meter: Meter, add: bool = True) -> str | None:
        """Make a meter, or without `add` change the one that is there.

        Return why the switch refuses that, None if it does not. Raises SwitchSilent.
        """
        xids = self._encoder.next_xids(2)
        message = self._encoder.meter_mod(number, add, meter, xids[0])
        return self._send_and_wait(xids, [message]).errors.get(xids[0])

    def read_meters(self) -> dict[int, Meter | None]:
        """Read how the switch's meters are set, by number; None for one of another kind. Raises SwitchSilent.

        A switch without meters has none.
        """
        return {each.meter_id: _meter(each) for each in self._meters(ofp.OFPMP_METER_CONFIG)}

    def count_held_back(self) -> dict[int, int]:
        """Read how many packets each meter has held back, by number. Raises SwitchSilent."""
        return {
            each.meter_id: sum(band.packet_band_count for band in each.band_stats)
            for each in self._meters(ofp.OFPMP_METER)
        }

    def _meters(self, kind: int) -> list[Any]:
        xids = self._encoder.next_xids(2)
        return self._send_and_wait(xids, [self._encoder.meters_request(kind, xids[0])]).meters

    def ask_for_notices(self) -> None:
        """Ask the switch to report the flows that it evicts; by default it does not. Raises SwitchSilent."""
        xids = self._encoder.next_xids(2)
        self._send_and_wait(xids, [self._encoder.notice_requests(xids[0])])

    def delete_all(self, kind: Kind) -> None:
        """Have the switch delete all flows of one of hoaflow's kinds. Raises SwitchSilent."""
        xids = self._encoder.next_xids(2)
        self._send_and_wait(xids, [self._encoder.deletion(kind, xids[0])])

    def total(self, kind: Kind) -> Counters:
        """Return the sum of the counters of one kind of flow. Raises SwitchSilent."""
        exchange = Exchange(self._encoder.next_xids(1))
        self._ask(exchange, self._encoder.total_request(kind, exchange.last_xid))
        return exchange.total

    # Sending and waiting.

    def _send_bundle(self, changes: FlowChanges) -> float:
        """Send changes as one bundle, all or nothing, and return the time. Raises ChangesRefused, SwitchSilent."""
        bundle = self._encoder.bundle(changes)
        exchange = Exchange(bundle.xids)
        self._ask(exchange, bundle.messages)
        errors = exchange.errors
        reasons = {position: errors[xid] for position, xid in enumerate(bundle.xids[1:-2]) if xid in errors}
        if errors and (bundle.xids[0] in errors or not reasons):
            # The switch has no bundles, or named no change: sent one by one, it will.
            LOG.info("bundle-refused", router=f"{self._datapath.id:016x}", reason="; ".join(errors.values()))
            self._bundles = False
            reasons = {}
        if errors:
            raise ChangesRefused(reasons, in_bundle=True)
        return exchange.sent

    def _send_plainly(self, changes: list[FlowChange]) -> float:
        """Send changes without a bundle, stage by stage, and return the time at which the last was sent.

        A stage begins when the one before is done. Raises ChangesRefused, without sending later stages, SwitchSilent.
        """
        sent, following = 0.0, stages(changes)
        while following:
            places = following.pop(0)
            *xids, _barrier = all_xids = self._encoder.next_xids(len(places) + 1)
            messages = [self._encoder.flow_mod(changes[place], xid) for place, xid in zip(places, xids, strict=True)]
            exchange = self._send_and_wait(all_xids, messages)
            sent, errors = exchange.sent, exchange.errors
            if errors:
                reasons = {place: errors[xid] for place, xid in zip(places, xids, strict=True) if xid in errors}
                unsent = {place for stage in following for place in stage}
                raise ChangesRefused(reasons, in_bundle=False, unsent=unsent)
        return sent

    def _send_and_wait(self, xids: range, messages: list[bytes]) -> Exchange:
        """Send messages and a barrier, wait for its reply, and return what was answered.

        The last of `xids` is the barrier's. Raises SwitchSilent.
        """
        exchange = Exchange(xids)
        self._ask(exchange, b"".join([*messages, self._encoder.barrier(exchange.last_xid)]))
        return exchange

    def _ask(self, exchange: Exchange, messages: bytes, within: float | None = None) -> None:
        """Send `messages` and wait for the last reply. Raises SwitchSilent."""
        within = self._answer_within if within is None else within
        self._exchanges[exchange.last_xid] = exchange
        try:
            for _ in range(MOST_WAITS):
                heard = self._heard
                with eventlet.Timeout(within, False):
                    if not exchange.sent:
                        self._send(messages)
                        exchange.sent = time.monotonic()
                    exchange.done.wait()
                    return
                if self._heard == heard or not exchange.sent:
                    raise SwitchSilent(f"no answer within {within} s")
            raise SwitchSilent(f"other answers, but not this one, within {MOST_WAITS * within} s")
        finally:
            del self._exchanges[exchange.last_xid]

    def _send(self, messages: bytes) -> None:
        if not send(self._datapath, messages):
            raise SwitchSilent("the connection is closing")

    def _exchange_with(self, xid: int) -> Exchange | None:
        return next((each for each in self._exchanges.values() if xid in each.xids), None)


def _meter(found: parser.OFPMeterConfigStats) -> Meter | None:
    """Return how a meter is set, None for another kind than those that drop whole packets beyond a rate."""
    if found.flags & ~ofp.OFPMF_STATS != ofp.OFPMF_PKTPS | ofp.OFPMF_BURST or len(found.bands) != 1:
        return None
    (band,) = found.bands
    return Meter(band.rate, band.burst_size) if band.type == ofp.OFPMBT_DROP else None


def _is_passing(flow: ReportedFlow) -> bool:
    """Tell whether a flow is one of `PASSING`, which end, and so are alike no other."""
    return flow.entry is not None and flow.entry.flow.kind in PASSING


def _error_text(message: parser.OFPErrorMsg) -> str:
    if message.type == ofp.OFPET_EXPERIMENTER:
        return f"experimenter error {message.exp_type} of {message.experimenter:#x}"
    if (message.type, message.code) == (ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_TABLE_FULL):
        return NO_ROOM
    if (message.type, message.code) == (ofp.OFPET_ROLE_REQUEST_FAILED, ofp.OFPRRFC_STALE):
        return STALE
    return f"{ofp.ofp_error_type_to_str(message.type)} {ofp.ofp_error_code_to_str(message.type, message.code)}"
