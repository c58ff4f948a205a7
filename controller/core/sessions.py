# SPDX-License-Identifier: Apache-2.0
"""Sessions of switches: the one way to what a router is believed to have, and it ends with the connection.

Several greenlets work on one connection, and some sleep for seconds when it ends. What they were doing is then nobody's
business any more: the switch may be back on another connection, with its flows read anew. So none of them holds the
router or the core; each has the session, which lets go of both when it ends, and raises SessionEnded from then on.
"""

from collections.abc import Collection, Mapping, Sequence

from controller.core.batches import Batch, FlowChange
from controller.core.flows import FlowKey, Kind
from controller.core.installed import Entry, Reading
from controller.core.offload import Offload
from controller.core.router import Router
from controller.core.traffic import DOWNLINK, UPLINK, Counters
from hoaflow.errors import HoaflowError


class SessionEnded(HoaflowError):
    """The connection is gone, and with it what was known of the switch."""


class Session:
    """What one connection's greenlets may do. Each call but ``end`` raises SessionEnded once it has ended."""

    def __init__(self, offload: Offload, dpid: int) -> None:
        self.dpid = dpid
        self._offload: Offload | None = offload
        self._router: Router | None = None
        self._reading: Reading | None = None

    def end(self, now: float) -> None:
        """The connection is gone, or another one has taken its place. Idempotent."""
        offload, router = self._offload, self._router
        self._offload = self._router = self._reading = None
        if offload is not None and router is not None:
            offload.disconnect(self.dpid, now)

    @property
    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self._offload is None

    @property
    def router(self) -> Router | None:
        """The router, for those who only look at it; None before its flows have been read, and after the end."""
        return self._router if self._router is not None and self._router.connected else None

    # Reading the flows.

    def begin_reading(self, now: float) -> None:
        """The switch is about to be asked for its flows; ``read`` and ``end_reading`` follow."""
        self._reading = self._core.begin_reading(self.dpid, now)
        self._router = self._core.router(self.dpid)

    def read(self, key: FlowKey, entry: Entry | None) -> None:
        """The switch has this flow of ours; None: another application's with this key."""
        if self._reading is None:
            raise SessionEnded
        if entry is None:
            self._reading.add_foreign(key)
        else:
            self._reading.add(entry)

    def end_reading(self, ports: Mapping[str, int], now: float) -> None:
        """All has been read from the switch, which has these ports (numbers by name)."""
        self._reading = None
        self._core.connect(self.dpid, ports, now)

    # What comes from the switch by itself; before its flows have been read, it is of no interest.

    def removed(self, key: FlowKey, counted: Counters, evicted: bool, now: float) -> None:
        """A flow of ours is gone, and what it had counted."""
        if self.router is not None:
            self._core.removed(self.router, key, counted, now, evicted)

    def set_ports(self, ports: Mapping[str, int], now: float) -> None:
        """The switch's ports have changed."""
        if self.router is not None:
            self._core.set_ports(self.dpid, ports, now)

    # What goes to the switch.

    def take(self, urgent: bool, now: float, limit: int) -> Batch | None:
        """Return the next changes to be sent (see ``Reconciliation.take`` and ``take_urgent``)."""
        flows = self._present.flows
        return flows.take_urgent(now, limit) if urgent else flows.take(now, limit)

    def sent(self, changes: Sequence[FlowChange]) -> None:
        """Count what was sent and has been answered."""
        tally, added = self._present.messages, sum(change.add for change in changes)
        tally.added += added
        tally.deleted += len(changes) - added

    def confirm(self, batch: Batch, now: float, sent: float) -> None:
        """The switch has carried a batch out, which was sent at ``sent``."""
        self._core.confirm(self._present, batch, now, sent)

    def refuse(
        self, batch: Batch, reasons: Mapping[int, str], rest_done: bool, now: float, unsent: Collection[int] = ()
    ) -> None:
        """The switch has refused changes of a batch (see ``Reconciliation.refuse``)."""
        self._core.refuse(self._present, batch, reasons, rest_done, now, unsent)

    # What there is to do.

    @property
    def has_urgent(self) -> bool:
        """Tell whether anything urgent is to be looked at."""
        return self._present.flows.has_urgent

    @property
    def has_bulk(self) -> bool:
        """Tell whether anything else is."""
        return self._present.flows.has_bulk

    def next_due(self) -> float | None:
        """Return the next moment at which there may be something to send although nothing new has come in."""
        return self._present.flows.next_due()

    def mark(self) -> int:
        """Return what to ask ``is_done`` for later: whether all is done that there is to do now."""
        return self._present.flows.mark()

    def is_done(self, mark: int) -> bool:
        """Tell whether all is done that there was to do when ``mark`` was called."""
        return self._present.flows.is_done(mark)

    def counting(self) -> tuple[tuple[str, Kind], ...]:
        """Return the kind of flows that counts each direction."""
        return (DOWNLINK, Kind.DOWNLINK), (UPLINK, self._present.uplink_kind)

    def observe(self, direction: str, total: Counters) -> None:
        """The switch says what the flows of a direction have counted."""
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
        """A switch has connected: what it said on a former connection counts no more."""
        former = self._present.get(dpid)
        if former is not None:
            former.end(now)
        self._present[dpid] = session = Session(self._offload, dpid)
        return session

    def is_known(self, dpid: int) -> bool:
        """Tell whether anybody but its switch has said that there is a router (see ``Routers.is_vouched_for``)."""
        return self._offload.routers.is_vouched_for(dpid)

    def turned_away(self, dpid: int) -> None:
        """A switch was disconnected, as too many are connected that nobody knows."""
        self._offload.turned_away(dpid)

    def close(self, session: Session, now: float) -> None:
        """A connection is gone. Idempotent."""
        session.end(now)
        if self._present.get(session.dpid) is session:
            del self._present[session.dpid]
