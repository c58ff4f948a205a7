# SPDX-License-Identifier: Apache-2.0
"""Run constant traffic between two nodes, and compute losses and round-trip times over a span of time."""

import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from topologies import addresses as at
from topologies.processes import Process
from topologies.testbed import Testbed

NANO = 1e9
PROBE = Path(__file__).with_name("probe.py")
START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 30.0  # seconds
POLL = 0.1  # seconds


class Span(NamedTuple):
    """Delimit a half-open span of time, in seconds since the epoch."""

    start: float
    end: float


class Rtt(NamedTuple):
    """Record one round-trip time in milliseconds, and when it was measured, in seconds since the epoch."""

    at: float
    milliseconds: float


@dataclass
class Records:
    """Hold what one end of the traffic recorded (see `probe`); times are in seconds since the epoch.

    `unsent`: numbers of those of `sent` that could not be sent.
    """

    sent: dict[int, float] = field(default_factory=dict)
    received: dict[int, float] = field(default_factory=dict)
    rtts: list[Rtt] = field(default_factory=list)
    repeated: int = 0
    unsent: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> "Records":
        """Parse a file of records, ignoring an unfinished last line. Raises OSError, ValueError."""
        records = cls()
        text = path.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            kind, number, at, *rest = line.split()
            records._add(kind, int(number), int(at) / NANO, rest)
        return records

    def _add(self, kind: str, number: int, at: float, rest: Sequence[str]) -> None:
        if kind in ("S", "E"):
            self.sent[number] = at
            if kind == "E":
                self.unsent.add(number)
        elif kind == "R":
            self.repeated += number in self.received
            self.received.setdefault(number, at)
            if int(rest[0]):
                self.rtts.append(Rtt(at, int(rest[0]) / 1e6))
        else:
            raise ValueError(f"expected a record S, E or R, got {kind!r}")


def lost(sender: Records, receiver: Records, span: Span, unsent: bool = True) -> list[float]:
    """Return when the packets were sent that SENDER sent within SPAN and RECEIVER never received.

    Those that could not even be sent count if `unsent`.
    """
    found = receiver.received.keys() if unsent else receiver.received.keys() | sender.unsent
    return [at for number, at in sender.sent.items() if span.start <= at < span.end and number not in found]


def median_rtt(records: Records, span: Span) -> float:
    """Return the median round-trip time within SPAN, in milliseconds.

    Raises ValueError when there is none.
    """
    values = [rtt.milliseconds for rtt in records.rtts if span.start <= rtt.at < span.end]
    if not values:
        raise ValueError(f"no round-trip time was measured in the {span.end - span.start:.1f} s asked for")
    return statistics.median(values)


class Traffic:
    """Send constant traffic between a correspondent node and a home address, both ways, from construction on."""

    def __init__(
        self,
        bed: Testbed,
        directory: Path,
        rate: float = 100.0,
        drain: float = 5.0,
        home_address: str = at.HOME_ADDRESS,
        correspondent: str = at.CORRESPONDENT,
        node: str = "cn",
        name: str = "traffic",
        port: int = 5300,
    ) -> None:
        """Start both ends and wait until they run. Raises ProcessError.

        `directory`: for the records. `rate`: packets a second in each direction. `drain`: seconds, longer than any
        packet is under way; `stop` takes as long only if one is missing. `home_address`: the mobile node's. `node`:
        where the correspondent is. `name`, `port`: of UDP, of both programs and files, where there are several.
        """
        self.drain = drain
        self.bed = bed
        self.rate = rate
        self.name, self.node = name, node
        ends = {node: (correspondent, home_address), "mn": (home_address, correspondent)}
        self.files = {end: directory / f"{name}-{end}.records" for end in ends}
        for end, (own, peer) in ends.items():
            command = [sys.executable, str(PROBE), "--bind", own, "--peer", peer, "--port", str(port)]
            command += ["--rate", str(rate), "--records", str(self.files[end])]
            bed.start(f"{name}-{end}", command, node=end).wait_for("event=ready", START_TIMEOUT)
        self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        for end in self.ends:
            end.send(number)

    @property
    def ends(self) -> list[Process]:
        """Return the `probe` processes, the correspondent node's first."""
        return [self.bed.programs[f"{self.name}-{end}"] for end in self.files]

    def records(self) -> tuple[Records, Records]:
        """Return what the correspondent node and the mobile node have recorded so far, in this order."""
        return Records.read(self.files[self.node]), Records.read(self.files["mn"])

    def stop(self) -> tuple[Records, Records]:
        """Stop sending, let packets under way arrive, end both ends and return their records. Raises ProcessError."""
        self._signal(signal.SIGUSR2)
        for end in self.ends:
            end.wait_for("event=stopped", STOP_TIMEOUT)
        deadline = time.monotonic() + self.drain
        while not self._all_arrived() and time.monotonic() < deadline:
            time.sleep(POLL)
        for node in self.files:
            self.bed.stop(f"{self.name}-{node}")
        return self.records()

    def _all_arrived(self) -> bool:
        correspondent, mobile = self.records()
        both_ways = (correspondent, mobile), (mobile, correspondent)
        return all(sender.sent.keys() <= receiver.received.keys() for sender, receiver in both_ways)
