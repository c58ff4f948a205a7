# SPDX-License-Identifier: Apache-2.0
"""Measure both ways in which the `route` backend encapsulates: `make bench-route`; table and build/bench-route.json.

seg6's routes write IPv6 outer headers, the BPF program with its map IPv4 ones. Each carries home addresses of both
families. The ways take turns within each round, and the best of all rounds counts: what else the machine does can only
slow them.

- activation: to set up one binding, and many in one call, elapsed and processor time of the agent;
- memory: what the kernel takes for each of many bindings, by its slabs;
- reading all of them, as the agent does after its start;
- packets: processor time to send one into the endpoint and have it forwarded through it to the router's kernel, which
  drops it. With many bindings, and for a home address that has none.

The pairs of addresses in nftables cost the same with both and are left out.
"""

import argparse
import contextlib
import ipaddress
import json
import os
import platform
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hoaflow.router.encapsulation import Encapsulation, encapsulation
from hoaflow.router.endpoint import Endpoint
from hoaflow.router.probes import NO_PROTOCOL, frame, ipv4, ipv6
from hoaflow.tunnel import links
from hoaflow.tunnel.namespace import in_namespace
from tests.support.ipv4_lab import COA4, HA4, address4
from tests.support.ovs import Ovs
from tests.support.router_lab import CN, CN4, COA, HA, RouterLab

FIRST_HOMES = {"IPv6": ipaddress.ip_address("2001:db8:99::1:0"), "IPv4": ipaddress.ip_address("10.128.0.0")}
WITHOUT_BINDING = {"IPv6": "2001:db8:99::bad", "IPv4": "10.127.0.1"}
ETHERNET = 14  # octets
PACKET = 1400  # octets of the packet inside


class Way(NamedTuple):
    """A way to encapsulate, and the family of home addresses."""

    name: str
    home_agent: str
    care_of_address: str
    family: str

    def __str__(self) -> str:
        return f"{self.name}, {self.family}"


WAYS = [
    Way(name, home_agent, care_of_address, family)
    for name, home_agent, care_of_address in (("seg6 routes", HA, COA), ("BPF map", HA4, COA4))
    for family in FIRST_HOMES
]
Figures = dict[str, dict[str, float]]  # by way and what is measured


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.encapsulation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--bindings", type=int, default=100_000, help="of one way at a time (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--packets", type=int, default=20_000, help="in each round (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench-route.json"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory, Ovs(Path(directory)) as ovs, RouterLab(ovs) as lab:
        address4(lab)
        for home_agent in (HA, HA4):
            lab.setup(home_agent=home_agent)
        for care_of_address in (COA, COA4):
            lab.ip("rt", "route", "add", "blackhole", care_of_address)
        for prefix in ("2001:db8:99::/64", "10.0.0.0/8"):
            lab.ip("rt", "route", "replace", "blackhole", prefix)
        found = measure(lab, arguments.bindings, arguments.rounds, arguments.packets)
    print(table(found, arguments.bindings), flush=True)
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "bindings": arguments.bindings,
        "rounds": arguments.rounds,
        "packets": arguments.packets,
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps({**facts, "figures": found}, indent=2))
    return 0


def measure(lab: RouterLab, bindings: int, rounds: int, packets: int) -> Figures:
    """Measure all ways; the figures are in seconds and octets, each for one binding or packet."""
    found: Figures = {str(way): {} for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            _least(found[str(way)], _activated(lab.endpoint(way.home_agent), way, max(1, bindings // 10)))
    for way in WAYS:
        endpoint = lab.endpoint(way.home_agent)
        with _filled(endpoint, way, bindings) as costs:
            found[str(way)] |= costs
            for _ in range(rounds):
                for bound in (True, False):
                    _least(found[str(way)], _sent(lab, endpoint, way, packets, bound))
    return found


def table(found: Figures, bindings: int) -> str:
    """Return the figures as a table."""
    rows = {
        "set up 1 binding (ms)": ("one", 1e3),
        f"each of {bindings // 10}, elapsed (ms)": ("each", 1e3),
        f"each of {bindings // 10}, agent's processor (ms)": ("each_processor", 1e3),
        f"each of {bindings}, elapsed (ms)": ("full", 1e3),
        f"kernel memory at {bindings}, each (kB)": ("memory", 1e-3),
        f"read all {bindings} (s)": ("read", 1.0),
        "processor time of a packet (µs)": ("packet", 1e6),
        "the same without tunnel (µs)": ("packet_without", 1e6),
    }
    lines = [" " * 44 + "".join(f"{name:>20}" for name in found)]
    for text, (figure, factor) in rows.items():
        lines.append(f"{text:44}" + "".join(f"{each[figure] * factor:20.4f}" for each in found.values()))
    return "\n".join(lines)


def _activated(endpoint: Endpoint, way: Way, many: int) -> dict[str, float]:
    homes = _homes(way, many)
    with encapsulation(endpoint.record) as tunnels:
        began = time.perf_counter()
        _put(tunnels, dict.fromkeys(homes[:1], way.care_of_address))
        one = time.perf_counter() - began
        began, processor = time.perf_counter(), time.process_time()
        _put(tunnels, dict.fromkeys(homes, way.care_of_address))
        each, each_processor = (time.perf_counter() - began) / many, (time.process_time() - processor) / many
        tunnels.remove_all(homes)
    return {"one": one, "each": each, "each_processor": each_processor}


@contextlib.contextmanager
def _filled(endpoint: Endpoint, way: Way, bindings: int) -> Iterator[dict[str, float]]:
    """Set up many bindings; yields what that costs."""
    homes = _homes(way, bindings)
    with encapsulation(endpoint.record) as tunnels:
        before, began = _slabs(), time.perf_counter()
        _put(tunnels, dict.fromkeys(homes, way.care_of_address))
        full, memory = (time.perf_counter() - began) / bindings, (_slabs() - before) / bindings
        began = time.perf_counter()
        assert len(tunnels.installed()) == bindings
        yield {"full": full, "memory": memory, "read": time.perf_counter() - began}
        tunnels.remove_all(homes)


def _sent(lab: RouterLab, endpoint: Endpoint, way: Way, packets: int, bound: bool) -> dict[str, float]:
    """Send packets to the last home address, or one without binding, and see all leave the endpoint as they should."""
    make, correspondent, header = (ipv6, CN, 40) if way.family == "IPv6" else (ipv4, CN4, 20)
    home = _homes(way, 2)[-1] if bound else WITHOUT_BINDING[way.family]
    sent = frame(endpoint.mac, make(correspondent, home, NO_PROTOCOL, bytes(PACKET - header)))
    outer = (20 if endpoint.is_ipv4 else 40) if bound else 0
    before = _received(lab, endpoint)

    def send() -> float:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
            link.bind((endpoint.port, 0))
            began = time.thread_time()
            for _ in range(packets):
                link.send(sent)
            return time.thread_time() - began

    took = in_namespace(lab.ovs.netns, send)
    arrived, octets = (now - then for now, then in zip(_received(lab, endpoint), before, strict=True))
    # Others are a few: neighbour discovery. Some may be lost in the links' queues.
    assert packets * 0.9 < arrived < packets * 1.1, f"{arrived} of {packets} packets came out of the endpoint"
    assert abs(octets / arrived - (ETHERNET + PACKET + outer)) < outer / 2 + 5, f"{octets / arrived} octets each"
    return {"packet" if bound else "packet_without": took / packets}


def _received(lab: RouterLab, endpoint: Endpoint) -> tuple[int, int]:
    """Return how many packets and octets the router's kernel has got from the endpoint."""
    with links.netlink(endpoint.kernel_namespace) as netlink:
        (index,) = netlink.link_lookup(ifname=endpoint.kernel_port)
        found = netlink.get_links(index)[0].get_attr("IFLA_STATS64")
    return found["rx_packets"], found["rx_bytes"]


def _homes(way: Way, number: int) -> list[str]:
    return [str(FIRST_HOMES[way.family] + each) for each in range(number)]


def _put(tunnels: Encapsulation, care_of_addresses: dict[str, str]) -> None:
    refused = tunnels.put_all(care_of_addresses)
    assert not refused, next(iter(refused.items()))


def _least(found: dict[str, float], figures: dict[str, float]) -> None:
    """Take over the figures that are the least until now."""
    for figure, value in figures.items():
        found[figure] = min(value, found.get(figure, value))


def _slabs() -> int:
    """Return the octets that the kernel's objects take."""
    (kilobytes,) = re.findall(r"(?m)^Slab: +(\d+) kB$", Path("/proc/meminfo").read_text())
    return int(kilobytes) * 1024


if __name__ == "__main__":
    sys.exit(main())
