# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.benchmarks.cluster`: kill the parts of a cluster under load, and see what users notice."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from tools.benchmarks import report
from tools.benchmarks.cluster import cost, faults
from tools.benchmarks.cluster.lab import ClusterLab, Plan
from tools.benchmarks.figures import NOT_MEASURED, Figure

FILE = Path("build/bench-cluster.json")
MISSED = 3  # exit status, as that of `make bench`
FAULTS: dict[str, Callable[[faults.Bench], list[Figure]]] = {
    "usual": faults.usual,
    "kills": faults.kills,
    "no-quorum": faults.no_quorum,
    "upgrade": faults.upgrade,
    "stopped": faults.stopped,
}
COST = "cost"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if all goals are met, else MISSED."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.cluster", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--routers", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--bindings", type=int, default=30_000, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=50.0, help="handovers a second (default: %(default)s)")
    parser.add_argument("--packets", type=float, default=20.0, help="a second, on each router (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60.0, help="that other faults last (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=[*FAULTS, COST], default=[*FAULTS, COST], help="default: all")
    arguments = vars(parser.parse_args(argv))
    only = arguments.pop("only")
    plan = Plan(**arguments)
    chosen = [name for name in only if name != COST]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory:
        parts = [_faults(Path(directory) / "cluster", plan, chosen)] if chosen else []
        if COST in only:
            parts.append(cost.measure(Path(directory), plan))
        for part in parts:
            try:
                for figure in part:
                    figures.append(figure)
                    print(f"{figure.name}: {figure.value} {figure.reason}".rstrip(), flush=True)
            except TimeoutError as error:
                figures.append(Figure("what comes after that", NOT_MEASURED, goal="all", met=False, reason=str(error)))
    print(report.table(figures), flush=True)
    report.write(FILE, {"machine": report.machine(), "plan": asdict(plan)}, figures)
    return MISSED if any(figure.met is False for figure in figures) else 0


def _faults(directory: Path, plan: Plan, chosen: list[str]) -> Iterator[Figure]:
    """Measure faults one after the other. Raises TimeoutError if the cluster does not get over one."""
    with ClusterLab(directory, plan, members=3) as lab:
        lab.connect()
        lab.load()
        watch = lab.watch()
        with lab.roaming() as roaming:
            for name in chosen:
                yield from FAULTS[name](faults.Bench(lab, roaming, watch))


if __name__ == "__main__":
    sys.exit(main())
