# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.benchmarks.scale`: measure one controller with many on-demand routers and many bindings."""

import argparse
import resource
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from tools.benchmarks import report
from tools.benchmarks.figures import NOT_MEASURED, Figure
from tools.benchmarks.rest import Unexpected
from tools.benchmarks.scale.lab import HOME_AGENTS, Plan, ScaleLab
from tools.benchmarks.scale.measures import IDLE, STEPS, alone, measure

MISSED = 3  # exit status, as that of `make bench`
FILES = 20_000  # open ones: each bridge of Open vSwitch takes a few


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if all goals are met, else MISSED."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.scale", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--routers", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--bindings", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--active", type=int, default=2000, help="home addresses with traffic (default: %(default)s)")
    parser.add_argument("--handovers", type=int, default=1000, help="for each figure (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="handovers a second (default: %(default)s)")
    parser.add_argument("--scanned", type=int, default=10, help="routers (default: %(default)s)")
    parser.add_argument("--packets", type=float, default=10_000.0, help="a second on each (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=IDLE, help="seconds (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench-scale.json"), help="default: %(default)s")
    arguments = vars(parser.parse_args(argv))
    output, idle = arguments.pop("output"), arguments.pop("idle")
    plan = Plan(**arguments)
    if plan.routers < 1 or plan.bindings < STEPS[0] * max(HOME_AGENTS, plan.active):
        most = plan.bindings // STEPS[0]
        parser.error(f"expected a router, and with {plan.bindings} bindings {HOME_AGENTS} to {most} active ones")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(FILES, hard), max(FILES, hard)))
    figures: list[Figure] = []
    try:
        with tempfile.TemporaryDirectory(prefix="hoaflow-scale-") as directory:
            with ScaleLab(Path(directory) / "one", replace(plan, routers=1, bindings=plan.bindings // STEPS[0])) as lab:
                p99_alone = alone(lab)
            with ScaleLab(Path(directory) / "all", plan) as lab:
                for figure in measure(lab, p99_alone, idle):
                    figures.append(figure)
                    print(f"{figure.name}: {figure.value}", flush=True)
                missed = [*lab.missed, *["a lease ended"] * lab.lapsed]
        if missed:
            figures.append(Figure("renewals missed", str(len(missed)), "", "0", met=False, reason=missed[0]))
    except (TimeoutError, Unexpected) as error:
        figures.append(Figure("what comes after that", NOT_MEASURED, goal="all", met=False, reason=str(error)))
    print(report.table(figures), flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    report.write(output, {"machine": report.machine(), "plan": asdict(plan)}, figures)
    return MISSED if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
