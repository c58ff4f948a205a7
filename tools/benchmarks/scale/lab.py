# SPDX-License-Identifier: Apache-2.0
"""Set up what is measured: many switches in one `ovs-vswitchd`, one controller, bridges and tunnel agents.

The switches are Open vSwitch's own on its dummy datapath: no devices, no namespaces; tables, bundles and meters are
the real ones. Bridges and agents are played as often as the real ones report with the leases that are set here.
"""

import http.client
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.support.controller import REST_PORT, Controller
from tests.support.ovs import Ovs
from tools.benchmarks.frames import frame
from tools.benchmarks.generator import Load, Result
from tools.benchmarks.hoaflow import DECAPSULATION, MAC, RECEIVE, TRANSMIT, bridge, switches
from tools.benchmarks.lab import LIFETIME, WAITING, Generator
from tools.benchmarks.rest import RestClient, Unexpected, prepared
from tools.benchmarks.scale.packets import Packets, give_precedence_to_others
from tools.benchmarks.workload import FLOWS_PER_BINDING, Population, spread

HOME_AGENTS, FIRST_NUMBER = 20, 0x101
LEASE, RENEW = 60, 20.0  # seconds: of home agents
AGENT_LEASE, ACKNOWLEDGE = 300, 100.0  # seconds: of tunnel agents
CARRIED_BY = 5  # routers that see the packets of one home address: 0.5 % of a thousand
AT_ONCE = 50  # bridges that are added in one transaction
WITHIN, POLL = 900.0, 1.0  # seconds
SETTINGS = f"""
install = on-demand
idle_after = 3600
agent_lease = {AGENT_LEASE}
longest_lease = {LEASE}
switches_without_agent = 4096
largest_body = 268435456
request_timeout = 300
requests_per_second = 100000
read_back_every = 3600
"""
_VALUE = re.compile(r"^(hoaflow_\w+)(?:\{([^}]*)\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: `active` home addresses have traffic, `handovers` at `rate` a second for each figure.

    `scanned` of the routers, if there are others, see `packets` a second to random addresses, each, and nothing else.
    """

    routers: int
    bindings: int
    active: int
    handovers: int
    rate: float
    scanned: int
    packets: float


class ScaleLab:
    """Switches, a controller, and whoever reports to it, as long as the context lasts."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.plan = plan
        self.dpids = list(range(1, plan.routers + 1))
        self.connected: list[int] = []
        size, expires = -(-plan.bindings // HOME_AGENTS), time.monotonic() + LIFETIME
        self.populations = [Population(FIRST_NUMBER + number, size, expires) for number in range(HOME_AGENTS)]
        self.held = 0  # bindings of each home agent
        self.ready = False  # whether everybody has reported
        self.lapsed = 0  # leases
        (directory / "ovs").mkdir(parents=True)
        scanned = min(plan.scanned, plan.routers - 1)
        self.scanned, self.carrying = self.dpids[:scanned], self.dpids[scanned:]
        self.ovs = Ovs(directory / "ovs", "dummy")
        # What `ovs-vswitchd` does for packets it does not do for OpenFlow: scanned switches are to delay no others.
        (directory / "scanned").mkdir()
        self.scanned_ovs = Ovs(directory / "scanned", "dummy", beside=self.ovs)
        self.controller = Controller(self.ovs, directory, SETTINGS)
        self.rest = RestClient(self.ovs, REST_PORT)
        self.missed: list[str] = []  # renewals
        self._renewals = RestClient(self.ovs, REST_PORT)
        self._renewing = threading.Lock()  # held by whoever uses `_renewals`
        self._ended = threading.Event()
        self._parts = ExitStack()
        self._acknowledged = 0  # reports of agents so far

    def __enter__(self) -> "ScaleLab":
        with ExitStack() as parts:
            parts.enter_context(self.ovs)
            parts.enter_context(self.scanned_ovs)
            give_precedence_to_others(*map(int, os.listdir(f"/proc/{switches(self.scanned_ovs)['ovs-vswitchd']}/task")))
            for ovs, dpids in self._switches(self.dpids):
                self._add_bridges(ovs, dpids)
            parts.enter_context(self.controller)
            self.packets = Packets(self.ovs.directory / "vswitchd.ctl")
            parts.callback(self.packets.close)
            renewing = threading.Thread(target=self._renew, daemon=True)
            renewing.start()
            parts.callback(renewing.join)
            parts.callback(self._ended.set)
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def _switches(self, dpids: Sequence[int]) -> Iterator[tuple[Ovs, Sequence[int]]]:
        """Iterate over some switches, as many as go into one transaction at a time."""
        scanned = set(self.scanned)
        for ovs, group in (
            (self.scanned_ovs, [each for each in dpids if each in scanned]),
            (self.ovs, [each for each in dpids if each not in scanned]),
        ):
            for begin in range(0, len(group), AT_ONCE):
                yield ovs, group[begin : begin + AT_ONCE]

    @staticmethod
    def _add_bridges(ovs: Ovs, dpids: Iterable[int]) -> None:
        words: list[str] = []
        for dpid in dpids:
            name = bridge(dpid)
            settings = "datapath_type=dummy", "fail_mode=secure", "protocols=OpenFlow13,OpenFlow15"
            words += ["--", "add-br", name, "--", "set", "bridge", name, *settings]
            words += [f"other-config:datapath-id={dpid:016x}", "other-config:disable-in-band=true"]
            for port, number in ((f"tx{dpid}", TRANSMIT), (f"rx{dpid}", RECEIVE)):
                words += ["--", "add-port", name, port, "--", "set", "interface", port]
                words += ["type=dummy", f"ofport_request={number}"]
        ovs.vsctl(*words)

    # What bridges and agents report.

    def connect(self, dpids: list[int]) -> None:
        """Have the agents of some routers report, connect their switches, and wait until all their gates are open."""
        for dpid in dpids:
            self._acknowledge(self.rest, dpid)
        self.connected += dpids
        for ovs, group in self._switches(dpids):
            words: list[str] = []
            for dpid in group:
                words += ["--", "set-controller", bridge(dpid), "tcp:127.0.0.1:6653"]
                words += ["--", "set", "controller", bridge(dpid), "max_backoff=1000", "inactivity_probe=60000"]
            ovs.vsctl(*words)
        self.ready = True
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until all routers are in step, and all gates open. Raises TimeoutError."""
        await_slowly("all gates are open", self._is_ready)

    def announce(self) -> None:
        """Renew all home agents' leases."""
        for population in self.populations:
            self._announce(self.rest, population)

    def load(self, bindings: int) -> None:
        """Report snapshots of all home agents with so many bindings in all. Raises Unexpected."""
        self.held = -(-bindings // HOME_AGENTS)
        for population in self.populations:
            self._report(self.rest, population)

    def restart(self) -> None:
        """Kill the controller, start it anew, and have everybody report, until all routers are in step."""
        self.ready = False
        with self._renewing:  # as real ones, they report when the controller is there again
            self.controller.kill()
            self.controller.start()
            for client in (self.rest, self._renewals):
                client.close()
        for dpid in self.connected:
            self._acknowledge(self.rest, dpid)
        self.announce()
        self.load(self.held * HOME_AGENTS)
        self.ready = True
        self.wait_ready()

    def _is_ready(self) -> bool:
        return self.rest.call("GET", "/readyz")[0] == 200

    def _renew(self) -> None:
        """Renew leases of home agents and tunnel agents, spread evenly over time, until the end."""
        turn, begun = 0, time.monotonic()
        while not self._ended.wait(RENEW / HOME_AGENTS):
            turn += 1
            try:
                with self._renewing:
                    population = self.populations[turn % HOME_AGENTS]
                    if self._announce(self._renewals, population) and self.ready:
                        self.lapsed += 1  # on a machine that is too slow
                        self._report(self._renewals, population)
                    due = int(len(self.connected) * (time.monotonic() - begun) / ACKNOWLEDGE)
                    for place in range(self._acknowledged, due):
                        self._acknowledge(self._renewals, self.connected[place % len(self.connected)])
                    self._acknowledged = due
            except (OSError, http.client.HTTPException, Unexpected) as error:
                if not self._ended.is_set():
                    self.missed.append(repr(error))

    def _announce(self, rest: RestClient, population: Population) -> bool:
        """Renew a home agent's lease; tell whether the controller wants its snapshot."""
        body = {"home_prefixes": [population.home_prefix], "lease": LEASE}
        return bool(rest.ask("PUT", f"/v1/home-agents/{population.home_agent}", body)["snapshot"] == "wanted")

    def _report(self, rest: RestClient, population: Population) -> None:
        body = population.report(time.monotonic(), range(self.held))
        answer = rest.ask("PUT", f"/v1/home-agents/{population.home_agent}/bindings", body)
        if answer["refused"]:
            raise Unexpected(f"the snapshot was refused in part: {answer['refused'][:3]}")

    def _acknowledge(self, rest: RestClient, dpid: int) -> None:
        flow = {
            "transmit_port": f"tx{dpid}",
            "receive_port": f"rx{dpid}",
            "decapsulation_address": DECAPSULATION,
            "decapsulation_mac": MAC,
            "router_mac": MAC,
        }
        rest.ask("PUT", f"/v1/routers/{dpid:016x}/tunnels/ack", {"revision": 0, "flow": flow})

    # Traffic and handovers.

    @property
    def carried_by(self) -> int:
        """How many routers see the packets of one home address."""
        return min(CARRIED_BY, len(self.carrying))

    def active(self) -> list[tuple[Population, int]]:
        """Return the mobile nodes with traffic: the first ones of each home agent."""
        each = min(-(-self.plan.active // HOME_AGENTS), self.held)
        return [(population, node) for population in self.populations for node in range(each)]

    def warm(self) -> None:
        """Send packets of the active mobile nodes until their routers have the flows. Raises TimeoutError."""
        wanted = self._settled() + FLOWS_PER_BINDING * len(self.active()) * self.carried_by
        chance = Random(7)
        frames: dict[int, list[str]] = {dpid: [] for dpid in self.carrying}
        for population, node in self.active():
            address = str(population.binding(node, time.monotonic())["home_address"])
            for dpid in chance.sample(self.carrying, self.carried_by):
                frames[dpid].append(frame(address).hex())

        def all_there() -> bool:
            # Again, in another order, if meters have held some back, or a bridge's port: it has room for a hundred.
            for dpid, each in frames.items():
                chance.shuffle(each)
                self.packets.receive(dpid, each)
            return self.flows() >= wanted

        await_slowly("all flows are there", all_there)

    def _settled(self) -> int:
        """Return how many flows there are, once that does not change: meters and what needs them come last."""
        before = -1
        while (found := self.flows()) != before:
            before = found
            time.sleep(POLL)
        return found

    def flows(self) -> int:
        """Return how many flows all switches have, by the controller's word."""
        return round(sum(self.metrics("hoaflow_flows").values()))

    def metrics(self, name: str) -> dict[str, float]:
        """Return a metric's values by their labels."""
        text = self.controller.text("/metrics").body
        return {found[2] or "": float(found[3]) for found in _VALUE.finditer(text) if found[1] == name}

    def metric(self, name: str) -> float:
        """Return the sum of a metric's values."""
        return sum(self.metrics(name).values())

    def hand_over(self, turn: int) -> Result:
        """Move active mobile nodes at the plan's rate, and wait until each is active. Raises Unexpected."""
        active = self.active()
        chosen = [active[place] for place in spread(len(active), min(self.plan.handovers, len(active)), turn)]
        requests = []
        for population, node in chosen:
            population.move([node])
            requests.append(prepared("POST", WAITING, population.binding(node, time.monotonic())))
        generator = Generator(self.ovs, Load(REST_PORT, requests, self.plan.rate))
        try:
            result = generator.result()
        finally:
            generator.end()
        if wrong := [status for status in result.statuses if status not in (200, 201)]:
            raise Unexpected(f"{len(wrong)} of {len(result.statuses)} handovers did not become active: {wrong[0]}")
        return result

    def hand_over_one(self) -> None:
        """Move one of the active mobile nodes, and wait until it is active. Raises Unexpected."""
        population, node = self.active()[0]
        population.move([node])
        self.rest.ask("POST", WAITING, population.binding(node, time.monotonic()))

    @property
    def pids(self) -> dict[str, int]:
        """Return the processes that take processor time, by name."""
        return {"controller": self.controller.pid} | switches(self.ovs)


def await_slowly(what: str, probe: Callable[[], bool]) -> None:
    """Wait until `probe` is true, which costs the controller much. Raises TimeoutError after `WITHIN` seconds."""
    ends = time.monotonic() + WITHIN
    while not probe():
        if time.monotonic() > ends:
            raise TimeoutError(f"after {WITHIN:g} s still not: {what}")
        time.sleep(POLL)
