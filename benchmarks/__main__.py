# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: how fast the controller is, against what is possible. Needs root; `make bench` sees to it."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import idle, load, report, restart, routers, single, under_bulk
from benchmarks.figures import Figure
from benchmarks.lab import Lab, Plan

MISSED = 3  # exit status: all was measured, and a goal is missed
LOADED = ("bulk", "activation", "growth")  # measured together
# In this order, so that each finds what it needs left by the one before, as far as that is possible.
ALONE: dict[str, Callable[[Lab], list[Figure]]] = {
    "under-bulk": under_bulk.measure,
    "restart": restart.measure,
    "idle": idle.measure,
    "single": single.measure,
    "routers": routers.measure,
}


class Interrupted(BaseException):
    """SIGTERM, SIGINT or SIGHUP: stop, and clean up."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def interrupt(number: int, _frame: FrameType | None) -> None:
    """End as soon as possible. From now on signals are ignored: cleaning up is bounded."""
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def main(argv: list[str] | None = None) -> int:
    """Returns 0 when all goals are met, MISSED when not, 1 when something could not be measured."""
    arguments = _arguments(argv)
    if os.geteuid() != 0:
        print("make bench makes a network namespace: run it as root", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    defaults = Plan()
    plan = Plan(
        bindings=arguments.bindings,
        repetitions=arguments.repetitions,
        seconds=arguments.seconds,
        singles=min(arguments.bindings, defaults.singles),
        period=arguments.period,
        profile=arguments.profile,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="hoaflow-bench-") as directory:
            facts, figures = _measure(Path(directory), plan, arguments.only, arguments.output)
    except Interrupted as interrupted:
        print(f"\n{interrupted}: ended, and cleaned up", file=sys.stderr)
        return interrupted.status
    if arguments.document is not None:
        report.document(arguments.document, facts, plan.bindings, figures)
    print(f"\n{report.table(figures)}\n\nevery measurement: {arguments.output}")
    return MISSED if any(figure.met is False for figure in figures) else 0


def _measure(directory: Path, plan: Plan, only: list[str], output: Path) -> tuple[dict[str, Any], list[Figure]]:
    started = time.monotonic()
    facts = report.machine()
    print(f"{facts['cores']} cores of {facts['model']}, load {facts['load'][0]:.1f}, Linux {facts['kernel']}, ", end="")
    print(f"Open vSwitch {facts['open_vswitch']}, Python {facts['python']}; {plan.bindings} bindings", flush=True)
    figures: list[Figure] = []
    output.parent.mkdir(parents=True, exist_ok=True)
    with Lab(directory, plan, output.parent) as lab:
        if wanted := [name for name in LOADED if name in only]:
            figures += _told(" and ".join(wanted), lambda: load.measure(lab, wanted))
        for name, measure in ALONE.items():
            if name in only:
                figures += _told(name, lambda measure=measure: measure(lab))  # type: ignore[misc]
    seconds = time.monotonic() - started
    content = {"machine": facts, "plan": asdict(plan), "seconds": round(seconds, 1), "lapses": lab.lapses}
    report.write(output, content, figures)
    for lapse in lab.lapses:
        print(f"meanwhile: {lapse}")
    print(f"took {seconds:.0f} s")
    return facts, figures


def _told(name: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    print(f"{name} ...", end=" ", flush=True)
    started = time.monotonic()
    figures = measure()
    print(f"{time.monotonic() - started:.0f} s", flush=True)
    return figures


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    names = [*LOADED, *ALONE]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--bindings", type=int, default=defaults.bindings, help="held at most (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=defaults.repetitions, help="of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of handovers (%(default)s)")
    parser.add_argument("--period", type=float, default=defaults.period, help="of refreshes, seconds (%(default)s)")
    parser.add_argument("--profile", action="store_true", help="keep profiles also of what meets its goals")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="(%(default)s)")
    parser.add_argument("--document", type=Path, metavar="FILE", help="Markdown file to put the table into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
