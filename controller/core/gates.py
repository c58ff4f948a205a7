# SPDX-License-Identifier: Apache-2.0
"""The gates of one router: the dead-man's switch, and what may open it.

A gate sends a home prefix's packets into the offload tables. It ends by itself in the switch with the home agent's
lease; while all is well it is renewed.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from controller.core import pipeline, reasons
from controller.core.backends import Backend
from controller.core.desired import DesiredFlows
from controller.core.flow_sets import gates_of, guards_of
from controller.core.flows import Flow, FlowKey, Match
from controller.core.home_agents import HomeAgent, HomeAgents
from controller.core.reasons import Reason
from controller.core.reconciliation import Reconciliation
from controller.core.tunnels import Tunnels


class OpenGate(NamedTuple):
    """A gate that stands on a switch: whose it is, and when it ends if it is not renewed."""

    home_agent: bytes
    flow: Flow
    expires_at: float | None


class _Open(NamedTuple):
    """All gates of a home agent stand: since when, and until when if none is renewed."""

    since: float
    until: float


class Review(NamedTuple):
    """What a review found, by home agent: those whose gates were asked for, and those whose gates all stand now."""

    opening: list[bytes]
    opened: list[bytes]


class Gates:
    """Desires guards for every home agent, and gates for those whose traffic may be taken off here."""

    def __init__(
        self,
        dpid: int,
        home_agents: HomeAgents,
        tunnels: Tunnels,
        desired: DesiredFlows,
        flows: Reconciliation,
        now: float,
    ) -> None:
        self._dpid = dpid
        self._home_agents = home_agents
        self._tunnels = tunnels
        self._desired = desired
        self._flows = flows
        # The guards and gates of each home agent, and how many need each: some guards are there for several.
        self._needs: dict[bytes, dict[FlowKey, None]] = {}
        self._users: Counter[FlowKey] = Counter()
        self._created_at = now
        # Whether an operator has taken the router out of service; None: its switch, which knows, has not been read yet.
        self._draining: bool | None = None
        self._draining_since = now
        self._open: dict[bytes, _Open] = {}

    @property
    def draining(self) -> bool:
        """Whether an operator has taken the router out of service: no gate opens."""
        return bool(self._draining)

    def drain(self, draining: bool, now: float) -> bool:
        """Take the router out of service or back into it; tell whether that is news. ``review`` has to follow.

        All flows but the gates stay, so that packets in tunnels still arrive. A marker in the switch remembers it, for
        the controller keeps nothing on disk.
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
        """Take the switch's word on whether the router is drained, if nobody has said so since the controller runs."""
        if self._draining is None:
            self.drain(pipeline.drain_marker().key in self._flows.installed, now)

    def drain_confirmed(self, now: float) -> bool:
        """Tell whether the switch has carried out what ``drain`` said last."""
        marked = pipeline.drain_marker().key in self._flows.installed
        return marked == self.draining and not (self.draining and self._flows.installed.gates(now))

    def review(self, now: float, home_agents: Iterable[HomeAgent] | None = None) -> Review:
        """Bring desired guards and gates in line with what is, for some home agents or for all (None)."""
        reviewed = Review([], [])
        for home_agent in self._home_agents if home_agents is None else home_agents:
            self._review_one(home_agent, now, reviewed)
        if home_agents is None:
            for address in [address for address in self._needs if self._home_agents.get(address) is None]:
                self._desire(address, {})
                self._open.pop(address, None)
        return reviewed

    def _review_one(self, home_agent: HomeAgent, now: float, reviewed: Review) -> None:
        before, wanted = self._needs.get(home_agent.address, {}), dict[FlowKey, None]()
        backend = self._backend_for(home_agent)
        for flow in guards_of(home_agent, backend):
            self._flows.require(flow)
            wanted[flow.key] = None
        if not self._are_active(guards_of(home_agent, backend), now):
            self._flows.recheck_adopted()  # gates of an earlier life may have to go
        gates = gates_of(home_agent, self._tunnels.macs, backend)
        if self._why_none(home_agent, now) is None:
            for gate in gates:
                if self._why_waits(gate, now) is None:
                    self._flows.require(gate, home_agent.lease_ends)
                    wanted[gate.key] = None
            if any(gate.key in wanted and gate.key not in before for gate in gates):
                reviewed.opening.append(home_agent.address)
                self._flows.recheck_adopted()  # nothing stale of an earlier life may be there when it opens
        self._desire(home_agent.address, wanted)
        known = self._open.pop(home_agent.address, None)
        if self.why_closed(home_agent, now) is None:
            if known is None or known.until <= now:
                known = _Open(now, now)
                reviewed.opened.append(home_agent.address)
            until = min(self._flows.installed.ends(gate.key, now) for gate in gates)
            self._open[home_agent.address] = known._replace(until=until)

    def _desire(self, home_agent: bytes, wanted: dict[FlowKey, None]) -> None:
        """Take down what a home agent needs, and give up what nobody does any more."""
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

    def disconnect(self) -> None:
        """The switch's connection is gone, and with it what was known of its gates."""
        self._open.clear()

    def are_open(self, home_agent: bytes, now: float) -> bool:
        """Tell whether all gates of a home agent stand and may stay, as of the last review."""
        known = self._open.get(home_agent)
        return known is not None and now < known.until and self._tunnels.agent_alive(now)

    def open_since(self, home_agent: bytes) -> float | None:
        """Return since when all gates of a home agent have stood, None if they do not."""
        known = self._open.get(home_agent)
        return None if known is None else known.since

    def open(self, home_agent: HomeAgent, now: float) -> list[OpenGate]:
        """Return the gates of ``home_agent`` that stand on the switch: one for all kinds of frames that it takes."""
        found: dict[Match, OpenGate] = {}
        for gate in gates_of(home_agent, self._tunnels.macs):
            entry = self._flows.installed.entry(gate.key, now)
            if entry is not None:
                packets = tuple((name, value) for name, value in gate.match if name not in ("eth_dst", "eth_src"))
                found.setdefault(packets, OpenGate(home_agent.address, entry.flow, entry.expires_at))
        return list(found.values())

    def why_closed(self, home_agent: HomeAgent, now: float) -> Reason | None:
        """Say why not all gates of ``home_agent`` stand, None if they do."""
        found = self._why_none(home_agent, now)
        if found is not None:
            return found
        for gate in gates_of(home_agent, self._tunnels.macs):
            if (found := self._why_waits(gate, now)) is not None:
                return found
            if (rejection := self._flows.rejections.get(gate.key)) is not None:
                return reasons.gate_refused(rejection.reason, rejection.since)
            if self._flows.installed.is_foreign(gate.key):
                return reasons.foreign_flow()
            if not self._flows.is_active(gate.key, now):
                return reasons.flows_awaited() if self._flows.is_opening(gate.key) else reasons.gate_unconfirmed()
        return None

    def _backend_for(self, home_agent: HomeAgent) -> Backend | None:
        backend = self._desired.backend(home_agent.address)
        return None if isinstance(backend, Reason) else backend

    def _why_none(self, home_agent: HomeAgent, now: float) -> Reason | None:
        """Say what forbids any gate of ``home_agent``."""
        if self.draining:
            return reasons.draining(self._dpid, self._draining_since)
        held = home_agent.why_not_offloaded(now)
        if held is not None:
            return held
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
        # What must stay on the home agent's path is kept there before anything is taken off it.
        if not self._are_active(guards_of(home_agent, backend), now):
            return reasons.guards_unconfirmed()
        return None

    def _are_active(self, flows: Iterable[Flow], now: float) -> bool:
        return all(self._flows.is_active(flow.key, now) for flow in flows)

    def _why_waits(self, gate: Flow, now: float) -> Reason | None:
        """Say what one gate has to wait for."""
        # One that stands may stay while a tunnel changes; none opens onto a tunnel that may be a former one.
        if self._tunnels.in_doubt(now) and self._flows.installed.standing(gate.key, now) is None:
            return reasons.tunnels_awaited()
        return None
