# SPDX-License-Identifier: Apache-2.0
"""A run with an on-demand router: packets come to it, meters are made or refused, and what is quiet goes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller.core.demand import Install
from controller.core.flow_keys import home_end
from controller.core.flow_sets import keys_of
from controller.core.flows import Kind
from controller.core.suppressions import Request
from hoaflow.addresses import parse_prefix
from tests.support.core_run import DPID, HOME_ADDRESSES, PORTS, TIMING, Run

# Two that have no binding, and one in a home address that is a prefix.
ELSEWHERE = [parse_prefix(text) for text in ("2001:db8:99::999", "10.1.0.200", "2001:db8:aa:1::77")]


class DemandRun(Run):
    """Checks besides that the router has the flows of those home addresses only that it was asked for."""

    TIMING = replace(TIMING, idle_after=2.0)
    INSTALL = Install.ON_DEMAND

    def __init__(self, seed: int, flow_backend: bool) -> None:
        self.given_up = self.carried = 0
        super().__init__(seed, flow_backend)

    def packet(self) -> None:
        """Let a packet come, which is told if no flow takes it."""
        home_address = self.chance.choice([*HOME_ADDRESSES, *ELSEWHERE])
        taken = [entry.flow.serves for entry in self.switch.kinds(Kind.DOWNLINK)]
        if not any(each is not None and each.contains(home_address) for each in taken):
            self.offload.packet_reports.ask(self.router, Request(home_address, None), self.now)

    def meter(self) -> None:
        """Make the meters that are missing; seldom, the switch has none."""
        for meter in self.router.gates.missing_meters():
            if self.chance.random() < 0.02:
                self.offload.packet_reports.refuse(self.router, "no meters", self.now)
            else:
                self.offload.packet_reports.have_meters(self.router, [meter], self.now)

    def read(self) -> None:
        if self.switch.coming or self.switch.says:
            return
        reading, demand = self.offload.switches.begin_reading(DPID, self.now), self.router.demand
        for entry in self.switch.flows.values():
            demand.count(entry.flow.key, self.chance.choice((0, 0, 0, 100)))
            reading.add(entry)
        before = len(demand)
        self.offload.switches.connect(DPID, PORTS, self.now)
        self.given_up += len(demand) < before

    def look(self) -> None:
        """Let everything on its way arrive, and read the switch."""
        while self.switch.coming or self.switch.says:
            self.work()
            self.hear()
        self.read()

    def check_rest(self) -> None:
        super().check_rest()
        demand = self.router.demand
        home_agents = list(self.offload.home_agents)
        if not (demand.on and home_agents and all(each.synced for each in home_agents)):
            return
        tunnels = self.router.tunnels
        if tunnels.expected_until is not None:
            return
        if not tunnels.is_flow and tunnels.desired.is_awaited(self.home_agent, tunnels.acknowledged, self.now):
            return  # what was there before stays as long
        asked = {key for each in self.offload.bindings if demand.wants(each.home_address) for key in keys_of(each)}
        for entry in (*self.switch.kinds(Kind.DOWNLINK), *self.switch.kinds(Kind.VERIFY)):
            home_address = home_end(entry.flow.key)
            assert home_address is not None
            assert demand.wants(home_address), f"{home_address} has flows that nobody has asked for"
            self.carried += entry.flow.key in asked
        for home_address in demand:
            assert DPID in self.offload.routers.askers.asked.of(home_address), "an update would pass the router by"
        for each in self.offload.bindings:
            beside = [other for other in self.offload.bindings if other.care_of_address == each.care_of_address]
            assert len({demand.wants(other.home_address) for other in beside}) == 1, "asked for on a path in part"

    STEPS: tuple[tuple[Callable[[Any], None], int], ...] = (*Run.STEPS, (packet, 12), (meter, 8), (look, 6))
