# SPDX-License-Identifier: Apache-2.0
"""The controller's logic as a whole, with everything that may come in, in any order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.core.explanation import explain
from controller.core.flows import Kind
from controller.core.home_agents import Status
from hoaflow.addresses import Prefix, format_address
from tests.support.world import (
    CARE_OF_ADDRESSES,
    DPID,
    HOME_ADDRESSES,
    HOME_AGENT,
    LEASE,
    SECOND,
    World,
    binding,
)


class Anything(RuleBasedStateMachine):
    """Whatever happens in whatever order: nothing outlives its bounds, and what is `active` is so."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.sequence = 0
        self.drained = False

    @rule(status=st.sampled_from(Status))
    def announce(self, status: Status) -> None:
        self.world.announce(status)

    @rule(where=st.lists(st.one_of(st.none(), st.sampled_from(CARE_OF_ADDRESSES)), min_size=3, max_size=3))
    def snapshot(self, where: list[bytes | None]) -> None:
        now = self.world.now
        if self.world.offload.home_agents.get(HOME_AGENT):
            self.world.snapshot(
                *(binding(h, c, now=now) for h, c in zip(HOME_ADDRESSES, where, strict=True) if c is not None)
            )

    @rule(
        home_address=st.sampled_from(HOME_ADDRESSES),
        care_of_address=st.sampled_from(CARE_OF_ADDRESSES),
        lifetime=st.sampled_from([0, 4, 60, 600]),
    )
    def post(self, home_address: Prefix, care_of_address: bytes, lifetime: int) -> None:
        self.sequence += 1
        if self.world.offload.home_agents.get(HOME_AGENT):
            self.world.post(home_address, care_of_address, lifetime, self.sequence)

    @rule()
    def agent_starts(self) -> None:
        self.world.agent_starts()

    @rule()
    def agent_follows(self) -> None:
        if self.world.offload.router(DPID).tunnels.endpoints:
            self.world.agent_follows()

    @rule()
    def deliver(self) -> None:
        self.world.deliver()

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(drained=st.booleans())
    def drain(self, drained: bool) -> None:
        self.world.offload.drain(DPID, drained, self.world.now)
        self.world.deliver()
        self.drained = drained

    @rule()
    def restart_controller(self) -> None:
        self.world.start_controller()

    @invariant()
    def gates_end_with_the_lease(self) -> None:
        for entry in self.world.switch.values():
            if entry.flow.kind is Kind.GATE:
                assert entry.expires_at is not None
                assert entry.expires_at <= self.world.now + LEASE + 0.11

    @invariant()
    def a_drained_router_has_no_gates_and_does_not_forget(self) -> None:
        router = self.world.offload.router(DPID)
        assert router.gates.draining == self.drained
        if self.drained:
            assert not any(entry.flow.kind is Kind.GATE for entry in self.world.switch.values())

    @invariant()
    def every_path_has_its_reason(self) -> None:
        world = self.world
        home_agent = world.offload.home_agents.get(HOME_AGENT)
        for home_address in HOME_ADDRESSES if home_agent else ():
            found = explain(world.offload, home_address, world.now)
            assert found.reason
            assert found.would_change
            assert found.since is None or found.since <= world.now
            assert (found.path == "direct") == (world.state(home_address) == "active")
            heard = home_agent is not None and home_agent.may_offload(world.now)
            assert (found.path == "home") == (heard and world.state(home_address) == "none")

    @invariant()
    def active_is_direct(self) -> None:
        for home_address in HOME_ADDRESSES:
            held = self.world.offload.bindings.get(home_address)
            if held is not None and self.world.state(home_address) == "active":
                assert self.world.next_hop(home_address) == format_address(held.care_of_address)

    @invariant()
    def flows_end_with_their_bindings(self) -> None:
        """Once the switch has been told, and the home agent has said what it holds."""
        offload = self.world.offload
        home_agent = offload.home_agents.get(HOME_AGENT)
        if offload.router(DPID).flows.settled and home_agent is not None and home_agent.may_offload(self.world.now):
            for home_address in (flow.serves for flow in self.world.flows(Kind.DOWNLINK)):
                assert home_address is not None
                if self.world.next_hop(home_address) != "home agent":
                    assert offload.bindings.get(home_address) is not None

    def teardown(self) -> None:
        """In the end everything comes right: one more announcement, snapshot and acknowledgement, and all is direct."""
        world = self.world
        world.offload.drain(DPID, False, world.now)
        world.announce()
        world.agent_starts()
        world.snapshot(*(binding(home_address, SECOND, now=world.now) for home_address in HOME_ADDRESSES))
        world.agent_follows()
        world.deliver()
        for home_address in HOME_ADDRESSES:
            assert world.next_hop(home_address) == "2001:db8:3::2"
            assert world.state(home_address) == "active"
        world.sent = 0
        world.deliver()
        assert world.sent == 0


Anything.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestAnything = Anything.TestCase
