# SPDX-License-Identifier: Apache-2.0
"""Sessions: who works on a connection that is gone has nothing left to work with."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.core.flows import Kind
from controller.core.installed import FlowEntry, ReportedFlow
from controller.core.sessions import Session, SessionEnded, Sessions
from controller.core.suppressions import Request
from controller.core.traffic import DOWNLINK, Counters
from tests.support.world import DPID, HOME_ADDRESSES, PORTS, SECOND, World

SOUTHBOUND = Path(__file__).parents[3] / "controller" / "southbound"


def connected(world: World, sessions: Sessions) -> Session:
    """Return a session on a new connection, whose flows have been read."""
    session = sessions.open(DPID, world.now)
    session.begin_reading(world.now)
    session.read(map(reported, world.switch.values()))
    session.end_reading(PORTS, world.now)
    return session


def reported(entry: FlowEntry) -> ReportedFlow:
    """Return a flow as its switch reports it."""
    return ReportedFlow(entry.flow.key, entry, 0, 0)


def state(world: World) -> tuple[object, ...]:
    """Return what is believed of the router, and what is to be sent to it."""
    router = world.offload.router(DPID)
    return router, router.switch.connected, router.flows.count, router.flows.has_urgent, router.messages.added


def test_a_former_connection_takes_confirms_refuses_and_reads_nothing_of_the_new_ones(world: World) -> None:
    sessions = Sessions(world.offload)
    former = connected(world, sessions)
    world.post(HOME_ADDRESSES[1], SECOND)
    world.agent_follows()
    taken = former.next_batch(True, world.now, 100)
    assert taken is not None
    flow = taken.changes[0].flow
    former.begin_reading(world.now)
    present = connected(world, sessions)
    world.post(HOME_ADDRESSES[2], SECOND)
    world.agent_follows()
    before = state(world)
    uses: dict[str, Callable[[], object]] = {
        "stand_by": lambda: former.stand_by({}, None, world.now),
        "take_over": lambda: former.take_over(1, False, 0.0),
        "begin_reading": lambda: former.begin_reading(world.now),
        "read": lambda: former.read([]),
        "compare_read": lambda: former.compare_read(PORTS, world.now),
        "end_reading": lambda: former.end_reading({}, world.now),
        "next_batch": lambda: former.next_batch(True, world.now, 100),
        "sent": lambda: former.sent(taken.changes),
        "confirm": lambda: former.confirm(taken, world.now, world.now),
        "refuse": lambda: former.refuse(taken, {0: "table full"}, False, world.now),
        "has_urgent": lambda: former.has_urgent,
        "has_bulk": lambda: former.has_bulk,
        "next_due": former.next_due,
        "mark": former.mark,
        "is_done": lambda: former.is_done(0),
        "counting": former.counting,
        "have_meters": lambda: former.have_meters([1], world.now),
        "lost_meters": lambda: former.lost_meters([1], world.now),
        "observe_meters": lambda: former.observe_meters({1: 9}),
        "refuse_demand": lambda: former.refuse_demand("no meters", world.now),
        "observe": lambda: former.observe(DOWNLINK, Counters(9, 9)),
    }
    harmless: dict[str, Callable[[], object]] = {
        "flow_removed": lambda: former.flow_removed(flow.key, Counters(9, 9), False, world.now),
        "set_ports": lambda: former.set_ports({}, world.now),
        "ask": lambda: former.ask(Request(HOME_ADDRESSES[1], None), world.now),
        "missing_meters": former.missing_meters,
        "meters": lambda: former.meters,
        "dropped_unread": former.dropped_unread,
        "leave": lambda: former.leave("overtaken", world.now),
        "end": lambda: former.end(world.now),
        "ended": lambda: former.ended,
        "router": lambda: former.router,
        "dpid": lambda: former.dpid,
    }
    public = {name for name in (*vars(Session), *vars(former)) if not name.startswith("_")}
    assert public == uses.keys() | harmless.keys(), "a use that this test does not know"
    for use in uses.values():
        with pytest.raises(SessionEnded):
            use()
    for use in harmless.values():
        use()
    sessions.close(former, world.now)
    assert former.router is None
    assert state(world) == before
    # And what was under way then is sent again on the present one.
    sent = []
    for urgent in (True, False, True, False):
        while batch := present.next_batch(urgent, world.now, 100):
            sent += [change.flow.serves for change in batch.changes if change.flow.kind is Kind.DOWNLINK]
            present.confirm(batch, world.now, world.now)
    assert set(sent) == set(HOME_ADDRESSES[1:])


def test_a_reading_that_another_connection_cut_short_leaves_nothing(world: World) -> None:
    sessions = Sessions(world.offload)
    connected(world, sessions)
    former = sessions.open(DPID, world.now)
    former.begin_reading(world.now)
    former.read(map(reported, list(world.switch.values())[:2]))
    present = sessions.open(DPID, world.now)
    present.begin_reading(world.now)
    present.end_reading(PORTS, world.now)
    assert world.offload.router(DPID).flows.count == 0


def test_connections_have_nothing_of_the_core_that_outlives_them() -> None:
    for module in SOUTHBOUND.glob("*.py"):
        imported = {node.module for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)}
        assert not imported & {"controller.core.offload", "controller.core.reconciliation"}, module


def test_who_only_connects_is_not_remembered() -> None:
    """Anybody who reaches the OpenFlow port can name any router."""
    world = World()
    world.announce()
    sessions = Sessions(world.offload)
    for dpid in range(100, 1100):
        session = sessions.open(dpid, world.now)
        session.begin_reading(world.now)
        if dpid % 2:
            session.end_reading({}, world.now)
        sessions.close(session, world.now)
    assert list(world.offload.routers) == [DPID]
