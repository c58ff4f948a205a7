# SPDX-License-Identifier: Apache-2.0
"""Move the mobile node through the demo, without and with hoaflow, and interfere with it on the way."""

import math
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tools.demo import priority
from tools.demo.monitor import LoadSample, Monitor
from tools.demo.narration import Narrator
from topologies.deployment import EVENT_TIMEOUT, HOME, Backend, Deployment, event_time
from topologies.load import AnchorLoad
from topologies.processes import Process
from topologies.traffic import Records, Span, Traffic, lost

# Back and forth between the foreign links, so that what a handover costs does not hang on one chance figure.
JOURNEY: tuple[str | int, ...] = (1, 2, 1, 2, 1, 2, 1, 2, 1, 2, HOME)
# Seconds, of a machine that need not be slowed down.
MEASURED_STAY = 4.0  # on a link, the last foreign one, over which the home agent's load is counted
STAY = 1.5  # on the others: until all that the handover disturbed is over
SETTLE = 0.5  # after a change, until packets sent before it are no longer under way
DRAIN = 1.0  # in the end: longer than any packet is under way
MONITORED = 0.5  # between looks at how the traffic fares
OUTAGE = 12.0  # of the home agent; longer than the bridge's lease, and shorter than the lifetime of bindings
SPOOFED_EACH = 50
CONTROLS = 10
SPOOF = Path(__file__).parents[2] / "topologies/spoof.py"
WRONG_OUTER, WRONG_INNER, CONTROL = "wrong-outer-source", "wrong-inner-source", "control"


NEVER, ALWAYS = Span(0, 0), Span(0, math.inf)


@dataclass(frozen=True)
class Move:
    """Record a move of the mobile node to a link; times are in seconds since the epoch."""

    link: str | int
    offload: bool
    left: float
    acknowledged: float
    confirmed: float | None  # when the controller had the flows for it confirmed, or withdrawn; None without it

    @property
    def name(self) -> str:
        """Return `home`, or `link N` for foreign link N."""
        return "home" if self.link == HOME else f"link {self.link}"


@dataclass
class Observations:
    """Collect what the demo observes; `figures` computes the report from it.

    slowdown: how many times as long as on a fast machine the core's delay, pauses and the time between packets were.
    anchor: "home agent", or what else the traffic goes by without hoaflow. `ha` in names stands for it.
    unsent_is_lost: whether packets count as lost that the mobile node could not send.
    """

    slowdown: float = 1.0
    anchor: str = "home agent"
    unsent_is_lost: bool = True
    starting: Span = NEVER  # hoaflow is started → it is ready
    backends: dict[str, Backend] = field(default_factory=dict)  # of each router
    moves: list[Move] = field(default_factory=list)
    load: list[LoadSample] = field(default_factory=list)
    via_ha: Span = NEVER  # steady, away from home, everything through the home agent
    direct: Span = NEVER  # the same with hoaflow
    via_ha_load: int = 0  # data packets at the home agent in these spans
    direct_load: int = 0
    outage: Span = NEVER  # home agent killed and cut off → brought back
    spoofed_at: float = 0.0
    spoofed_sent: int = 0
    spoofed_passed: int = 0
    controls_passed: int = 0
    correspondent: Records = field(default_factory=Records)
    mobile: Records = field(default_factory=Records)

    def lost_at(self, span: Span = ALWAYS) -> list[float]:
        """Return when the packets were sent, within SPAN and in either direction, that never arrived."""
        ways = ((self.correspondent, self.mobile), (self.mobile, self.correspondent))
        return [at for sender, receiver in ways for at in lost(sender, receiver, span, self.unsent_is_lost)]


class Journey:
    """Run the demo on a deployment whose testbed is up."""

    def __init__(
        self, deployment: Deployment, narrator: Narrator, directory: Path, rate: float, slowdown: float
    ) -> None:
        """Prepare the journey.

        `directory` is for records and state, and exists. `rate`: packets a second in each direction, with the slowdown.
        `slowdown`: see `Observations`.
        """
        self.deployment = deployment
        self.bed = deployment.bed
        self.narrator = narrator
        self.directory = directory
        self.rate = rate
        self.anchor = deployment.anchor_name
        self.seen = Observations(slowdown, self.anchor, deployment.unsent_is_lost)
        # Where there is no home, the journey begins where it ends.
        self.stations = tuple(link for link in JOURNEY if link in deployment.links())
        self.offload = False

    def run(self) -> Observations:
        """Run the whole demo and return its observations. Raises ProcessError, requests.RequestException."""
        self.narrator.say(f"starting {self.anchor} and mobile node")
        priority.give(self.bed.devices, priority.NETWORK)
        self._start_anchor()
        priority.give(self.deployment.start_mobile_node(), priority.NETWORK)
        self.load = AnchorLoad(self.bed, self.deployment.anchor, self.deployment.home)
        home_address = self.deployment.home_address
        traffic = Traffic(
            self.bed,
            self.directory,
            self.rate,
            DRAIN * self.seen.slowdown,
            home_address,
            self.deployment.correspondent,
        )
        priority.give(traffic.ends, priority.NETWORK)
        interval = MONITORED * self.seen.slowdown
        with Monitor(self.load, traffic.files["cn"], self.narrator, interval, self.anchor) as self.monitor:
            self._where(self._place(self.stations[-1]))
            self._pause(STAY)
            self._travel_via_anchor()
            self._start_offload()
            self._travel_with_offload()
            self._where("traffic stopped")
            self.seen.correspondent, self.seen.mobile = traffic.stop()
            self.seen.load = self.monitor.samples
        return self.seen

    def _pause(self, seconds: float) -> None:
        time.sleep(self.seen.slowdown * seconds)

    def _start_anchor(self) -> None:
        anchor = self.deployment.start_anchor(journal=self.directory / "home-agent.journal")
        priority.give([anchor], priority.NETWORK)

    @staticmethod
    def _place(link: str | int) -> str:
        return "at home" if link == HOME else f"on link {link}"

    def _where(self, text: str) -> None:
        self.monitor.where = f"{text}, {'with hoaflow' if self.offload else 'without hoaflow'}"

    def _travel_via_anchor(self) -> None:
        self.narrator.say(f"the journey without hoaflow: all traffic goes through the {self.anchor}")
        for number, link in enumerate(self.stations):
            self._move(link)
            if number == len(self.stations) - 2:
                self.seen.via_ha, self.seen.via_ha_load = self._measure()
            self._pause(STAY)

    def _start_offload(self) -> None:
        self.narrator.say("starting hoaflow")
        start = time.time()
        with priority.given_to_started(self.bed.programs, priority.HOAFLOW):
            self.seen.backends = self.deployment.start_offload(self.narrator.say)
            self.seen.starting = Span(start, time.time())
        for backend, routers in by_backend(self.seen.backends).items():
            self.narrator.say(f"backend {backend.name} on {', '.join(routers)}, because: {backend.reason}")
        self.offload = True
        self._where(self._place(self.stations[-1]))
        self._pause(STAY)

    def _travel_with_offload(self) -> None:
        self.narrator.say("the same journey with hoaflow")
        for number, link in enumerate(self.stations):
            self._move(link)
            if number == 0:
                self._pause(STAY)
                self._send_spoofed()
            if number == len(self.stations) - 2:
                self.seen.direct, self.seen.direct_load = self._measure()
                self._pause(STAY)
                self._kill_anchor(link)
            self._pause(STAY)

    def _move(self, link: str | int) -> None:
        """Move, and wait for the Binding Acknowledgement and, with hoaflow, for the flows' confirmation."""
        anchor = self.bed.programs[self.deployment.anchor_program]
        controller = self.bed.programs.get("controller")
        care_of = self.deployment.care_of_address(link)
        acknowledgements = anchor.mark()
        events = controller.mark() if controller else 0
        with priority.raised(priority.NETWORK):
            left = self.deployment.attach(link)
        found = anchor.wait_for(self.deployment.acknowledgement(link), EVENT_TIMEOUT, acknowledgements)
        confirmed = self._confirmed(controller, events, link, care_of) if controller else None
        move = Move(link, self.offload, left, event_time(found), confirmed)
        self.seen.moves.append(move)
        self._where(self._place(link))
        told = f"mobile node {'back home' if link == HOME else f'on {move.name}'}:"
        told += f" acknowledged after {1000 * (move.acknowledged - left):.0f} ms"
        if confirmed is not None:
            told += f", flows {'withdrawn' if link == HOME else 'confirmed'}"
            told += f" {1000 * (confirmed - move.acknowledged):.0f} ms later"
        self.narrator.say(told)

    @staticmethod
    def _confirmed(controller: Process, after: int, link: str | int, care_of: str) -> float:
        wanted = "removed .*reason=deregistered" if link == HOME else f"active .*={care_of} "
        return event_time(controller.wait_for(f"event=binding-{wanted}", EVENT_TIMEOUT, after))

    def _measure(self) -> tuple[Span, int]:
        """Count data packets at the anchor while nothing moves; return the span and the count."""
        self._pause(SETTLE)
        with priority.raised(priority.NETWORK):
            start, packets = time.time(), self.load.packets()
            self._pause(MEASURED_STAY)
            counted = self.load.packets() - packets
            span = Span(start, time.time())
        self.narrator.say(f"the {self.anchor} got {counted} data packets in {span.end - span.start:.1f} s")
        return span, counted

    def _kill_anchor(self, link: str | int) -> None:
        self.narrator.say(f"killing the {self.anchor} (kill -9) and cutting its link to the core")
        start = time.time()
        self.bed.kill(self.deployment.anchor_program)
        self.deployment.set_anchor_link(up=False)
        self.monitor.where = f"{self.anchor} dead, with hoaflow"
        self._pause(OUTAGE)
        self.seen.outage = Span(start, time.time())
        self.narrator.say(f"bringing the {self.anchor} back")
        self.deployment.set_anchor_link(up=True)
        self._start_anchor()
        self._where(self._place(link))

    def _send_spoofed(self) -> None:
        """Forge reverse-tunnel packets on link 1 and count those that reach the correspondent node."""
        listener = self.bed.start("listener", [sys.executable, str(SPOOF), "listen"], node="cn")
        listener.wait_for("event=ready", EVENT_TIMEOUT)
        care_of, home_address = self.deployment.care_of_address(1), self.deployment.home_address
        forged = (
            (WRONG_OUTER, self.deployment.wrong_outer, home_address, SPOOFED_EACH),
            (WRONG_INNER, care_of, self.deployment.wrong_inner, SPOOFED_EACH),
            # Neither is wrong: to show that what is forged well enough gets to where it is counted.
            (CONTROL, care_of, home_address, CONTROLS),
        )
        self.seen.spoofed_at = time.time()
        for label, outer, inner, count in forged:
            ends = ["--outer", outer, self.deployment.anchor, "--inner", inner, self.deployment.correspondent]
            command = [sys.executable, str(SPOOF), "send", *ends, "--label", label, "--count", str(count)]
            self.bed.run(*command, node="stranger")
        listener.wait_for(f"label={CONTROL}", EVENT_TIMEOUT)
        self._pause(STAY)  # those that the flows do not take go by the anchor, which is slower
        arrived = [match[1] for line in listener.lines if (match := re.search(r"label=(\S+)", line))]
        self.bed.stop("listener")
        self.seen.spoofed_sent = 2 * SPOOFED_EACH
        self.seen.controls_passed = arrived.count(CONTROL)
        self.seen.spoofed_passed = len(arrived) - self.seen.controls_passed
        self.narrator.say(
            f"{self.seen.spoofed_sent} spoofed packets sent from link 1: {self.seen.spoofed_passed} passed"
            f" (and {self.seen.controls_passed} of {CONTROLS} with both sources right)"
        )


def by_backend(backends: dict[str, Backend]) -> dict[Backend, list[str]]:
    """Group routers by backend and the reason for it."""
    found: dict[Backend, list[str]] = {}
    for router, backend in backends.items():
        found.setdefault(backend, []).append(router)
    return found
