# SPDX-License-Identifier: Apache-2.0
"""What an on-demand router is asked for, what is said of it, and when nothing has come for a home address."""

from collections.abc import Iterable
from functools import partial

import pytest

from controller.core import suppressions
from controller.core.askers import Askers
from controller.core.binding_counts import count_bindings
from controller.core.bindings import Binding
from controller.core.demand import Demand, Install
from controller.core.explanation import explain
from controller.core.flow_sets import FIRST_METER, Path, keys_of, meter_of
from controller.core.flows import Flow, Kind
from controller.core.full_tables import NO_ROOM
from controller.core.registrations import Registrations
from controller.core.router import Router
from controller.core.suppressions import MOST_SUPPRESSED, SUPPRESSED_FOR, Request
from controller.core.traffic import Counters, PacketInDrops
from controller.core.tunnels import EndpointName, FlowTunnels
from controller.core.urgency import MOST_URGENT
from hoaflow.addresses import Prefix, host, parse_prefix
from tests.support.world import (
    DPID,
    FIRST,
    HOME_ADDRESS,
    HOME_ADDRESSES,
    HOME_AGENT,
    HOME_PREFIX,
    PORTS,
    SECOND,
    World,
    binding,
)

UNKNOWN = parse_prefix("2001:db8:99::999")
NETWORK = parse_prefix("2001:db8:99:0:1::/80")
IN_NETWORK = parse_prefix("2001:db8:99:0:1::77")
IDLE_AFTER, MANY = 300, 3000
ON_FIRST, ON_SECOND = (Path(each, HOME_AGENT, 41) for each in (FIRST, SECOND))


class OnDemand(World):
    """A world whose router is on demand."""

    INSTALL = Install.ON_DEMAND

    @property
    def router(self) -> Router:
        return self.offload.router(DPID)

    def packet(self, home_address: Prefix = HOME_ADDRESS, path: Path | None = None) -> Flow | None:
        """Let the switch tell of a packet; return the flow that suppresses further ones."""
        return self.offload.packet_reports.ask(self.router, Request(home_address, path), self.now)

    def make_meters(self) -> None:
        """Make the meters that are missing, and let the switch follow."""
        for meter in self.router.gates.missing_meters():
            self.offload.packet_reports.have_meters(self.router, [meter], self.now)
        self.deliver()

    def settle(self) -> None:
        """Let agent and switch follow."""
        self.agent_follows()
        self.deliver()

    def counts(self) -> dict[str, int]:
        """Return how many bindings there are in each state."""
        *_, counts = count_bindings(self.offload, self.now)
        return {state: count for (_, state), count in counts.items() if count}

    def read(self, counted: Iterable[tuple[Binding, int]] = ()) -> None:
        """Read the switch's flows again: these bindings' downlink flows have counted so many packets."""
        reading = self.offload.switches.begin_reading(DPID, self.now)
        for entry in self.switch.values():
            reading.add(entry)
        for each, packets in counted:
            self.router.demand.count(keys_of(each).downlink, packets)
        self.offload.switches.connect(DPID, PORTS, self.now)
        self.deliver()


@pytest.fixture
def cold() -> OnDemand:
    """Start everything, with a mobile node registered to which no packet has come."""
    world = OnDemand()
    world.announce()
    world.snapshot()
    world.agent_starts()
    world.deliver()
    world.make_meters()
    world.post(sequence=1)
    world.settle()
    assert (world.state(), world.counts()) == ("idle", {"idle": 1})
    return world


def test_a_switch_that_nobody_vouches_for_leaves_nothing_when_it_goes(cold: OnDemand) -> None:
    stranger = cold.connect(9, PORTS, [], [])
    cold.offload.packet_reports.ask(stranger, Request(HOME_ADDRESS, None), cold.now)
    cold.offload.connections.disconnect(9, cold.now)
    cold.post(care_of_address=SECOND, sequence=2)
    cold.settle()
    cold.packet()
    cold.deliver()
    assert cold.state() == "active"


def test_a_switch_without_an_agent_is_asked_for_nothing_whatever_it_tells(cold: OnDemand) -> None:
    stranger = cold.connect(9, PORTS, [], [])
    for home_address in (HOME_ADDRESS, UNKNOWN):
        assert cold.offload.packet_reports.ask(stranger, Request(home_address, None), cold.now) is None
    assert (len(stranger.demand), len(stranger.demand.suppressions)) == (0, 0)


def test_what_a_switch_could_not_do_is_tried_again_when_it_connects_anew(cold: OnDemand) -> None:
    cold.offload.packet_reports.refuse(cold.router, "no meters", cold.now)
    cold.deliver()
    assert cold.state() == "active"
    cold.offload.connections.disconnect(DPID, cold.now)
    cold.connect(DPID, PORTS, list(cold.switch.values()), [])
    cold.make_meters()
    assert cold.router.demand.on
    assert len(cold.flows(Kind.PACKET_IN)) == 2
    assert cold.state() == "active"  # packets may be coming


def test_a_full_table_does_not_bring_the_flows_of_all_bindings() -> None:
    world = OnDemand()
    world.announce()
    world.snapshot()
    world.agent_starts()
    world.deliver()
    for meter in world.router.gates.missing_meters():
        world.offload.packet_reports.have_meters(world.router, [meter], world.now)
    world.refuse(Kind.PACKET_IN, NO_ROOM)
    assert world.router.demand.on
    world.pass_time(2)
    world.deliver()
    assert len(world.flows(Kind.PACKET_IN)) == 2


def test_while_the_gates_are_closed_it_is_they_that_a_quiet_binding_waits_for(cold: OnDemand) -> None:
    cold.offload.drain(DPID, True, cold.now)
    cold.deliver()
    held = cold.offload.bindings.get(HOME_ADDRESS)
    assert held is not None
    reason = cold.router.standing.of(held, cold.now).reason
    assert (cold.state(), cold.counts()) == ("idle", {"idle": 1})
    assert reason is not None
    assert "drained" in reason.text


def test_of_several_routers_only_those_count_that_are_asked(cold: OnDemand) -> None:
    other = cold.connect(2, PORTS, [], [])
    cold.offload.acknowledge(2, cold.revision, *_word(cold), cold.now)
    cold.packet()
    cold.post(HOME_ADDRESSES[1], SECOND)
    cold.settle()
    assert not other.gates.are_open(HOME_AGENT, cold.now)
    assert (cold.state(), cold.counts()) == ("active", {"active": 1, "idle": 1})
    reason = explain(cold.offload, HOME_ADDRESS, cold.now).reason
    assert reason.startswith("1 of 2 prepared routers sends its packets straight to 2001:db8:2::2; on router 0")


def test_what_was_expected_before_the_agent_said_on_demand_is_waited_for_no_longer(cold: OnDemand) -> None:
    unconfirmed = cold.offload.activations.unconfirmed
    cold.offload.connections.disconnect(DPID, cold.now)
    cold.offload.acknowledge(DPID, 0, *_word(cold), cold.now, install=Install.EVERYTHING)
    assert list(unconfirmed) == [HOME_ADDRESS]
    cold.connect(DPID, PORTS, [], [])
    cold.offload.acknowledge(DPID, 0, *_word(cold), cold.now, install=Install.ON_DEMAND)
    cold.deliver()
    cold.make_meters()
    cold.offload.tick(cold.now)
    assert (list(unconfirmed), cold.counts()) == ([], {"idle": 1})


def test_nobody_waits_for_flows_that_have_gone_as_nothing_came(cold: OnDemand) -> None:
    unconfirmed = cold.offload.activations.unconfirmed
    cold.post(lifetime=2000, sequence=2)
    cold.packet()
    cold.settle()
    assert (cold.state(), list(unconfirmed)) == ("active", [])
    for _ in range(2):
        cold.read()
        cold.now += IDLE_AFTER
        cold.announce()
        cold.agent_starts()
    cold.snapshot(binding(lifetime=2000, sequence=2, now=cold.now))
    cold.settle()
    assert (cold.state(), list(unconfirmed)) == ("idle", []), "its flows have gone, and nobody waits for them"


def test_in_brief_a_binding_stands_on_the_routers_that_carry_it_or_have_counted_for_it(cold: OnDemand) -> None:
    def brief() -> tuple[str, dict[int, str]]:
        held = cold.offload.bindings.get(HOME_ADDRESS)
        assert held is not None
        state = cold.offload.states.in_brief(held, cold.now)
        return state.state, {dpid: each.state for dpid, each in state.routers.items()}

    cold.connect(2, PORTS, [], [])
    cold.offload.acknowledge(2, cold.revision, *_word(cold), cold.now)
    assert brief() == ("idle", {})
    cold.packet()
    cold.settle()
    assert (brief(), len(cold.offload.states.of(binding(), cold.now).routers)) == (("active", {DPID: "active"}), 2)
    key = keys_of(binding()).downlink
    cold.router.demand.drop(HOME_ADDRESS)
    cold.offload.switches.flow_removed(cold.router, key, Counters(7, 700), cold.now)
    cold.settle()
    assert brief() == ("idle", {DPID: "idle"}), "what it has counted is part of the totals"


def test_both_directions_of_what_cannot_be_offloaded_are_suppressed_once_each(cold: OnDemand) -> None:
    cold.offload.report(binding(HOME_ADDRESSES[1], SECOND, withheld="ipsec", now=cold.now), cold.now)
    suppressed = [cold.packet(HOME_ADDRESSES[1], path) for path in (None, ON_SECOND, None, ON_SECOND)]
    assert [flow is not None and flow.table for flow in suppressed] == ["downlink", "uplink", False, False]


@pytest.mark.parametrize("path", [ON_SECOND, Path(FIRST, HOME_AGENT, 4)], ids=["care-of address", "protocol"])
def test_packets_by_a_path_that_is_not_registered_are_told_of_once(cold: OnDemand, path: Path) -> None:
    assert cold.packet(path=ON_FIRST) is None
    assert cold.packet(path=path) is not None


def test_whoever_is_inside_a_registered_path_asks_for_its_flow_which_takes_all_of_them(cold: OnDemand) -> None:
    assert cold.packet(UNKNOWN, ON_FIRST) is None
    cold.deliver()
    assert cold.state() == "active"


def test_a_new_mobile_network_prefix_overrides_what_was_suppressed_in_it(cold: OnDemand) -> None:
    assert cold.packet(IN_NETWORK) is not None
    cold.post(NETWORK, SECOND)
    cold.settle()
    assert cold.state(NETWORK) == "active"


def test_a_scan_is_told_of_only_so_often_and_leaves_room_again(cold: OnDemand, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = [host(HOME_PREFIX.packed[:8] + number.to_bytes(8, "big")) for number in range(9999, 9999 + 2 * 3100)]
    suppressed = sum(cold.packet(each) is not None for each in scanned)
    assert suppressed == len(cold.router.demand.suppressions) == MOST_SUPPRESSED
    cold.now += SUPPRESSED_FOR
    monkeypatch.setattr(suppressions, "MOST_TOGETHER", MOST_SUPPRESSED - 1)
    assert cold.packet(UNKNOWN) is not None  # two have been forgotten for it
    assert cold.packet(HOME_ADDRESS) is None


def test_what_another_controller_writes_to_is_asked_for_nothing_here(cold: OnDemand) -> None:
    cold.packet()
    cold.packet(UNKNOWN)
    cold.deliver()
    cold.offload.connections.disconnect(DPID, cold.now)
    cold.offload.connections.stand_by(DPID, PORTS, None, cold.now)
    assert not list(cold.offload.routers.askers.asked)
    assert not len(cold.offload.routers.askers.suppressed)


def test_what_happens_to_a_binding_concerns_the_routers_alone_that_are_asked_for_it(cold: OnDemand) -> None:
    other = cold.connect(2, PORTS, [], [])
    cold.offload.acknowledge(2, cold.revision, *_word(cold), cold.now)
    cold.packet()
    cold.settle()
    for turn in (partial(cold.post, HOME_ADDRESS, SECOND, sequence=2), partial(cold.post, lifetime=0, sequence=3)):
        cold.offload.routers.touched.take_to_wake()
        turn()
        assert cold.offload.routers.touched.take_to_wake() == [DPID]
        cold.settle()
    assert not list(cold.offload.routers.askers.asked)
    cold.offload.packet_reports.ask(other, Request(HOME_ADDRESS, None), cold.now)
    cold.offload.routers.touched.take_to_wake()
    cold.post(sequence=4)
    assert 2 in cold.offload.routers.touched.take_to_wake(), "it has been told to tell nothing of the home address"


def test_what_was_counted_before_is_kept_while_a_binding_lives_and_no_longer(cold: OnDemand) -> None:
    cold.packet()
    cold.settle()
    gone = keys_of(binding(now=cold.now)).downlink
    cold.offload.switches.flow_removed(cold.router, gone, Counters(5, 500), cold.now)
    cold.router.demand.drop(HOME_ADDRESS)
    assert cold.router.retired(HOME_ADDRESS) == Counters(5, 500)
    cold.post(lifetime=0, sequence=2)
    cold.post(sequence=3)
    assert cold.router.retired(HOME_ADDRESS) == Counters(0, 0)


def test_those_behind_one_care_of_address_come_together_and_after_any_handover(cold: OnDemand) -> None:
    for number in range(MOST_URGENT + 1):
        cold.post(host(HOME_PREFIX.packed[:8] + (0x1000 + number).to_bytes(8, "big")), SECOND)
    cold.settle()
    cold.packet(host(HOME_PREFIX.packed[:8] + (0x1000).to_bytes(8, "big")))
    assert (cold.router.flows.has_urgent, cold.router.flows.has_bulk) == (False, True)
    cold.deliver()
    assert cold.counts() == {"active": MOST_URGENT + 1, "idle": 1}


def test_who_comes_where_a_former_controllers_uplink_flow_leads_loses_no_packets_by_it(cold: OnDemand) -> None:
    """Nobody asks for it there, and whoever had asked for the flow has moved while no controller was there."""
    cold.packet()
    cold.settle()
    uplink = keys_of(binding()).uplink
    assert uplink in cold.switch
    cold.start_controller()
    cold.announce()
    cold.post(HOME_ADDRESS, SECOND, sequence=2)
    cold.post(HOME_ADDRESSES[1], FIRST, sequence=1)
    cold.deliver()
    assert uplink not in cold.switch, "its packets go to the home agent in their tunnel, as before"
    cold.snapshot(binding(HOME_ADDRESS, SECOND, sequence=2), binding(HOME_ADDRESSES[1], FIRST, sequence=1))
    cold.settle()
    cold.make_meters()
    assert {cold.state(HOME_ADDRESS), cold.state(HOME_ADDRESSES[1])} == {"active"}


def test_without_its_meters_a_switch_tells_nothing_until_it_has_them_again(cold: OnDemand) -> None:
    meter = meter_of(HOME_PREFIX)
    cold.event_names()
    cold.offload.packet_reports.lost_meters(cold.router, [meter], cold.now)
    cold.deliver()
    assert [flow.table for flow in cold.flows(Kind.PACKET_IN)] == ["uplink"]
    assert cold.event_names() == ["meters-lost"]
    assert cold.router.gates.missing_meters() == [meter]
    cold.make_meters()
    assert len(cold.flows(Kind.PACKET_IN)) == 2
    assert cold.router.demand.meters == {meter, FIRST_METER}


def test_a_flow_that_counts_is_kept_and_one_that_does_not_goes(cold: OnDemand) -> None:
    busy, quiet = binding(now=cold.now), binding(HOME_ADDRESSES[1], SECOND, now=cold.now)
    cold.post(HOME_ADDRESSES[1], SECOND, lifetime=2000)
    cold.post(HOME_ADDRESS, FIRST, lifetime=2000, sequence=2)
    cold.settle()
    for each in (busy, quiet):
        cold.packet(each.home_address)
    cold.deliver()
    # After a handover the flows may have counted less than before.
    for packets in (9, 10, 3):
        cold.read([(busy, packets), (quiet, 5)])
        cold.now += IDLE_AFTER
        cold.announce()
        cold.agent_starts()
    assert cold.router.demand.wants(HOME_ADDRESS)
    assert not cold.router.demand.wants(HOME_ADDRESSES[1])


def test_the_install_mode_that_an_agent_announces_holds_at_once(cold: OnDemand) -> None:
    cold.offload.acknowledge(DPID, cold.revision, *_word(cold), cold.now, install=Install.EVERYTHING)
    cold.deliver()
    assert (cold.state(), cold.flows(Kind.PACKET_IN)) == ("active", [])
    cold.offload.acknowledge(DPID, cold.revision, *_word(cold), cold.now, install=Install.ON_DEMAND)
    cold.post(HOME_ADDRESSES[1], SECOND)
    cold.settle()
    assert (cold.state(), cold.state(HOME_ADDRESSES[1])) == ("active", "idle")


def _word(world: OnDemand) -> tuple[dict[bytes, EndpointName], FlowTunnels, dict[Prefix, str]]:
    """Return what the agent announces, that of which flows its router is to have aside."""
    return world.router.tunnels.endpoints, {}, {}


def test_what_meters_have_held_back_only_grows() -> None:
    drops = PacketInDrops()
    for counts in ({1: 5}, {1: 7, 2: 1}, {1: 3}):  # the last is of a meter that was made anew
        drops.observe(counts)
    assert drops.metered == 5 + 2 + 1 + 3


@pytest.fixture
def registrations() -> Registrations:
    return Registrations(first_revision=1, acknowledge_within=3.0, changes_a_second=10)


@pytest.fixture
def demand(registrations: Registrations) -> Demand:
    """Return what one router is asked for, without anything around it."""
    return Demand(DPID, registrations, Askers(), Install.ON_DEMAND, IDLE_AFTER)


def test_one_of_thousands_behind_a_care_of_address_is_looked_at_once_for_each(
    registrations: Registrations, demand: Demand, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = [Binding(Prefix(HOME_AGENT[:8] + n.to_bytes(8, "big"), 128), FIRST, HOME_AGENT) for n in range(MANY)]
    for each in bound:
        registrations.bindings.put(each)
    looked_at = 0
    beside = demand._beside

    def counting(home_address: Prefix, care_of_address: bytes) -> list[Prefix]:
        nonlocal looked_at
        found = list(beside(home_address, care_of_address))
        looked_at += len(found)
        return found

    monkeypatch.setattr(demand, "_beside", counting)
    assert set(demand.ask(bound[7].home_address)) == {each.home_address for each in bound}
    assert looked_at < 2 * MANY
    assert not demand.take_idle(0.0)
    looked_at = 0
    assert set(demand.take_idle(IDLE_AFTER)) == {each.home_address for each in bound}
    assert looked_at < 2 * MANY
