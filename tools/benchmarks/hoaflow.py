# SPDX-License-Identifier: Apache-2.0
"""Run the controller with bridges of a real Open vSwitch, and play ha-bridge and the tunnel agents.

Bridge and agents do what the real ones do, on time: they announce every RENEW seconds, and report the whole binding
cache when the controller wants it.
"""

import http.client
import json
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ovs import Ovs
from tools.benchmarks.ports import OPENFLOW, REST
from tools.benchmarks.processes import Stopwatch
from tools.benchmarks.rest import RestClient, Unexpected
from tools.benchmarks.ryu import RyuManager
from tools.benchmarks.switch import FlowCounter, wait_for_flows
from tools.benchmarks.workload import Population

LEASE = 10  # seconds, as ha-bridge has it by default
RENEW = 3.0  # seconds, as ha-bridge has it by default
APPLY_TIMEOUT = 300.0  # seconds, for a snapshot to be applied
MAC = "02:00:00:00:00:01"
DECAPSULATION = "fdb1:b792:6c09::41"
TRANSMIT, RECEIVE = 1, 2  # OpenFlow numbers of a router's tunnel ports
# Flows in the tables after the first that no binding is behind: of the pipeline, and of a router with a backend.
MISSES, UNMARK = 3, 1


@dataclass(frozen=True, slots=True)
class Bulk:
    """Time a snapshot: its start (CLOCK_MONOTONIC), seconds until the answer, and until all was confirmed.

    `cpu` is the processor time by process, in seconds.
    """

    started: float
    answered: float
    confirmed: float
    cpu: dict[str, float]


def bridge(dpid: int) -> str:
    """Return the name of the Open vSwitch bridge with datapath id DPID."""
    return f"br{dpid}"


def add_router(ovs: Ovs, dpid: int) -> None:
    """Add a bridge with the ports that a router's `flow` backend would have.

    They are plain ports: nothing is sent through them, and to OpenFlow one is like the other.
    """
    ovs.add_bridge(bridge(dpid), dpid)
    ovs.add_port(bridge(dpid), f"tx{dpid}", TRANSMIT)
    ovs.add_port(bridge(dpid), f"rx{dpid}", RECEIVE)


def raise_ports(ovs: Ovs, dpid: int) -> None:
    """Bring up a router's ports after Open vSwitch has made them again; while down, they are no tunnel ports."""
    for port in (f"tx{dpid}", f"rx{dpid}"):
        ovs.run("ip", "link", "set", "dev", port, "up")


def set_controller(ovs: Ovs, dpids: Iterable[int], openflow_port: int) -> None:
    """Connect bridges to the controller at `openflow_port`, without waiting out a backoff.

    A bridge that had one before has waited in vain, after which Open vSwitch waits up to 8 s (3.1 whatever its
    `max_backoff` says). The bridges' flows are gone with that.
    """
    target = f"tcp:127.0.0.1:{openflow_port}"
    ovs.vsctl(*(word for dpid in dpids for word in ("--", "set-controller", bridge(dpid), target)))


def unset_controller(ovs: Ovs, dpids: Iterable[int]) -> None:
    """Remove the bridges' controllers; does nothing if they have none."""
    ovs.vsctl(*(word for dpid in dpids for word in ("--", "del-controller", bridge(dpid))))


def switches(ovs: Ovs) -> dict[str, int]:
    """Return the process id of `ovs-vswitchd` by that name, for a `Stopwatch`."""
    return {"ovs-vswitchd": int((ovs.directory / "ovs-vswitchd.pid").read_text())}


class Hoaflow:
    """Run a controller with the bridges `dpids`, and announce home agents and backends, while the context lasts.

    It can be killed and started again.
    """

    def __init__(self, ovs: Ovs, directory: Path, dpids: list[int]) -> None:
        """Prepare the controller; `dpids` are of bridges made by `add_router`."""
        self.ovs = ovs
        self.dpids = dpids
        self.populations: list[Population] = []
        self._held: dict[Population, int] = {}
        self.missed_renewals: list[str] = []
        self.rest = RestClient(ovs, REST)
        self.controller = RyuManager(
            ovs, directory / "controller.log", "controller/app.py", OPENFLOW, REST, self._answers
        )
        self._renewals = RestClient(ovs, REST)
        self._renewing: threading.Thread | None = None
        self._ended = threading.Event()
        self._reporting = threading.Lock()
        self._counting = ExitStack()
        self._counters: list[FlowCounter] = []

    def __enter__(self) -> "Hoaflow":
        try:
            self._counters = [self._counting.enter_context(FlowCounter(self.ovs, bridge(dpid))) for dpid in self.dpids]
            self.start()
            set_controller(self.ovs, self.dpids, OPENFLOW)
            # The flows that are there without any binding.
            wait_for_flows(self._counters, MISSES, APPLY_TIMEOUT)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._counting.close()
        unset_controller(self.ovs, self.dpids)

    @property
    def pids(self) -> dict[str, int]:
        """Return the processes that take processor time, by name: the controller and `ovs-vswitchd`."""
        return {"controller": self.controller.pid} | switches(self.ovs)

    def start(self) -> None:
        """Start the controller, then announce home agents and backends every RENEW seconds."""
        self.controller.start()
        self._announce(self.rest)
        self._ended.clear()
        self._renewing = threading.Thread(target=self._renew, name="renewals")
        self._renewing.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the controller by signal `number`, and stop announcing."""
        self._ended.set()
        self.controller.kill(number)  # first, for a renewal may wait for its answer
        if self._renewing is not None:
            self._renewing.join()
            self._renewing = None
        self.rest.close()
        self._renewals.close()

    def add(self, population: Population) -> None:
        """Announce another home agent without reporting its bindings."""
        self.populations.append(population)
        self._announce(self.rest)

    def apply(self, population: Population) -> Bulk:
        """Report a home agent's whole binding cache and wait until the switches have confirmed all flows.

        The switches tell the number of their flows; then the controller is asked for the last binding, when it is
        confirmed. Raises Unexpected, TimeoutError.
        """
        now = time.monotonic()
        body, last = population.report(now), population.binding(len(population) - 1, now)
        clock = Stopwatch(self.pids)
        answer = self._report(self.rest, population, body)
        answered = clock.elapsed()
        if answer["refused"]:
            raise Unexpected(f"the snapshot was refused in part: {answer['refused'][:3]}")
        self.wait_for_flows(population)
        self.activate(last)
        return Bulk(clock.started, answered, clock.elapsed(), clock.cpu())

    def report(self, population: Population, nodes: Iterable[int] | None = None) -> None:
        """Report the bindings of these mobile nodes of a home agent (None: all), without waiting for their flows."""
        self._report(self.rest, population, population.report(time.monotonic(), nodes))

    def activate(self, binding: dict[str, object]) -> None:
        """Report one binding and wait until it is active. Raises Unexpected if it does not become so."""
        status, answer = self.rest.call("POST", "/v1/bindings?wait=active", json.dumps(binding).encode())
        if status not in (200, 201):
            raise Unexpected(f"expected an active binding (200, 201), got {status}: {answer}")

    def switch_restarted(self) -> None:
        """Bring the ports up and count flows again, after Open vSwitch has been started again."""
        self._counting.close()
        for dpid in self.dpids:
            raise_ports(self.ovs, dpid)
        self._counters = [self._counting.enter_context(FlowCounter(self.ovs, bridge(dpid))) for dpid in self.dpids]

    def clear(self, population: Population) -> None:
        """Report an empty binding cache and wait until its flows are gone."""
        self._report(self.rest, population, b'{"bindings": []}')
        self.wait_for_flows(population, 0)

    def holds(self, population: Population) -> bool:
        """Return whether the controller holds this population's bindings, and no others."""
        return {each: count for each, count in self._held.items() if count} == {population: len(population)}

    def wait_for_flows(self, population: Population, bindings: int | None = None) -> None:
        """Wait until every switch has the flows of `bindings` bindings of a home agent (None: of all).

        Flows of other home agents that were waited for before count as well. Raises TimeoutError.
        """
        self._held[population] = len(population) if bindings is None else bindings
        expected = MISSES + UNMARK + sum(each.flows(held) for each, held in self._held.items())
        wait_for_flows(self._counters, expected, APPLY_TIMEOUT)

    def _answers(self) -> bool:
        return self.rest.call("GET", "/healthz")[0] == 200

    def _report(self, rest: RestClient, population: Population, body: bytes) -> Any:
        with self._reporting:
            return rest.ask("PUT", f"/v1/home-agents/{population.home_agent}/bindings", body)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW):
            try:
                for population in self._announce(self._renewals):
                    # Its lease had lapsed. If a snapshot is on its way already, that one will do.
                    if self._held.get(population) and not self._reporting.locked():
                        self._report(self._renewals, population, population.report(time.monotonic()))
            except (OSError, http.client.HTTPException, Unexpected) as error:
                if not self._ended.is_set():
                    self.missed_renewals.append(repr(error))

    def _announce(self, rest: RestClient) -> list[Population]:
        """Announce home agents and backends; return the home agents whose snapshot the controller wants."""
        wanted = []
        for population in self.populations:
            body = {"home_prefixes": [population.home_prefix], "lease": LEASE}
            answer = rest.ask("PUT", f"/v1/home-agents/{population.home_agent}", body)
            if answer["snapshot"] == "wanted":
                wanted.append(population)
        for dpid in self.dpids:
            flow = {
                "transmit_port": f"tx{dpid}",
                "receive_port": f"rx{dpid}",
                "decapsulation_address": DECAPSULATION,
                "decapsulation_mac": MAC,
                "router_mac": MAC,
            }
            rest.ask("PUT", f"/v1/routers/{dpid:016x}/tunnels/ack", {"revision": 0, "flow": flow})
        return wanted
