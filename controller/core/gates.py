# SPDX-License-Identifier: Apache-2.0
"""Open, renew and close the gates of one router: the dead-man's switch.

A gate sends a home prefix's packets into the offload tables. It ends in the switch by itself with the home agent's
lease, and is renewed while all is well.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from controller.core import pipeline, reasons
from controller.core.backends import Backend
from controller.core.demand import Demand
from controller.core.desired import DesiredFlows
from controller.core.flow_sets import gates_of, guards_of, meters_of, packet_ins_of
from controller.core.flows import Flow, FlowKey, Match
from controller.core.home_agents import HomeAgent, HomeAgents
from controller.core.reasons import Reason
from controller.core.reconciliation import Reconciliation
from controller.core.tunnels import Tunnels


class OpenGate(NamedTuple):
    """A gate that stands on a switch, its home agent, and when it ends unless it is renewed."""

    home_agent: bytes
    flow: Flow
    expires_at: float | None


class _Open(NamedTuple):
    """Since when all gates of a home agent have stood, and until when they do unless they are renewed."""

    since: float
    until: float


class _Renewal(NamedTuple):
    """A renewal of a lease: until when gates may stand by it, once all is done that was reported before this mark."""

    until: float
    mark: int


class Review(NamedTuple):
    """Home agents for which a review has asked for new gates, and those all of whose gates now stand, first so."""

    opening: list[bytes]
    opened: list[bytes]


class Gates:
    """Requires guards for every home agent, and gates for those whose traffic may be offloaded here."""

    def __init__(
        self,
        dpid: int,
        home_agents: HomeAgents,
        tunnels: Tunnels,
        desired: DesiredFlows,
        flows: Reconciliation,
        demand: Demand,
        now: float,
    ) -> None:
        self._dpid = dpid
        self._home_agents = home_agents
        self._tunnels = tunnels
        self._desired = desired
        self._flows = flows
        self._demand = demand
        # The guards and gates that each home agent needs, and how many home agents need each: they share some guards.
        self._needs: dict[bytes, dict[FlowKey, None]] = {}
        self._users: Counter[FlowKey] = Counter()
        self._created_at = now
        # Whether an operator has taken the router out of service. None: the switch, which knows, has not been read yet.
        self._draining: bool | None = None
        self._draining_since = now
        self._open: dict[bytes, _Open] = {}
        # By home agent: until when its gates may stand by what the switch has, and the renewal that waits for more.
        self._installed_until: dict[bytes, float] = {}
        self._renewing: dict[bytes, _Renewal] = {}
        self._lacking: set[int] = set()  # meters that the switch did not have at the last review

    @property
    def draining(self) -> bool:
        """Whether an operator has taken the router out of service, so that no gate opens."""
        return bool(self._draining)

    def drain(self, draining: bool, now: float) -> bool:
        """Take the router out of service or put it back; tell whether that is news. ``review`` has to follow.

        All flows but the gates stay, so that packets in tunnels still arrive. A marker in the switch keeps the fact, as
        the controller writes nothing to disk.
        """
        news = draining is not self.draining
        if news or self._draining is None:
            self._draining = draining
            self._draining_since = now
            marker = pipeline.drain_marker()
            if draining:
                self._flows.require(marker)
            else:
                self._flows.release(marker.key)
        return news

    def recall(self, now: float) -> None:
        """Take over from the switch whether the router is drained, unless an operator has said since the start."""
        if self._draining is None:
            self.drain(pipeline.drain_marker().key in self._flows.installed, now)

    def forget_drain(self) -> None:
        """Forget whether the router is drained: another controller writes to the switch and may change that."""
        self._draining = None

    def drain_confirmed(self, now: float) -> bool:
        """Tell whether the switch has carried out the last ``drain``."""
        marked = pipeline.drain_marker().key in self._flows.installed
        return marked == self.draining and not (self.draining and self._flows.installed.gates(now))

    def review(self, now: float, home_agents: Iterable[HomeAgent] | None = None) -> Review:
        """Require the guards and gates that may stand now, and no others, for some home agents or for all (None)."""
        reviewed = Review([], [])
        for home_agent in self._home_agents if home_agents is None else self._with_sharing(home_agents):
            self._review_one(home_agent, now, reviewed)
        if home_agents is None:
            for address in [address for address in self._needs if self._home_agents.get(address) is None]:
                self._desire(address, {})
                self._open.pop(address, None)
        return reviewed

    def _with_sharing(self, home_agents: Iterable[HomeAgent]) -> list[HomeAgent]:
        """Return home agents with those of their groups: gates that they have in common lead to all their bindings."""
        found = {each.address: each for each in home_agents}
        for home_agent in list(found.values()):
            if home_agent.group is not None:
                found |= {each.address: each for each in self._home_agents.sharing(home_agent)}
        return list(found.values())

    def _review_one(self, home_agent: HomeAgent, now: float, reviewed: Review) -> None:
        before, wanted = self._needs.get(home_agent.address, {}), dict[FlowKey, None]()
        backend = self._backend_for(home_agent)
        for flow in guards_of(home_agent, backend):
            self._flows.require(flow)
            wanted[flow.key] = None
        if self._demand.on and backend is not None:
            for flow, meter in zip(packet_ins_of(home_agent, backend), meters_of(home_agent), strict=True):
                if meter in self._demand.meters:
                    self._lacking.discard(meter)
                    self._flows.require(flow)
                    wanted[flow.key] = None
                else:
                    self._lacking.add(meter)
        if not self._are_active(guards_of(home_agent, backend), now):
            self._flows.recheck_adopted()  # adopted gates may have to go
        gates = gates_of(home_agent, self._tunnels.macs, backend)
        if self._why_none(home_agent, now) is None:
            until = self._all_may_stand_until(home_agent, now)
            for gate in gates:
                if until is not None and self._why_waits(gate, now) is None:
                    self._flows.require(gate, until)
                    wanted[gate.key] = None
            if any(gate.key in wanted and gate.key not in before for gate in gates):
                reviewed.opening.append(home_agent.address)
                self._flows.recheck_adopted()  # nothing stale may be there when it opens
        self._desire(home_agent.address, wanted)
        known = self._open.pop(home_agent.address, None)
        if self.why_closed(home_agent, now) is None:
            if known is None or known.until <= now:
                known = _Open(now, now)
                reviewed.opened.append(home_agent.address)
            until = min(self._flows.installed.ends(gate.key, now) for gate in gates)
            self._open[home_agent.address] = known._replace(until=until)

    def _desire(self, home_agent: bytes, wanted: dict[FlowKey, None]) -> None:
        """Record the flows that a home agent needs, and release those that none needs any more."""
        before = self._needs.pop(home_agent, {})
        if wanted:
            self._needs[home_agent] = wanted
        self._users.update(key for key in wanted if key not in before)
        for key in before:
            if key in wanted:
                continue
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self._flows.release(key)

    def missing_meters(self) -> list[int]:
        """Return the numbers of the meters that an on-demand router's switch lacks for what it is to tell."""
        return sorted(self._lacking - self._demand.meters) if self._demand.on else []

    def disconnect(self) -> None:
        """Forget which gates stand: the switch's connection is gone."""
        for memory in (self._open, self._installed_until, self._renewing, self._lacking):
            memory.clear()

    def renewable(self) -> list[HomeAgent]:
        """Return the home agents whose gates may be renewed now, as the switch has what was reported before."""
        done = [each for each, renewal in self._renewing.items() if self._flows.is_done(renewal.mark, each)]
        return [found for found in map(self._home_agents.get, done) if found is not None]

    def _all_may_stand_until(self, home_agent: HomeAgent, now: float) -> float | None:
        """Return until when gates that lead to a group's bindings may stand, None if they may not."""
        ends = [self._may_stand_until(each, now) for each in (home_agent, *self._desired.sharing(home_agent))]
        known = [each for each in ends if each is not None]
        return min(known) if len(known) == len(ends) else None

    def _may_stand_until(self, home_agent: HomeAgent, now: float) -> float | None:
        """Return until when gates of a home agent may stand, None if they may not.

        That is the end of the last lease for which all is here that the bridge had seen: reported, and installed in the
        switch or refused by it.
        """
        address, reported = home_agent.address, home_agent.reported_until
        if home_agent.last_change is None:
            return home_agent.lease_ends
        while address in self._renewing or reported > self._installed_until.get(address, now):
            if address not in self._renewing:
                self._renewing[address] = _Renewal(reported, self._flows.mark())
            if not self._flows.is_done(self._renewing[address].mark, address):
                break
            self._installed_until[address] = self._renewing.pop(address).until
        until = min(reported, self._installed_until.get(address, now))
        return until if until > now else None

    def are_open(self, home_agent: bytes, now: float) -> bool:
        """Tell whether all gates of a home agent stood at the last review, and have not ended since."""
        known = self._open.get(home_agent)
        return known is not None and now < known.until and self._tunnels.agent_alive(now)

    def open_since(self, home_agent: bytes) -> float | None:
        """Return since when all gates of a home agent have stood, None if they did not at the last review."""
        known = self._open.get(home_agent)
        return None if known is None else known.since

    def open(self, home_agent: HomeAgent, now: float) -> list[OpenGate]:
        """Return a home agent's standing gates; of several that differ only in the frames they match, the first."""
        found: dict[Match, OpenGate] = {}
        for gate in gates_of(home_agent, self._tunnels.macs):
            entry = self._flows.installed.entry(gate.key, now)
            if entry is not None:
                packets = tuple((name, value) for name, value in gate.match if name not in ("eth_dst", "eth_src"))
                found.setdefault(packets, OpenGate(home_agent.address, entry.flow, entry.expires_at))
        return list(found.values())

    def why_closed(self, home_agent: HomeAgent, now: float) -> Reason | None:
        """Say why not all gates of a home agent stand, None if they do."""
        found = self._why_none(home_agent, now)
        if found is not None:
            return found
        for gate in gates_of(home_agent, self._tunnels.macs):
            if (found := self._why_waits(gate, now)) is not None:
                return found
            if (refusal := self._flows.refused.get(gate.key)) is not None:
                return reasons.gate_refused(refusal.reason, refusal.since)
            if self._flows.installed.is_foreign(gate.key):
                return reasons.foreign_flow()
            if not self._flows.is_active(gate.key, now):
                if home_agent.address in self._renewing:
                    return reasons.reports_unconfirmed()
                if self._flows.is_opening(gate.key):
                    return reasons.flows_awaited()
                overdue = self._flows.withdrawals.overdue(gate.key, now)
                return reasons.withdrawal_overdue(len(overdue)) if overdue else reasons.gate_unconfirmed()
        return None

    def _backend_for(self, home_agent: HomeAgent) -> Backend | None:
        backend = self._desired.backend(home_agent.address)
        return None if isinstance(backend, Reason) else backend

    def _why_none(self, home_agent: HomeAgent, now: float) -> Reason | None:
        """Say what blocks every gate of a home agent, None if nothing does."""
        for each in self._desired.sharing(home_agent):
            if (why := each.why_not_offloaded(now)) is not None:
                return why
        if self.draining:
            return reasons.draining(self._dpid, self._draining_since)
        why = home_agent.why_not_offloaded(now)
        if why is not None:
            return why
        if not self._tunnels.agent_alive(now):
            silent_since = self._tunnels.agent_lease_ends
            if silent_since is None:
                return reasons.agent_unseen(self._created_at)
            return reasons.agent_silent(silent_since)
        backend = self._desired.backend(home_agent.address)
        if isinstance(backend, Reason):
            return backend
        if self._tunnels.macs == ():
            return reasons.no_mac()
        # Guards come first: they keep on the home agent's path what must stay there.
        if not self._are_active(guards_of(home_agent, backend), now):
            return reasons.guards_unconfirmed()
        return None

    def _are_active(self, flows: Iterable[Flow], now: float) -> bool:
        return all(self._flows.is_active(flow.key, now) for flow in flows)

    def _why_waits(self, gate: Flow, now: float) -> Reason | None:
        """Say what one gate has to wait for, None for nothing."""
        # A gate that stands may stay while a tunnel changes. None opens onto a tunnel that may be a former one.
        if self._tunnels.in_doubt(now) and self._flows.installed.standing(gate.key, now) is None:
            return reasons.tunnels_awaited()
        return None
