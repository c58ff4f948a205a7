# SPDX-License-Identifier: Apache-2.0
"""Give a connection's greenlets access to the core for as long as the connection lasts, and no longer.

Several greenlets work on one connection, and some sleep for seconds while it ends. Their results are then outdated: the
switch may be back on another connection, with its flows read anew. So they hold neither the router nor the core, but a
session, which lets go of both when it ends and raises SessionEnded from then on.
"""

from collections.abc import Collection, Iterable, Mapping

from controller.core.batches import Batch
from controller.core.first_reading import FirstReading
from controller.core.flow_changes import FlowChanges, count
from controller.core.flow_reading import FlowReading
from controller.core.flows import Flow, FlowKey, Kind
from controller.core.installed import AlikeFlows, ReportedFlow, one_by_one
from controller.core.offload import Offload
from controller.core.router import Router
from controller.core.suppressions import Request
from controller.core.traffic import DOWNLINK, UPLINK, Counters
from hoaflow.errors import HoaflowError


class SessionEnded(HoaflowError):
    """The connection has ended, and with it what was known of the switch."""


class Session:
    """What one connection's greenlets may do. Once it has ended, each call but ``end`` raises SessionEnded."""

    def __init__(self, offload: Offload, dpid: int) -> None:
        self.dpid = dpid
        self._offload: Offload | None = offload
        self._router: Router | None = None
        self._reading: FirstReading | FlowReading | None = None

    def end(self, now: float) -> None:
        """End the session: the connection is gone, or another one has taken its place. Idempotent."""
        offload, router = self._offload, self._router
        self._offload = self._router = self._reading = None
        if offload is not None and router is not None:
            offload.connections.disconnect(self.dpid, now)

    @property
    def ended(self) -> bool:
        """Whether the session has ended."""
        return self._offload is None

    @property
    def router(self) -> Router | None:
        """The router, for reading only; None before its flows have been read, and after the end."""
        return self._router if self._router is not None and self._router.switch.connected else None

    # In a cluster, before and after this controller is the switch's master.

    def stand_by(self, ports: Mapping[str, int], stranger: str | None, now: float) -> None:
        """Record that the switch is connected, with these ports, and another controller writes to it, or none yet.

        ``stranger``: another cluster's marker in the switch.
        """
        self._router = self._core.connections.stand_by(self.dpid, ports, stranger, now)

    def take_over(self, generation: int, drained: bool, now: float) -> None:
        """Record that the switch has made this controller its master (see ``Connections.take_over``)."""
        self._core.connections.take_over(self.dpid, generation, drained, now)

    def leave(self, why: str, now: float) -> None:
        """Record that this controller writes to the switch no longer; ``end`` follows."""
        if self._router is not None:
            self._core.connections.leave(self.dpid, why, now)

    # Reading the flows.

    def begin_reading(self, now: float) -> None:
        """Begin to read the switch's flows; ``read`` and ``end_reading`` follow."""
        self._reading = self._core.switches.begin_reading(self.dpid, now)
        self._router = self._core.router(self.dpid)

    def read(self, flows: Iterable[ReportedFlow | AlikeFlows]) -> None:
        """Take in flows that the switch has."""
        if self._reading is None:
            raise SessionEnded
        demand = self._present.demand
        for flow in flows:
            if demand.on:
                for each in one_by_one((flow,)):
                    demand.count(each.key, each.packets)
            if isinstance(flow, AlikeFlows):
                self._reading.add_alike(flow)
            elif flow.entry is None:
                self._reading.add_foreign(flow.key)
            else:
                self._reading.add(flow.entry)

    def compare_read(self, ports: Mapping[str, int], now: float) -> bool:
        """Compare some of what has been read, which is all, with what is desired; tell whether there is more.

        Without, ``end_reading`` does it all at once. ``ports``: the switch's, numbers by name.
        """
        router = self._present
        if not isinstance(self._reading, FirstReading):
            return False
        router.set_ports(ports, now)
        return self._reading.compare(now)

    def end_reading(self, ports: Mapping[str, int], now: float) -> None:
        """Take in that all flows have been read, and the switch's ports (numbers by name)."""
        self._reading = None
        self._core.switches.connect(self.dpid, ports, now)

    # What the switch says unasked. It is ignored before its flows are read.

    def flow_removed(self, key: FlowKey, counted: Counters, evicted: bool, now: float) -> None:
        """Record that a flow of ours is gone, and what it had counted."""
        if self.router is not None:
            self._core.switches.flow_removed(self.router, key, counted, now, evicted)
        elif self._reading is not None:
            self._present.flows.flow_removed(key, now, evicted)

    def set_ports(self, ports: Mapping[str, int], now: float) -> None:
        """Take in the switch's ports (numbers by name), which have changed."""
        if self._router is not None and self._router.switch.is_there:
            self._core.switches.set_ports(self.dpid, ports, now)

    # What an on-demand router tells.

    def ask(self, request: Request, now: float) -> Flow | None:
        """Record that a packet has come which no flow took (see ``PacketReports.ask``)."""
        return None if self.router is None else self._core.packet_reports.ask(self.router, request, now)

    def missing_meters(self) -> list[int]:
        """Return the numbers of the meters that the switch lacks for what it is to tell."""
        return [] if self.router is None else self.router.gates.missing_meters()

    @property
    def meters(self) -> frozenset[int]:
        """The numbers of the meters that the switch has for that, as far as is known."""
        return frozenset() if self.router is None else frozenset(self.router.demand.meters)

    def have_meters(self, meters: Collection[int], now: float) -> None:
        """Record that the switch has meters."""
        self._core.packet_reports.have_meters(self._present, meters, now)

    def lost_meters(self, meters: Collection[int], now: float) -> None:
        """Record that meters are gone or changed (see ``PacketReports.lost_meters``)."""
        self._core.packet_reports.lost_meters(self._present, meters, now)

    def observe_meters(self, held_back: Mapping[int, int]) -> None:
        """Take in how many packets each meter of the switch has held back, by its number."""
        drops, ours = self._present.demand.drops, self.meters
        drops.observe({meter: count for meter, count in held_back.items() if meter in ours})

    def dropped_unread(self) -> None:
        """Count one that was told and dropped unread."""
        if self.router is not None:
            self.router.demand.drops.unread += 1

    def refuse_demand(self, reason: str, now: float) -> None:
        """Record why the switch can't tell (see ``PacketReports.refuse``)."""
        self._core.packet_reports.refuse(self._present, reason, now)

    # What goes to the switch.

    def next_batch(self, urgent: bool, now: float, limit: int) -> Batch | None:
        """Return the next changes to send (see ``Reconciliation.next_batch``), None for none."""
        return self._core.switches.next_batch(self._present, urgent, now, limit)

    def sent(self, changes: FlowChanges) -> None:
        """Count changes that were sent and answered."""
        messages, added = self._present.messages, count(change for change in changes if change.add)
        messages.added += added
        messages.deleted += count(changes) - added

    def confirm(self, batch: Batch, now: float, sent: float) -> None:
        """Record that the switch has carried out a batch, sent at ``sent``."""
        self._core.switches.confirm(self._present, batch, now, sent)

    def refuse(
        self, batch: Batch, reasons: Mapping[int, str], rest_done: bool, now: float, unsent: Collection[int] = ()
    ) -> None:
        """Record that the switch has refused changes of a batch (see ``Reconciliation.refuse``)."""
        self._core.switches.refuse(self._present, batch, reasons, rest_done, now, unsent)

    # What there is to do.

    @property
    def has_urgent(self) -> bool:
        """Whether anything urgent is to be compared."""
        return self._present.flows.has_urgent

    @property
    def has_bulk(self) -> bool:
        """Whether anything is to be compared that is not urgent."""
        return self._present.flows.has_bulk

    def next_due(self) -> float | None:
        """Return the next moment at which there may be something to send without new input, None for none."""
        return self._present.flows.next_due()

    def mark(self) -> int:
        """Return a mark with which ``is_done`` tells whether all is done that there is to do now."""
        return self._present.flows.mark()

    def is_done(self, mark: int) -> bool:
        """Tell whether all is done that there was to do when ``mark`` was called."""
        return self._present.flows.is_done(mark)

    def counting(self) -> tuple[tuple[str, Kind], ...]:
        """Return, for each direction, the kind of flows that count its packets."""
        return (DOWNLINK, Kind.DOWNLINK), (UPLINK, self._present.uplink_kind)

    def observe(self, direction: str, total: Counters) -> None:
        """Take in what the flows of a direction have counted."""
        self._present.traffic.observe(direction, total)

    @property
    def _core(self) -> Offload:
        if self._offload is None:
            raise SessionEnded
        return self._offload

    @property
    def _present(self) -> Router:
        if self._router is None:
            raise SessionEnded
        return self._router


class Sessions:
    """The present session of each switch."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._present: dict[int, Session] = {}

    def open(self, dpid: int, now: float) -> Session:
        """Open a session for a switch that has connected, and end the former one."""
        former = self._present.get(dpid)
        if former is not None:
            former.end(now)
        self._present[dpid] = session = Session(self._offload, dpid)
        return session

    def is_known(self, dpid: int) -> bool:
        """Tell whether anybody but the switch itself vouches for a router (see ``Routers.is_vouched_for``)."""
        return self._offload.routers.is_vouched_for(dpid)

    def mastered_by(self, dpid: int, member: str | None) -> None:
        """Record which other controller of the cluster is a switch's master (see ``Connections``)."""
        self._offload.connections.mastered_by(dpid, member)

    def taken_by_stranger(self, dpid: int, generation: int | None, now: float) -> None:
        """Record that a stranger has taken a switch from this controller, or that it is over (see ``Connections``)."""
        self._offload.connections.taken_by_stranger(dpid, generation, now)

    def turned_away(self, dpid: int) -> None:
        """Report that a switch was disconnected, as too many are connected that nobody vouches for."""
        self._offload.connections.turned_away(dpid)

    def close(self, session: Session, now: float) -> None:
        """Close the session of a connection that is gone. Idempotent."""
        session.end(now)
        if self._present.get(session.dpid) is session:
            del self._present[session.dpid]
