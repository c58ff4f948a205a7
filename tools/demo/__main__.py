# SPDX-License-Identifier: Apache-2.0
"""Let a mobile node roam while its traffic leaves the home agent: `python -m tools.demo`. Needs root (`make demo`)."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import requests

from hoaflow.arguments import positive
from tools.demo import distributed, distributed_figures
from tools.demo.directory import InUse, reserved
from tools.demo.figures import Check, checks, figures
from tools.demo.interruption import Interrupted, raise_interrupted
from tools.demo.journey import Journey, Observations
from tools.demo.narration import Narrator, quiet_logs
from tools.demo.page import write_page
from topologies import guest
from topologies.base import MobilityTopo
from topologies.deployment import Deployment
from topologies.dmm import DmmTopo
from topologies.dmm_deployment import DmmDeployment
from topologies.kernel import has_flow_backend
from topologies.mip4 import Mip4Topo
from topologies.mip4_deployment import Mip4Deployment
from topologies.nodes import TopologyError
from topologies.ovs_router import KERNEL, USER
from topologies.processes import ProcessError
from topologies.proxy import ProxyTopo
from topologies.proxy_deployment import ProxyDeployment
from topologies.roaming import RoamingTopo
from topologies.testbed import Testbed

D = TypeVar("D", bound=Deployment)
S = TypeVar("S")
DELAY = 50.0  # milliseconds between core and anchor, one way: across an ocean
RATE = 100.0  # packets a second, in each direction
HOST, VM = "host", "vm"
# Core, pauses, lifetimes and time between packets are slow where all else is, so that figures stay comparable.
SLOWDOWN = {HOST: 1.0, VM: 6.0}
LEASE = 10  # seconds, of the bridge; longer with a slowdown, up to what the controller grants
LONGEST_LEASE = 60
LIFETIME = 60  # seconds, of bindings; longer with a slowdown
GUEST_TIME_LIMIT = 3600.0  # seconds

MIPV6, PROXY, IPV4, DMM = "mobile-ipv6", "proxy", "ipv4", "dmm"
VARIANTS: dict[str, tuple[type[MobilityTopo], type[Deployment]]] = {
    MIPV6: (RoamingTopo, Deployment),
    PROXY: (ProxyTopo, ProxyDeployment),
    IPV4: (Mip4Topo, Mip4Deployment),
}

ROWS = (
    ("round-trip time (median)", "rtt_via_ha_ms", "rtt_direct_ms", " ms"),
    ("data packets at the {anchor}, per 100 each way", "ha_data_packets_via_ha", "ha_data_packets_direct", ""),
    ("packets lost in a handover (median)", "lost_packets_handover_via_ha", "lost_packets_handover_direct", ""),
)


FAILURES = (
    *(guest.GuestError, ProcessError, TopologyError),
    *(OSError, requests.RequestException, subprocess.SubprocessError),
)


def observe(
    narrator: Narrator,
    directory: Path,
    delay: float,
    slowdown: float,
    network: tuple[type[MobilityTopo], type[D]],
    journey: Callable[[D], S],
) -> tuple[S, list[str]]:
    """Run a demo's journey; return what was observed, and the unexpected errors in all logs."""
    datapath = KERNEL if has_flow_backend() else USER
    narrator.say(f"building the network on Linux {platform.release()}, Open vSwitch with the {datapath} datapath")
    topology, kind = network
    with Testbed(topology(datapath=datapath, delay=delay), directory / "logs") as bed:
        lease = min(round(LEASE * slowdown), LONGEST_LEASE)
        deployment = kind(bed, lifetime=4 * round(LIFETIME / 4 * slowdown), lease=lease)  # RFC 6275: units of 4 s
        seen = journey(deployment)
        errors = bed.errors()
        narrator.say("taking everything down")
    # What Open vSwitch says while its interfaces are taken away is no longer looked at, what programs say is.
    return seen, errors + [error for error in bed.errors() if error not in errors]


def table(found: dict[str, object], made: list[Check]) -> str:
    """Return the comparison and the promises as text, as they are printed at the end."""
    anchor = found["anchor"]
    lines = ["", f"{'':50}{f'via {anchor}':>16}{'with hoaflow':>16}"]
    for title, via, direct, unit in ROWS:
        lines.append(f"{title.format(anchor=anchor):50}{f'{found[via]}{unit}':>16}{f'{found[direct]}{unit}':>16}")
    activation = found["activation_ms"]
    assert isinstance(activation, list)
    alone = (
        (f"packets lost while the {anchor} was dead", found["lost_packets_ha_killed"]),
        ("spoofed packets sent / passed", f"{found['spoofed_sent']} / {found['spoofed_passed']}"),
        ("flows confirmed after the acknowledgement (median)", f"{statistics.median(activation):.0f} ms"),
    )
    lines += [f"{title:50}{figure!s:>32}" for title, figure in alone]
    lines.append("")
    lines += [f"{'kept  ' if check.kept else 'BROKEN'}  {check.promise}: {check.figure}" for check in made]
    return "\n".join(lines)


def run(directory: Path, delay: float, rate: float, slowdown: float, variant: str) -> int:
    """Run the demo, write its report and return the exit status; `delay` and `rate` are those without slowdown."""
    quiet_logs()
    narrator = Narrator()
    delay, rate = delay * slowdown, rate / slowdown

    def journey(deployment: Deployment) -> Observations:
        return Journey(deployment, narrator, directory, rate, slowdown).run()

    seen, errors = observe(narrator, directory, delay, slowdown, VARIANTS[variant], journey)
    found = figures(seen)
    made = checks(found, errors)
    report = {
        **found,
        "linux": platform.release(),
        "backends": {router: backend._asdict() for router, backend in seen.backends.items()},
        "slowdown": slowdown,
        "core_delay_ms": delay,
        "packets_per_second": rate,
        "seconds": round(narrator.elapsed(), 1),
        "log_errors": errors,
        "checks": [check._asdict() for check in made],
    }
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    write_page(directory / "report.html", seen, report)
    return conclude(narrator, table(found, made), made, errors, directory)


def run_distributed(directory: Path, delay: float, rate: float, slowdown: float) -> int:
    """Run the demo of distributed mobility, write its figures and return the exit status; parameters as for `run`."""
    quiet_logs()
    narrator = Narrator()
    delay, rate = delay * slowdown, rate / slowdown

    def journey(deployment: DmmDeployment) -> distributed.Seen:
        return distributed.DistributedJourney(deployment, narrator, directory, rate, slowdown).run()

    seen, errors = observe(narrator, directory, delay, slowdown, (DmmTopo, DmmDeployment), journey)
    found = distributed_figures.figures(seen)
    made = distributed_figures.checks(found, errors)
    report = {
        **found,
        "slowdown": slowdown,
        "core_delay_ms": delay,
        "packets_per_second": rate / distributed.RATE_SHARE,
        "log_errors": errors,
        "checks": [check._asdict() for check in made],
    }
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return conclude(narrator, distributed_figures.table(found, made), made, errors, directory)


def conclude(narrator: Narrator, text: str, made: list[Check], errors: list[str], directory: Path) -> int:
    """Print the table, the errors, and where the reports are; return the exit status."""
    narrator.text(text)
    for error in errors:
        narrator.text(f"        {error}")
    reports = ", ".join(str(path) for path in sorted(directory.glob("report.*")))
    narrator.text(f"\n{reports}; logs in {directory / 'logs'}")
    return 0 if all(check.kept for check in made) else 1


def run_in_guest(directory: Path, delay: float, rate: float, slowdown: float, variant: str) -> int:
    """Run the demo on Debian's stock kernel under emulation, with the same output directory."""
    # Without real-time priorities: nothing else runs there, and what starts would get no time beside a slow network.
    command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    command += [sys.executable, "-m", "tools.demo", "--output", str(directory)]
    command += ["--delay", str(delay), "--rate", str(rate), "--slowdown", str(slowdown)]
    command += [] if variant == MIPV6 else [f"--{variant}"]
    return guest.run(command, GUEST_TIME_LIMIT, [directory])


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return 0 if every promise was kept, 1 if not or on failure, 128 + N after signal N."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("build/demo"), help="directory of report and logs (default: build/demo)"
    )
    parser.add_argument(
        "--delay", type=positive, default=DELAY, help=f"between core and anchor, in ms (default: {DELAY:g})"
    )
    parser.add_argument("--rate", type=positive, default=RATE, help=f"packets a second each way (default: {RATE:g})")
    parser.add_argument(
        "--kernel",
        choices=(HOST, VM),
        default=HOST,
        help="this host's kernel, or Debian's stock kernel under emulation, for the flow backend (default: host)",
    )
    parser.add_argument(
        "--slowdown",
        type=positive,
        metavar="FACTOR",
        help="for slow machines: multiplies delay and pauses, divides the rate (default: "
        f"{SLOWDOWN[HOST]:g}, with --kernel vm {SLOWDOWN[VM]:g})",
    )
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument(
        "--proxy",
        dest="variant",
        action="store_const",
        const=PROXY,
        default=MIPV6,
        help="Proxy Mobile IPv6: a local mobility anchor and two mobile access gateways in place of the home agent",
    )
    protocol.add_argument(
        "--ipv4",
        dest="variant",
        action="store_const",
        const=IPV4,
        help="Mobile IPv4: home agent and mobile node, all with IPv4 addresses",
    )
    protocol.add_argument(
        "--dmm",
        dest="variant",
        action="store_const",
        const=DMM,
        help="distributed mobility (RFC 7333): a home agent at each of three sites, against a central one",
    )
    arguments = parser.parse_args(argv)
    if os.geteuid():
        parser.error("root is needed, for namespaces and a switch of its own: use `make demo`, or sudo")
    directory = arguments.output.resolve()
    if arguments.kernel == VM and guest.BUILD not in directory.parents:
        parser.error(f"--output: with --kernel vm, expected a directory below {guest.BUILD}, got {directory}")
    slowdown = SLOWDOWN[arguments.kernel] if arguments.slowdown is None else arguments.slowdown
    settings = directory, arguments.delay, arguments.rate, slowdown
    if arguments.kernel == VM:
        demo = partial(run_in_guest, *settings, arguments.variant)
    elif arguments.variant == DMM:
        demo = partial(run_distributed, *settings)
    else:
        demo = partial(run, *settings, arguments.variant)
    try:
        with reserved(directory):
            return guarded(demo, directory)
    except InUse as error:
        parser.error(str(error))


def guarded(demo: Callable[[], int], directory: Path) -> int:
    """Call `demo`; print a failure or signal as one line and return the exit status."""
    raise_interrupted()
    try:
        return demo()
    except Interrupted as interrupted:
        print(f"\ninterrupted by {interrupted}; everything was taken down", file=sys.stderr)
        return interrupted.status
    except FAILURES as error:
        print(f"\nthe demo failed: {error}\nlogs are in {directory / 'logs'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
