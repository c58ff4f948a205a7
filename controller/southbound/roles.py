# SPDX-License-Identifier: Apache-2.0
"""Write to a switch only as its MASTER, where several controllers are a cluster.

A cluster's controllers are all connected to every switch. A new connection may write (EQUAL), so the first thing is to
become SLAVE; the cluster then says which controller is to be the switch's MASTER, and with which generation. The switch
itself refuses whoever was overtaken (OpenFlow 1.3.5, section 6.3.5). A connection that has lost its role, or has given
it up, ends; the switch comes back by itself and finds a SLAVE.
"""

import struct
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import NoReturn, Protocol

import eventlet
from ryu.ofproto import ofproto_v1_3 as ofproto
from ryu.ofproto.ofproto_common import ONF_EXPERIMENTER_ID

from controller.changes import ChangeSignal
from controller.core.flow_changes import FlowChange
from controller.core.flows import Flow
from controller.core.pipeline import cluster_marker
from controller.core.sessions import Session, SessionEnded
from controller.core.timeouts import span_until
from controller.southbound.conversation import Conversation
from controller.southbound.exchange import ChangesRefused, RoleRefused, StaleGeneration
from hoaflow.logs import Log

LOG = Log("southbound")

# ONF's extension 191, role status: header, experimenter and type, role, reason, generation.
_ROLE_STATUS = struct.Struct("!8xIIIB3xQ")
ONF_ET_ROLE_STATUS = 1911
# Times that SLAVE is asked for while other controllers become MASTER in between.
MOST_ATTEMPTS = 10
# Seconds that a marker lasts, and between two renewals.
MARKER_LASTS = 10
MARKER_RENEWED_EVERY = 3.0
# Seconds between two looks whether another cluster still writes to the switch.
STRANGER_LOOK_EVERY = 2.0
# Longest sleep while the cluster has nothing to say, in seconds.
LONGEST_SLEEP = 60.0


class Mastership(Protocol):
    """Decide which controller of a cluster is whose switch's master; it is told here what the switches say.

    A datapath id's calls begin with ``switch_connected`` and end with ``switch_gone``. No call may wait for anything.
    """

    @property
    def identity(self) -> str | None:
        """What tells the cluster from all others, also from those with its name; None: not known yet."""

    def wait_until_identified(self) -> None:
        """Wait for news, at most a minute, if ``identity`` is not known."""

    def is_drained(self, dpid: int) -> bool:
        """Tell whether the cluster says that an operator has taken a router out of service."""

    def switch_connected(self, dpid: int, generation: int | None) -> None:
        """Take in that a switch is connected and has this controller as SLAVE; `generation`: the newest it knows."""

    def switch_gone(self, dpid: int) -> None:
        """Take in that a switch's connection has ended."""

    def role_taken(self, dpid: int, generation: int) -> None:
        """Take in that a switch has confirmed this controller as its MASTER."""

    def role_refused(self, dpid: int, generation: int | None) -> None:
        """Take in that the role is not to be had with the generation granted; `generation`: the newest it knows."""

    def overtaken(self, dpid: int) -> None:
        """Take in that a switch has another MASTER now."""

    def wait_until_certain(self) -> None:
        """Wait while this controller may have been overtaken without knowing, as after it was stopped for a while."""


class Roles(Protocol):
    """Carry out what the mastership decides. Datapath ids of switches that are not connected are ignored."""

    def take_role(self, dpid: int, generation: int) -> None:
        """Become a switch's MASTER, as the cluster has decided; ``role_taken`` or ``role_refused`` follows."""

    def give_up(self, dpid: int) -> None:
        """Stop writing to a switch: end its connection. ``switch_gone`` follows."""

    def mastered_by(self, dpid: int, member: str | None) -> None:
        """Take in which other controller of the cluster is a switch's master; None: none, or this one."""

    def taken_by_stranger(self, dpid: int, generation: int | None) -> None:
        """Take in that a stranger has taken a switch from this controller, its master with a generation; None: over."""


class Candidacy:
    """One connection's way from SLAVE to MASTER, and what only a MASTER of a cluster does."""

    def __init__(self, session: Session, conversation: Conversation, mastership: Mastership) -> None:
        self._session = session
        self._conversation = conversation
        self._mastership = mastership
        self._dpid = session.dpid
        self._granted: int | None = None  # the generation with which to become MASTER
        self._changed = ChangeSignal()
        self._announced = False

    # Called by others.

    def take_role(self, generation: int) -> None:
        """Become MASTER with a generation, unless the cluster does not know yet that the switch is here."""
        if self._announced:
            self._granted = generation
            self._changed.notify()

    def end(self) -> None:
        """Tell the cluster that the connection is gone. Idempotent."""
        self._changed.notify()
        if self._announced:
            self._announced = False
            self._mastership.switch_gone(self._dpid)

    # The greenlets.

    def run(self, ports: Callable[[], Mapping[str, int]], notify: Callable[[], None]) -> None:
        """Stand by as SLAVE, and return once the switch has made this controller its MASTER.

        `ports` are the switch's; call `notify` when the core has something to say. Raises SessionEnded, RoleRefused,
        SwitchSilent.
        """
        while True:
            generation, stranger = self._become_slave(), self._stranger()
            self._session.stand_by(ports(), stranger, time.monotonic())
            notify()
            if stranger is None and self._mastership.identity is not None:
                break
            self._look_again_later()
        self._announced = True
        self._mastership.switch_connected(self._dpid, generation)
        generation = self._become_master(generation)
        self._session.take_over(generation, self._mastership.is_drained(self._dpid), time.monotonic())
        notify()
        self._mastership.role_taken(self._dpid, generation)
        self._mark()

    def keep_marker(self) -> NoReturn:
        """Renew the cluster's marker in the switch for as long as the connection lasts."""
        while True:
            eventlet.sleep(MARKER_RENEWED_EVERY)
            self._mastership.wait_until_certain()
            if self._session.ended:
                raise SessionEnded
            self._mark()

    def _look_again_later(self) -> None:
        """Wait until it may be known which cluster this is, or another one may have gone. Raises SessionEnded."""
        if self._mastership.identity is not None:
            eventlet.sleep(STRANGER_LOOK_EVERY)
        while self._mastership.identity is None:
            self._mastership.wait_until_identified()
            if self._session.ended:
                raise SessionEnded

    def _become_slave(self) -> int | None:
        """Become SLAVE and return the newest generation that the switch knows."""
        for _ in range(MOST_ATTEMPTS):
            known = self._conversation.ask_role(ofproto.OFPCR_ROLE_NOCHANGE).generation
            try:
                return self._conversation.ask_role(ofproto.OFPCR_ROLE_SLAVE, known or 0).generation
            except StaleGeneration:
                continue  # another controller has become MASTER since
        raise RoleRefused(f"as SLAVE {MOST_ATTEMPTS} times: others become MASTER again and again")

    def _become_master(self, first_known: int | None) -> int:
        """Wait until the cluster wants this controller to be MASTER and the switch agrees; return the generation.

        The switch accepts an equal generation. This controller may take its role again by that, but where the switch
        has learnt it since it knew `first_known`, another one has it: etcd had lost the grant, as by a backup.
        """
        while True:
            while self._granted is None:
                self._changed.wait(LONGEST_SLEEP)
                if self._session.ended:
                    raise SessionEnded
            generation, self._granted = self._granted, None
            self._refuse_strangers()
            try:
                known = self._conversation.ask_role(ofproto.OFPCR_ROLE_NOCHANGE).generation
                if generation == known != first_known:
                    raise StaleGeneration("another controller has been given a role with this generation")
                self._conversation.ask_role(ofproto.OFPCR_ROLE_MASTER, generation)
            except StaleGeneration:
                known = self._conversation.ask_role(ofproto.OFPCR_ROLE_NOCHANGE).generation
                self._mastership.role_refused(self._dpid, known)
                continue
            self._refuse_strangers()  # one that has become MASTER just before
            return generation

    def _refuse_strangers(self) -> None:
        if (stranger := self._stranger()) is not None:
            raise RoleRefused(f"another cluster writes to the switch, whose marker is {stranger}")

    def _stranger(self) -> str | None:
        """Return the marker of another cluster that writes to the switch, None if none is known to be another's."""
        identity = self._mastership.identity
        if identity is None:
            return None
        own = marker_of(identity)
        return next((str(each) for each in self._conversation.read_markers() if each != own), None)

    def _mark(self) -> None:
        identity = self._mastership.identity
        if identity is None:
            raise ValueError("a switch is marked by a MASTER, and who is MASTER knows its cluster")
        now = time.monotonic()
        span = span_until(now + MARKER_LASTS, now)
        try:
            self._conversation.carry_out([FlowChange(marker_of(identity), True, span.expires_at, span.timeout)])
        except ChangesRefused as refused:
            LOG.warning("marker-refused", router=f"{self._dpid:016x}", reason=refused)


def marker_of(identity: str) -> Flow:
    """Return the flow by which the cluster with an identity marks its switches."""
    return cluster_marker(blake2b(identity.encode(), digest_size=8).digest())


def is_demotion(message: bytes) -> bool:
    """Tell whether an experimenter message says that the switch has made another controller its MASTER."""
    if len(message) < _ROLE_STATUS.size:
        return False
    experimenter, kind, role, _, _ = _ROLE_STATUS.unpack_from(message)
    return (experimenter, kind, role) == (ONF_EXPERIMENTER_ID, ONF_ET_ROLE_STATUS, ofproto.OFPCR_ROLE_SLAVE)
