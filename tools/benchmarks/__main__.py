# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.benchmarks`: measure the controller against what is possible. Needs root (`make bench`)."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.waiting import wait_for
from tools.benchmarks import (
    gateway_gone,
    handover_cost,
    load,
    memory_soak,
    one_of_many,
    overload,
    refresh,
    report,
    restart,
    routers,
    single,
    storm,
    switch_restart,
    under_bulk,
)
from tools.benchmarks.figures import NOT_MEASURED, Figure
from tools.benchmarks.lab import Lab, Plan

FAILED = 1  # exit status: something could not be measured
MISSED = 3  # exit status: all was measured, and a goal is missed
LOADED = ("bulk", "activation", "growth")  # measured together
# In this order, so that each finds what it needs left by the one before, as far as that is possible.
ALONE: dict[str, Callable[[Lab], list[Figure]]] = {
    "storm": storm.measure,
    "under-bulk": under_bulk.measure,
    "restart": restart.measure,
    "overload": overload.measure,
    "refresh": refresh.measure,
    "single": single.measure,
    "routers": routers.measure,
    "handover-cost": handover_cost.measure,
    "one-of-many": one_of_many.measure,
    "gateway-gone": gateway_gone.measure,
    "switch-restart": switch_restart.measure,
    "memory-soak": memory_soak.measure,
}


class Interrupted(BaseException):
    """SIGTERM, SIGINT or SIGHUP asked the run to end; `status` is the exit status, 128 + the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def interrupt(number: int, _frame: FrameType | None) -> None:
    """Raise Interrupted, and ignore further signals: cleaning up takes a bounded time."""
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmarks; return 0, MISSED if a goal is missed, FAILED, or 128 + N after signal N."""
    arguments = _arguments(argv)
    if os.geteuid() != 0:
        print("make bench makes a network namespace: run it as root", file=sys.stderr)
        return FAILED
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    defaults = Plan()
    plan = Plan(
        bindings=arguments.bindings,
        repetitions=arguments.repetitions,
        seconds=arguments.seconds,
        singles=min(arguments.bindings, defaults.singles),
        period=arguments.period,
        soak=arguments.soak,
        profile=arguments.profile,
    )
    try:
        with _directory() as directory:
            facts, figures = _measure(directory, plan, arguments.only, arguments.output)
    except Interrupted as interrupted:
        print(f"\n{interrupted}: ended, and cleaned up", file=sys.stderr)
        return interrupted.status
    if arguments.document is not None:
        report.document(arguments.document, facts, plan.bindings, figures)
    if any(figure.value == NOT_MEASURED for figure in figures):
        return FAILED
    return MISSED if any(figure.met is False for figure in figures) else 0


@contextmanager
def _directory() -> Iterator[Path]:
    """Create a temporary directory and remove it in the end.

    It goes even if a command that was interrupted at its start still makes a file there.
    """
    directory = Path(tempfile.mkdtemp(prefix="hoaflow-bench-"))
    try:
        yield directory
    finally:
        wait_for(f"{directory} is removed", partial(_removed, directory))


def _removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _measure(directory: Path, plan: Plan, only: list[str], output: Path) -> tuple[dict[str, Any], list[Figure]]:
    started = time.monotonic()
    facts = report.machine()
    print(f"{facts['cores']} cores of {facts['model']}, load {facts['load'][0]:.1f}, Linux {facts['kernel']}, ", end="")
    print(f"Open vSwitch {facts['open_vswitch']}, Python {facts['python']}; {plan.bindings} bindings", flush=True)
    experiments = [(name, measure) for name, measure in ALONE.items() if name in only]
    if together := [name for name in LOADED if name in only]:
        experiments.insert(0, (" and ".join(together), partial(load.measure, wanted=together)))
    figures: list[Figure] = []
    output.parent.mkdir(parents=True, exist_ok=True)
    with Lab(directory, plan, output.parent) as lab:
        for name, measure in experiments:
            figures += _told(lab, name, measure)
            # Each time: what has been measured is kept, whatever becomes of the rest.
            seconds = round(time.monotonic() - started, 1)
            content = {"machine": facts, "plan": asdict(plan), "seconds": seconds, "lapses": lab.lapses}
            report.write(output, content, figures)
        for lapse in lab.lapses:
            print(f"meanwhile: {lapse}")
        print(f"took {seconds:.0f} s\n\n{report.table(figures)}\n\nevery measurement: {output}", flush=True)
    return facts, figures


def _told(lab: Lab, name: str, measure: Callable[[Lab], list[Figure]]) -> list[Figure]:
    """Run an experiment, print how long it took and return its figures.

    A failure, of whatever kind, becomes a figure, too: it must not cost the minutes of all other measurements.
    """
    print(f"{name} ...", end=" ", flush=True)
    started = time.monotonic()
    try:
        figures = measure(lab)
    except Exception as error:
        reasons = [_text(error)]
        try:
            lab.end()
        except Exception as another:
            reasons.append(_text(another))
        figures = [Figure(name, NOT_MEASURED, met=False, reason="; then ".join(reasons))]
    print(f"{time.monotonic() - started:.0f} s", flush=True)
    return figures


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    names = [*LOADED, *ALONE]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    for name, least, text in (
        ("bindings", 100, "held at most"),
        ("repetitions", 1, "of each measurement"),
        ("seconds", 0.1, "for which mobile nodes move in a repetition"),
        ("period", 1.0, "seconds in which all bindings are refreshed"),
        ("soak", 1000, "handovers after which memory is looked at"),
    ):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=_at_least(least), default=default, help=f"{text} ({default})")
    parser.add_argument("--profile", action="store_true", help="keep profiles also of what meets its goals")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="(%(default)s)")
    parser.add_argument("--document", type=_with_table, metavar="FILE", help="Markdown file to put the table into")
    return parser.parse_args(argv)


def _with_table(text: str) -> Path:
    """Check that a Markdown file has a place for the table, before minutes of measuring."""
    try:
        report.around_table(Path(text))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def _at_least(least: float) -> Callable[[str], float]:
    """Return an argparse type that parses a number of the type of `least` and refuses smaller ones."""

    def number(text: str) -> float:
        value = type(least)(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
