# SPDX-License-Identifier: Apache-2.0
"""Break a running system in a seeded order, and judge it by its packets: `python -m tools.chaos` (`make chaos`)."""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hoaflow.arguments import positive
from tools.chaos import record, report
from tools.chaos.addresses import Plan, plan
from tools.chaos.evidence import Evidence, Verdict
from tools.chaos.lab import Lab
from tools.chaos.runner import Run
from tools.chaos.schedule import Step, chosen, steps
from tools.chaos.shrink import shrink
from tools.chaos.verdict import judge
from tools.demo.directory import InUse, reserved
from tools.demo.interruption import Interrupted, raise_interrupted
from topologies.kernel import has_flow_backend

MINUTES, RATE, MOBILE_NODES, SHRINKING_RUNS = 10.0, 10.0, 10, 8
FOREVER = 1e9  # seconds
# Out of descriptors, asyncio, which pyroute2 uses, leaves half an event loop, of which Python complains when it goes.
HALF_A_LOOP = r"^Exception ignored in: <function BaseEventLoop.__del__ "


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{report.clock(time.time())}  {text}", flush=True)


@dataclass(frozen=True)
class Outcome:
    """Hold what a run came to. `steps`: with their begins. `errors`: unexpected lines of logs, and acts that failed."""

    evidence: Evidence
    verdict: Verdict
    errors: list[str]
    steps: list[tuple[float, Step]]
    seconds: float
    datapath: str


def run(network: Plan, rate: float, directory: Path, wanted: Iterable[Step], seconds: float) -> Outcome:
    """Run steps in a lab of its own for so many seconds, or until they are over."""
    directory.mkdir(parents=True, exist_ok=True)
    with Lab(network, directory) as lab:
        say(f"all is direct; Open vSwitch's datapath: {lab.datapath}")
        begun, carried_out = time.monotonic(), Run(lab, say)
        evidence = carried_out.carry_out(wanted, seconds, rate)
        passed = time.monotonic() - begun
        logged = lab.bed.errors(allow_after=[HALF_A_LOOP])
        errors = carried_out.failures + [line for line in logged if "Traceback" in line]
    return Outcome(evidence, judge(evidence), errors, carried_out.done, passed, lab.datapath)


def chaos(arguments: argparse.Namespace, network: Plan, seed: int) -> bool:
    """Run one seed; print and write its report; return whether all promises were kept. Raises InUse."""
    directory: Path = arguments.output.resolve() / f"seed-{seed}"
    wanted = steps(seed, network, chosen(arguments.only, network), arguments.fast)
    if arguments.steps is not None:
        wanted = iter([Step.load(each) for each in json.loads(arguments.steps.read_text())["steps"]])
    with reserved(directory):
        say(f"seed {seed}: setting up {len(network.mobile_nodes)} mobile nodes, 4 routers, 3 controllers")
        wanted = itertools.islice(wanted, arguments.faults)
        outcome = run(network, arguments.rate, directory, wanted, 60 * arguments.minutes)
        row = report.row(seed, outcome.seconds, outcome.evidence, outcome.verdict, outcome.errors)
        row |= record.circumstances(outcome.datapath)
        row["steps"] = [step.dump() for _, step in outcome.steps]
        for found in outcome.verdict.violations:
            print(*report.violation(outcome.evidence, found), sep="\n", flush=True)
        print(*outcome.errors, record.table([row]), sep="\n", flush=True)
        if arguments.record:
            record.keep(row)
        kept = not outcome.verdict.violations and not outcome.errors
        if outcome.verdict.violations and outcome.steps and arguments.shrink:
            shortest = _shortest(network, arguments.rate, directory, outcome, arguments.shrink)
            row["shortest"] = [step.dump() for step in shortest]
        (directory.parent / f"seed-{seed}.json").write_text(json.dumps(row, indent=2) + "\n")
    say(f"seed {seed}: {'all promises kept' if kept else 'BROKEN'}; logs and packets are in {directory}")
    return kept


def _shortest(network: Plan, rate: float, directory: Path, outcome: Outcome, most: int) -> list[Step]:
    """Return the shortest sequence of steps found in so many runs that breaks the same promise, and print it."""
    first = outcome.verdict.violations[0]
    candidates = [step for begun, step in outcome.steps if begun <= first.at] or [outcome.steps[0][1]]

    def fails(some: Sequence[Step]) -> bool:
        say(f"trying {len(some)} of {len(outcome.steps)} steps")
        with reserved(directory / "shrinking"):
            again = run(network, rate, directory / "shrinking", some, FOREVER)
        return any(each.check == first.check for each in again.verdict.violations)

    found, used = shrink(candidates, fails, most)
    print(f"the shortest sequence found in {used} runs that breaks ({first.check}):", *report.sequence(found), sep="\n")
    return found


def _seeds(text: str) -> Sequence[int]:
    """Return the seeds of a word such as `7` or `1-20`. Raises argparse.ArgumentTypeError."""
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise argparse.ArgumentTypeError(f"expected a seed such as 7, or a span such as 1-20, got {text!r}")
    return seeds


def main(argv: list[str] | None = None) -> int:
    """Run all seeds; return 0 if every promise was kept, 1 if not, 128 + N after signal N."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument(
        "--seed", "--seeds", dest="seeds", type=_seeds, nargs="+", default=[[1]], metavar="SEED",
        help="seeds or spans of seeds (1-20), one run each (default: 1)",
    )  # fmt: skip
    parser.add_argument("--minutes", type=positive, default=MINUTES, help=f"of faults (default: {MINUTES:g})")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="only faults of this kind, or with this in their name"
    )
    parser.add_argument("--faults", type=int, metavar="N", help="end after N steps, if that is earlier")
    parser.add_argument("--fast", action="store_true", help="let faults last as short as the table allows")
    parser.add_argument("--mobile-nodes", type=int, default=MOBILE_NODES, help=f"(default: {MOBILE_NODES})")
    parser.add_argument(
        "--rate", type=positive, default=RATE, help=f"packets a second of each flow (default: {RATE:g})"
    )
    parser.add_argument("--steps", type=Path, metavar="FILE", help="repeat the steps of a run's JSON file")
    parser.add_argument(
        "--shrink", type=int, default=SHRINKING_RUNS, metavar="RUNS",
        help=f"most runs to find a shorter sequence that fails (default: {SHRINKING_RUNS})",
    )  # fmt: skip
    parser.add_argument("--record", action="store_true", help="add the rows of the runs to docs/reliability.json")
    parser.add_argument("--output", type=Path, default=Path("build/chaos"), help="directory (default: build/chaos)")
    arguments = parser.parse_args(argv)
    if os.geteuid():
        parser.error("root is needed, for namespaces and switches of its own: use `make chaos`, or sudo")
    try:
        network = plan(arguments.mobile_nodes, has_flow_backend())
        chosen(arguments.only, network)
        raise_interrupted()
        kept = [chaos(arguments, network, seed) for seeds in arguments.seeds for seed in seeds]
        return 0 if all(kept) else 1
    except (InUse, ValueError) as error:
        parser.error(str(error))
    except Interrupted as interrupted:
        print(f"\ninterrupted by {interrupted}; everything was taken down", file=sys.stderr)
        return interrupted.status


if __name__ == "__main__":
    sys.exit(main())
