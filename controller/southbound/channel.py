# SPDX-License-Identifier: Apache-2.0
"""Keep one switch in step: read its flows back, then send what is due and wait for the answer, again and again.

A few greenlets per connection do all the sending (`Lanes`). So a slow or silent switch delays no other, and costs the
memory of the bundles under way. Any failure ends the connection. The switch comes back, its flows are read anew, and
nothing was recorded that it did not confirm.
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

from controller.changes import give_way
from controller.core.flows import FlowKey, Kind
from controller.core.installed import AlikeFlows, ReportedFlow, one_by_one
from controller.core.router import Router
from controller.core.sessions import Session, SessionEnded
from controller.core.traffic import Counters
from controller.southbound.conversation import Conversation
from controller.southbound.encoder import EVICTION, Encoder
from controller.southbound.exchange import RoleRefused, SwitchSilent
from controller.southbound.lanes import Lanes
from controller.southbound.packet_ins import PacketIns
from controller.southbound.roles import Candidacy, Mastership, is_demotion
from hoaflow.logs import Log

if TYPE_CHECKING:
    from ryu.controller.controller import Datapath

LOG = Log("southbound")

# Share of the time that may go into reading flows back. A switch answers in order, so urgent changes wait meanwhile.
READING_SHARE = 0.01
# Seconds after which a reading that was put off is thought of again.
LOOK_AGAIN = 0.5
# Share of the time that may go into reading counters.
COUNTING_SHARE = 0.05
# Seconds that a REST call waits for the counters of a silent switch.
COUNTERS_WITHIN = 2.0
# Configurations of a port that receives or sends no packets.
UNUSABLE = ofproto.OFPPC_PORT_DOWN | ofproto.OFPPC_NO_RECV | ofproto.OFPPC_NO_FWD
_MULTIPART = ofproto.OFPMP_FLOW, ofproto.OFPMP_AGGREGATE, ofproto.OFPMP_METER_CONFIG, ofproto.OFPMP_METER
_FLOWS, _TOTAL, _METERS, _METER_COUNTS = (kind.to_bytes(2, "big") for kind in _MULTIPART)


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
        packet_in_turn: Semaphore,
    ) -> None:
        """Write at once, or with a `mastership` once that and the switch allow it.

        `packet_in_turn` is shared by all channels (see `PacketIns`).
        """
        self.datapath = datapath
        is_slave = None if mastership is None else self._overtaken
        self.conversation = Conversation(datapath, encoder, answer_within, is_slave)
        self.session = session
        self._mastership = mastership
        self._candidacy = None if mastership is None else Candidacy(session, self.conversation, mastership)
        self._answer_within = answer_within
        self._read_back_every = read_back_every
        self._publish = notify
        certain = self._wait_until_certain
        self._lanes = Lanes(session, self.conversation, certain, self._notify)
        self.packet_ins = PacketIns(session, self.conversation, self._notify, packet_in_turn, certain)
        self._end = Event()
        self._counted: dict[FlowKey, Counters] = {}
        self._counted_at = -math.inf
        self._counting_took = 0.0
        self.dpid: int = datapath.id
        # What the exchange awaits, by type, and with multipart messages by theirs.
        self._takers: dict[object, Callable[[Any], None]] = {
            ofproto.OFPT_ERROR: self.conversation.on_error,
            ofproto.OFPT_ROLE_REPLY: self.conversation.on_role,
            (ofproto.OFPT_MULTIPART_REPLY, _TOTAL): self.conversation.on_total,
            (ofproto.OFPT_MULTIPART_REPLY, _METERS): self.conversation.on_meters,
            (ofproto.OFPT_MULTIPART_REPLY, _METER_COUNTS): self.conversation.on_meters,
        }
        datapath.deliver = self._deliver  # see `controller.southbound.receiving`

    @property
    def router(self) -> Router | None:
        """Return the router, to be looked at only; None before its flows have been read, and after the end."""
        return self.session.router

    @property
    def behind_since(self) -> float | None:
        """Time since which the switch has lacked something; None: it has everything."""
        return self._lanes.behind_since

    # Called by others.

    def wake(self) -> None:
        """Have what the switch lacks sent, if there is anything."""
        router = self.session.router
        if router is None:
            return
        if router.demand.on:
            self.packet_ins.wake()
        self._lanes.wake(router)

    def on_flow_removed(self, message: bytes) -> None:
        """Record that a flow is gone: deleted by the controller or by somebody else, timed out, or evicted."""
        removed = self.conversation.decoder.removed(message)
        if removed is None or self.session.ended:
            return
        router = self.session.router
        is_expected = router is not None and router.flows.is_going(removed.key)
        self.session.flow_removed(removed.key, removed.counted, removed.reason == EVICTION, time.monotonic())
        if not is_expected:  # what follows from a deletion follows from the answer to its bundle
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
        self._lanes.end()
        self.packet_ins.end()
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
                flows, took = self._read_flows(min(COUNTERS_WITHIN, self._answer_within))
            except SwitchSilent:
                return self._counted
            self._counted = {flow.key: Counters(flow.packets, flow.bytes) for flow in flows}
            self._counted_at = time.monotonic()
            self._counting_took = took
        return self._counted

    def observe_traffic(self) -> None:
        """Ask the switch for its flows' counters, summed up by direction. Raises SwitchSilent, SessionEnded."""
        for direction, kind in self.session.counting():
            self.session.observe(direction, self.conversation.total(kind))
        if self.session.meters:
            self.session.observe_meters(self.conversation.count_held_back())

    def read_flows(self, within: float | None = None) -> list[ReportedFlow]:
        """Return the switch's flows in hoaflow's tables, with counters, as of now.

        Raises SwitchSilent after `within` seconds without an answer (None: `answer_within`).
        """
        return self._read_flows(within)[0]

    def _read_flows(self, within: float | None) -> tuple[list[ReportedFlow], float]:
        """Return what `read_flows` does, and the seconds for which the switch told them."""
        found: list[ReportedFlow | AlikeFlows] = []
        took = self.conversation.read(found.extend, within)
        return list(one_by_one(found)), took

    def _deliver(self, kind: int, xid: int, message: bytes) -> bool:
        """Take a message if it is one that the exchange awaits; tell whether it is."""
        if kind == ofproto.OFPT_BARRIER_REPLY:
            self.conversation.on_barrier_reply(xid)
            return True
        if kind == ofproto.OFPT_EXPERIMENTER:
            if self._mastership is not None and is_demotion(message):
                self._overtaken()
            return True  # else that a bundle was opened and committed: the barrier behind it says so, too
        if kind == ofproto.OFPT_FLOW_REMOVED:
            self.on_flow_removed(message)
            return True
        if kind == ofproto.OFPT_PACKET_IN:
            self.packet_ins.take(message, self.conversation.names)
            return True
        statistics = message[8:10] if kind == ofproto.OFPT_MULTIPART_REPLY else None
        take = self._takers.get(kind if statistics is None else (kind, statistics))
        try:
            if statistics == _FLOWS:
                self.conversation.on_statistics(xid, message)
            elif take is not None:
                take(ofproto_parser.msg(self.datapath, message[0], kind, len(message), xid, message))
        except SessionEnded:
            self.end()
        return statistics == _FLOWS or take is not None

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
            self._candidacy.run(self._ports, self._publish)
            eventlet.spawn(self._serve, self._candidacy.keep_marker)
        self.conversation.ask_for_notices()
        self._wait_until_certain()
        # Of whom nothing was to be told, a former connection or another controller knew: no new binding overrides that.
        self.conversation.delete_all(Kind.SUPPRESS)
        took = self._read_back()
        for group in self._lanes:
            eventlet.spawn(self._serve, self._lanes.run, group)
        eventlet.spawn(self._serve, self.packet_ins.run)
        while not self._ended:
            with eventlet.Timeout(max(self._read_back_every, took / READING_SHARE), False):
                self._end.wait()
                return
            self._wait_until_settled()
            took = self._read_back()

    def _wait_until_settled(self) -> None:
        """Put a reading off while the switch lacks something, no longer than until the next would be due.

        Handovers wait behind what it lacks, and behind the reading: not behind both at once.
        """
        until = time.monotonic() + self._read_back_every
        while self.behind_since is not None and not self._ended and time.monotonic() < until:
            with eventlet.Timeout(LOOK_AGAIN, False):
                self._end.wait()

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

    def _wait_until_certain(self) -> None:
        if self._mastership is not None:
            self._mastership.wait_until_certain()

    def _notify(self) -> None:
        """Have sent what follows from what the switch has said, and published what has changed."""
        self.wake()
        self._publish()

    def _read_back(self) -> float:
        """Read the switch's flows: after connecting, and regularly to repair drift.

        Return the seconds for which others had to wait for that.
        """
        self.session.begin_reading(time.monotonic())
        took = self.conversation.read(self.session.read)
        started = time.monotonic()
        while self.session.compare_read(self._ports(), time.monotonic()):
            give_way()
        took += time.monotonic() - started
        self.session.end_reading(self._ports(), time.monotonic())
        self.packet_ins.check_meters()
        self._notify()
        return took

    def _ports(self) -> dict[str, int]:
        """Return the ports that packets can enter and leave by: numbers by name."""
        return {
            port.name.decode(errors="replace"): number
            for number, port in self.datapath.ports.items()
            if not (port.config & UNUSABLE or port.state & ofproto.OFPPS_LINK_DOWN)
        }
