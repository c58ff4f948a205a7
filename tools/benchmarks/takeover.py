# SPDX-License-Identifier: Apache-2.0
"""Measure how another pod takes a home agent address over, and what is lost of the traffic through the home agent.

`make bench-takeover` prints the table of docs/home-agents.md. Each round has a network, an etcd and two pods of its
own, as a pod that has served before differs from one that never has.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.counting import COUNT, ECHO
from tests.support.mobility import CARE_OF_1, HOME_ADDRESS, Node
from tests.support.pods import PodLab
from tests.support.roaming import key_file, registers
from tests.support.waiting import wait_for

ACTS: dict[str, Callable[[PodLab, Node], object]] = {
    "`kill -9`": lambda _, serving: serving.process.kill(),
    "both links of the owner taken down": lambda lab, _: lab.cut_off("ha", "hl", "e0"),
    "SIGTERM": lambda _, serving: serving.process.terminate(),
}


@dataclass(frozen=True)
class Takeover:
    """What one round has shown."""

    seconds: float  # until the router sends to the other pod what is for the home agent and for the mobile node
    sent: int  # packets to the mobile node in the round
    lost: int
    load: float  # of the machine, over a minute


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="bench-takeover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each act (default: %(default)s)")
    parser.add_argument("--lease", type=int, default=2, help="seconds, at least 2 (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench-takeover.json"))
    options = parser.parse_args(arguments)
    for name, value, least in (("--rounds", options.rounds, 1), ("--lease", options.lease, 2)):
        if value < least:
            parser.error(f"{name}: expected {least} or more, got {value}")
    found: dict[str, list[Takeover]] = {name: [] for name in ACTS}
    for _ in range(options.rounds):
        for name, act in ACTS.items():  # by turns, so that a busy minute of the machine meets all of them
            found[name].append(_round(act, options.lease))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print("\n".join(table(found)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figures = {name: [asdict(each) for each in rounds] for name, rounds in found.items()}
    options.output.write_text(json.dumps({"lease": options.lease, "figures": figures}, indent=2) + "\n")
    return 0


def table(found: dict[str, list[Takeover]]) -> Iterable[str]:
    """Yield the lines of the table, in Markdown."""
    yield "| what was done | the router sends to the other pod within | packets lost in a round | rounds | load |"
    yield "| --- | --- | --- | --- | --- |"
    for name, rounds in found.items():
        seconds = [each.seconds for each in rounds]
        took = f"{_span(seconds, '.1f')} s (median {statistics.median(seconds):.1f})"
        lost = f"{_span([each.lost for each in rounds], 'd')} of {_span([each.sent for each in rounds], 'd')}"
        yield f"| {name} | {took} | {lost} | {len(rounds)} | {_span([each.load for each in rounds], '.0f')} |"


def _span(values: Sequence[float], form: str) -> str:
    least, most = format(min(values), form), format(max(values), form)
    return least if least == most else f"{least} to {most}"


def _round(act: Callable[[PodLab, Node], object], lease: int) -> Takeover:
    with tempfile.TemporaryDirectory() as name, PodLab(Path(name) / "etcd", lease) as lab:
        keys = key_file(Path(name))
        serving = lab.pod("ha", "--keys", keys)
        serving.logged("event=serving")
        lab.pod("hb", "--keys", keys).logged("event=standing-by serving=ha")
        registers(lab, lab.mobile_node("--keys", keys, "--lifetime", "600"), "m1", CARE_OF_1)
        lab.script("mn", ECHO, HOME_ADDRESS).out.wait(lambda line: line == "ready")
        wait_for("the router knows the owner", lambda: lab.ping("cn", HOME_ADDRESS) == 3 and lab.answers("ha"))
        counting = lab.script("cn", COUNT, HOME_ADDRESS)
        counting.event("counting")
        began = time.monotonic()
        act(lab, serving)
        wait_for("the router knows the new owner", lambda: lab.answers("hb"))
        seconds = time.monotonic() - began
        counting.process.terminate()
        counted = counting.event("counted")
        return Takeover(seconds, counted["sent"], len(counted["lost"]), os.getloadavg()[0])


if __name__ == "__main__":
    sys.exit(main())
