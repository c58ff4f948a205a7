# SPDX-License-Identifier: Apache-2.0
"""Measure packet throughput of the `flow` backend: `make bench-dataplane`; table and build/bench-dataplane.json.

One TCP stream each way between a correspondent node and a mobile node, by three paths that share all links and nodes:

- direct: the router's flows set the tunnel (`flow` backend);
- plain ip6tnl: the router's kernel has a tunnel device and a route, as a home agent would, and there are no flows;
- home agent: no flows, the detour through the home agent.

The paths take turns within each round, in another order each time, and each round's own ratio counts: what else the
machine does meanwhile slows neighbours alike. The medians of all rounds are compared.
"""

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.kernel.lab import BRIDGE, CN, COA, HA, HOA, FlowLab
from tests.support.ovs import Ovs

FILE = Path(__file__).parents[2] / "build" / "bench-dataplane.json"
DIRECT, PLAIN, HOME_AGENT = "direct", "plain ip6tnl", "home agent"
PATHS = (DIRECT, PLAIN, HOME_AGENT)
WAYS = {"to the mobile node": ("cn", "mn", CN, HOA), "from the mobile node": ("mn", "cn", HOA, CN)}
# What the direct path must reach at least, as a part of each of the others.
GOALS = {PLAIN: 0.95, HOME_AGENT: 1.0}
# A stream lasts seconds: how it starts, when segments are lost and sent again, must not count.
MEGABYTES, ROUNDS = 500, 5
FEW = 100  # packets: neighbour discovery and the like, but no stream

Rates = dict[str, dict[str, list[float]]]  # Mbit/s by way, path and round


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.dataplane", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="of one stream (default: %(default)s)")
    arguments = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory() as directory,
        Ovs(Path(directory), datapath="system") as ovs,
        FlowLab(ovs) as lab,
    ):
        lab.setup("--backend", "flow")
        rates = measure(lab, arguments.rounds, arguments.megabytes << 20)
        lab.router("teardown", "--bridge", BRIDGE)
    found = result(rates)
    print(table(rates, found), flush=True)
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "megabytes": arguments.megabytes,
    }
    FILE.write_text(json.dumps({**facts, "megabits_per_second": rates, "ratios": found, "met": met(found)}, indent=2))
    return 0 if met(found) else 1


def measure(lab: FlowLab, rounds: int, octets: int) -> Rates:
    """Send a TCP stream of `octets` each way by each path, `rounds` times; return the rates in Mbit/s."""
    rates: Rates = {way: {path: [] for path in PATHS} for way in WAYS}
    for number in range(rounds):
        first = number % len(PATHS)
        for path in PATHS[first:] + PATHS[:first]:
            with taking(lab, path) as passed_as_it_should:
                for way, ends in WAYS.items():
                    rate = octets * 8 / lab.stream(*ends, octets) / 1e6
                    rates[way][path].append(rate)
                    print(
                        f"round {number + 1} of {rounds}: {path}, {way}: {rate:.0f} Mbit/s", file=sys.stderr, flush=True
                    )
                passed_as_it_should()
    return rates


@contextmanager
def taking(lab: FlowLab, path: str) -> Iterator[Callable[[], None]]:
    """Have packets take the path while the context lasts; the callable it yields raises AssertionError if none did."""
    if path == DIRECT:
        lab.offload()
    else:
        lab.home()
    if path == PLAIN:
        ends = f"local {HA} remote {COA} encaplimit none"
        lab.ip("rt", "-6", "address", "add", f"{HA}/128", "dev", "lo", "nodad")
        lab.ip("rt", *f"link add plain type ip6tnl mode ip6ip6 {ends}".split())
        lab.ip("rt", "link", "set", "plain", "up")
        lab.ip("rt", "-6", "route", "add", f"{HOA}/128", "dev", "plain")
    device = {DIRECT: ("rt", "hoaflow6"), PLAIN: ("rt", "plain"), HOME_AGENT: ("ha", "t6")}[path]
    by_home_agent, by_tunnel = packets(lab, "ha", "e0"), packets(lab, *device)

    def check() -> None:
        assert packets(lab, *device) - by_tunnel > FEW, f"{path}: nothing passed {device[1]}"
        detour = packets(lab, "ha", "e0") - by_home_agent > FEW
        assert detour == (path == HOME_AGENT), f"{path}: {'some' if detour else 'nothing'} passed the home agent"

    try:
        yield check
    finally:
        if path == PLAIN:
            lab.ip("rt", "link", "del", "plain")
            lab.ip("rt", "-6", "address", "del", f"{HA}/128", "dev", "lo")


def packets(lab: FlowLab, node: str, device: str) -> int:
    """Return how many packets a device has received and sent."""
    shown = lab.ip(node, "-s", "link", "show", device)
    return sum(int(count) for count in re.findall(r"[RT]X:.*\n +\d+ +(\d+)", shown))


def result(rates: Rates) -> dict[str, dict[str, float]]:
    """Return the median ratio of the direct path's rate to each other path's, by direction and other path."""
    return {
        way: {
            other: median(direct / rate for direct, rate in zip(by_path[DIRECT], by_path[other], strict=True))
            for other in GOALS
        }
        for way, by_path in rates.items()
    }


def met(ratios: dict[str, dict[str, float]]) -> bool:
    """Return whether the direct path reaches its goal against every other path, in both directions."""
    return all(by_path[other] >= goal for by_path in ratios.values() for other, goal in GOALS.items())


def table(rates: Rates, ratios: dict[str, dict[str, float]]) -> str:
    """Return the paths' median rates side by side as text, and below them each ratio with its goal."""
    rounds = len(next(iter(rates.values()))[DIRECT])
    lines = [
        f"TCP throughput in Mbit/s, medians of {rounds} rounds",
        f"{'':22}" + "".join(f"{path:>14}" for path in PATHS),
    ]
    for way, by_path in rates.items():
        lines.append(f"{way:22}" + "".join(f"{median(by_path[path]):14.0f}" for path in PATHS))
    lines.append("")
    for way, by_other in ratios.items():
        for other, goal in GOALS.items():
            verdict = "met" if by_other[other] >= goal else "MISSED"
            lines.append(f"{way:22}direct / {other:14}{by_other[other]:6.2f}   goal {goal:.2f}  {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
