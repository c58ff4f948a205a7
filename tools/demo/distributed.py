# SPDX-License-Identifier: Apache-2.0
"""Move a mobile node between the sites of topology `dmm`, with a central home agent and with one at each site at once.

All is done twice: without and with hoaflow. `distributed_figures` computes the report from what is seen.
"""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from tools.demo import priority
from tools.demo.journey import DRAIN, MEASURED_STAY, NEVER, OUTAGE, SETTLE, STAY
from tools.demo.narration import Narrator
from tools.demo.sessions import DISTRIBUTED, Session, begin
from topologies import addresses as at
from topologies.deployment import EVENT_TIMEOUT
from topologies.dmm_deployment import SITES, DmmDeployment, home_address, site
from topologies.load import AnchorLoad
from topologies.path_trace import Path as TracedPath
from topologies.traffic import Span

RATE_SHARE = 5
"""There are six sessions: each has this part of the demo's rate."""
LEAD = 0.3
"""Seconds before a handover or death that belong to it: packets under way are lost with the link that they go to."""
LAST = SITES[-1]
VICTIM = SITES[0]
"""The site whose home agent dies."""


@dataclass
class Handover:
    """A move between sites, and the span of time whose losses count as the move's."""

    before: int
    after: int
    span: Span


@dataclass
class Passage:
    """What was seen in one of the two passes, all sessions being there and the mobile node at the last site.

    load: data packets that reached each anchor within `steady`. paths: of each session, in the order of sessions.
    """

    handovers: list[Handover] = field(default_factory=list)
    steady: Span = NEVER
    load: dict[str, int] = field(default_factory=dict)
    paths: list[TracedPath] = field(default_factory=list)
    outage: Span = NEVER


@dataclass
class Seen:
    """What the demo saw."""

    sessions: list[Session] = field(default_factory=list)
    without: Passage = field(default_factory=Passage)
    offloaded: Passage = field(default_factory=Passage)
    released: bool = False


class DistributedJourney:
    """Run the demo on a deployment whose testbed is up."""

    def __init__(
        self, deployment: DmmDeployment, narrator: Narrator, directory: Path, rate: float, slowdown: float
    ) -> None:
        """Prepare it; parameters as for `Journey`."""
        self.deployment, self.bed, self.narrator = deployment, deployment.bed, narrator
        self.directory, self.rate, self.slowdown = directory, rate / RATE_SHARE, slowdown
        self.seen = Seen()
        self.present = SITES[0]

    def run(self) -> Seen:
        """Run the whole demo. Raises ProcessError, requests.RequestException."""
        self.narrator.say("starting four home agents and the mobile node")
        priority.give(self.bed.devices, priority.NETWORK)
        self.deployment.start_anchor(self.directory / "home-agent.journal")
        self.node = self.deployment.start_mobile_node()[0]
        self._prioritize("home-agent", "mobile-node")
        self.loads = {"ha": AnchorLoad(self.bed)} | {f"ha{number}": self.deployment.load(number) for number in SITES}
        for number in SITES:
            self._arrive(number)
            self.narrator.say(f"two sessions with cn{number} begin: one by each architecture")
            begun = begin(self.deployment, self.directory, number, self.rate, DRAIN * self.slowdown)
            self.seen.sessions += begun
            priority.give([end for session in begun for end in session.traffic.ends], priority.NETWORK)
            self._pause(STAY)
        self._pass(self.seen.without)
        self.narrator.say("starting hoaflow")
        with priority.given_to_started(self.bed.programs, priority.HOAFLOW):
            self.deployment.start_offload(self.narrator.say)
        self._pause(STAY)
        self._pass(self.seen.offloaded)
        self._end()
        return self.seen

    def _pass(self, passage: Passage) -> None:
        for target in (SITES[-2], LAST):
            before, left = self.present, self._arrive(target)
            self._pause(STAY)
            passage.handovers.append(Handover(before, target, Span(left - LEAD * self.slowdown, time.time())))
        self._measure(passage)
        self._kill(passage)

    def _arrive(self, target: int) -> float:
        """Move to a site, and wait until every home agent that has to know of it has said so. Returns when it left."""
        mark = self.node.mark()
        with priority.raised(priority.NETWORK):
            left = self.deployment.attach(target)
        self.present = target
        moved = json.loads(self.node.wait_for(rf'"event": "moved".*"mn-f{target}"', EVENT_TIMEOUT, mark).string)
        for session in self.seen.sessions:
            if session.away(target):
                self._await("registered", session.home_address, mark)
        self._await("registered", at.HOME_ADDRESS, mark)
        new = f"home address {moved['home_address']} of ha{target}" if "home_address" in moved else "no home address"
        self.narrator.say(f"mobile node at site {target}: {new} for new sessions")
        return left

    def _await(self, event: str, home: str, after: int) -> None:
        self.node.wait_for(rf'"event": "{event}".*"home_address": "{re.escape(home)}"', EVENT_TIMEOUT, after)

    def _measure(self, passage: Passage) -> None:
        """Trace each session, then count data packets at each anchor while nothing moves."""
        for session in self.seen.sessions:
            path = session.path()
            passage.paths.append(path)
            self.narrator.say(f"{session.name}: {path}")
        self._pause(SETTLE)
        with priority.raised(priority.NETWORK):
            start, before = time.time(), self._packets()
            self._pause(MEASURED_STAY)
            passage.load = {anchor: count - before[anchor] for anchor, count in self._packets().items()}
            passage.steady = Span(start, time.time())

    def _packets(self) -> dict[str, int]:
        return {anchor: load.packets() for anchor, load in self.loads.items()}

    def _kill(self, passage: Passage) -> None:
        """Kill one anchor of each architecture, cut it off, and bring it back."""
        self.narrator.say(f"killing the central home agent and ha{VICTIM} (kill -9), and cutting their links")
        start = time.time()
        where = site(VICTIM)
        self.bed.kill(self.deployment.anchor_program)
        self.bed.kill(where.program)
        self.deployment.set_anchor_link(up=False)
        self.bed.set_link(where.node, where.home_link, up=False)
        self._pause(OUTAGE)
        passage.outage = Span(start - LEAD * self.slowdown, time.time())
        self.narrator.say("bringing both back")
        self.deployment.set_anchor_link(up=True)
        self.deployment.bring_back(VICTIM)
        starts = self.deployment.programs(self.directory)
        for name in (self.deployment.anchor_program, where.program):
            starts[name]()
        self._prioritize("home-agent")
        self._pause(STAY)

    def _end(self) -> None:
        """End the session of the first site, see that its home address is let go, then end all others."""
        first = next(each for each in self.seen.sessions if (each.site, each.architecture) == (VICTIM, DISTRIBUTED))
        mark = self.node.mark()
        first.stop()
        self.narrator.say(f"the session {first.name} has ended")
        self._await("home-address-released", home_address(VICTIM), mark)
        self.seen.released = True
        self.narrator.say(f"the mobile node has deregistered {first.home_address} and let go of it")
        for session in self.seen.sessions:
            if session is not first:
                session.stop()

    def _prioritize(self, *names: str) -> None:
        running = [process for name, process in self.bed.programs.items() if name.startswith(names)]
        priority.give(running, priority.NETWORK)

    def _pause(self, seconds: float) -> None:
        time.sleep(self.slowdown * seconds)
