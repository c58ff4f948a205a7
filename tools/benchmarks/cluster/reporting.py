# SPDX-License-Identifier: Apache-2.0
"""Play the bridge and the tunnel agents of a cluster: each member is told everything, and none delays another."""

import http.client
import json
import queue
import threading
import time
from collections.abc import Iterable
from ipaddress import ip_address

from hoaflow.scope import THIS_MEMBER
from tests.support.cluster import Member
from tests.support.controller import REST_PORT
from tests.support.ovs import Ovs
from tools.benchmarks.hoaflow import DECAPSULATION, LEASE, MAC
from tools.benchmarks.rest import RestClient, Unexpected
from tools.benchmarks.workload import Population

RENEW = 2.0  # seconds, as ha-bridge has it with several controllers
PAUSE = 0.2  # seconds, after a member has not answered


class Reporter:
    """Tell one member, in a thread, of home agent, routers and bindings, and again whenever it has started anew."""

    def __init__(self, ovs: Ovs, member: Member, population: Population, dpids: Iterable[int]) -> None:
        self.member = member
        self._population, self._dpids = population, list(dpids)
        self._rest = RestClient(ovs, REST_PORT, member.address, THIS_MEMBER)
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reaches = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def post(self, body: bytes) -> None:
        """Send a report as soon as possible; a member that does not answer gets a snapshot instead, later."""
        if self._reaches:
            self._queue.put(body)

    def end(self) -> None:
        """Stop reporting."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        due = 0.0
        while True:
            try:
                body = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                body = b""
            if body is None:
                self._rest.close()
                return
            try:
                if body:
                    self._rest.ask("POST", "/v1/bindings", body)
                if time.monotonic() >= due:
                    self._announce()
                    due = time.monotonic() + RENEW
            except (OSError, http.client.HTTPException, Unexpected):
                self._reaches = False
                due = time.monotonic() + PAUSE

    def _announce(self) -> None:
        path = f"/v1/home-agents/{self._population.home_agent}"
        answer = self._rest.ask("PUT", path, {"home_prefixes": [self._population.home_prefix], "lease": LEASE})
        for dpid in self._dpids:
            flow = {
                "transmit_port": f"tx{dpid}",
                "receive_port": f"rx{dpid}",
                "decapsulation_address": DECAPSULATION,
                "decapsulation_mac": MAC,
                "router_mac": MAC,
            }
            self._rest.ask("PUT", f"/v1/routers/{dpid:016x}/tunnels/ack", {"revision": 0, "flow": flow})
        if answer["snapshot"] == "wanted" or not self._reaches:
            self._reaches = True  # from here on, changes are sent beside the snapshot
            self._rest.ask("PUT", f"{path}/bindings", self._population.report(time.monotonic()))


class Roaming:
    """Have mobile nodes move, `rate` a second, and tell all reporters."""

    def __init__(self, reporters: list[Reporter], population: Population, nodes: range, rate: float) -> None:
        self.posted: dict[str, float] = {}  # when each care-of address was reported, by CLOCK_MONOTONIC
        self._reporters, self._population, self._nodes, self._rate = reporters, population, nodes, rate
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Roaming":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due, turn = time.monotonic(), 0
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            node = self._nodes[turn % len(self._nodes)]
            self._population.move([node])
            binding = self._population.binding(node, time.monotonic())
            self.posted[str(ip_address(str(binding["care_of_address"])))] = time.monotonic()
            body = json.dumps(binding).encode()
            for reporter in self._reporters:
                reporter.post(body)
            due, turn = due + 1 / self._rate, turn + 1
