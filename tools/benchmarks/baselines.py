# SPDX-License-Identifier: Apache-2.0
"""Run what hoaflow is compared with, in the same Open vSwitch: `ovs-ofctl`, and Ryu without hoaflow.

They work on a bridge of their own in the same Open vSwitch, with flows that were dumped from hoaflow's.
"""

import json
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.ovs import Ovs
from tests.support.waiting import wait_for
from tools.benchmarks import ports, switch
from tools.benchmarks.hoaflow import add_router, bridge, set_controller, unset_controller
from tools.benchmarks.rest import RestClient
from tools.benchmarks.ryu import RyuManager

REFERENCE = 0x100  # datapath id
TIMEOUT = 60.0  # seconds


class Reference:
    """Hold the bridge of the baselines, which has a controller only while a `Baseline` runs."""

    def __init__(self, ovs: Ovs, directory: Path) -> None:
        self._ovs = ovs
        self.bridge = bridge(REFERENCE)
        self.flows = directory / "flows.txt"
        add_router(ovs, REFERENCE)

    def counter(self) -> switch.FlowCounter:
        """Return a counter of this bridge's flows."""
        return switch.FlowCounter(self._ovs, self.bridge)

    def clear(self) -> None:
        """Remove every flow of the bridge."""
        switch.ofctl(self._ovs, self.bridge, "del-flows")

    def fill(self) -> float:
        """Add the flows of the file `flows` in one `ovs-ofctl` bundle; return the seconds that took."""
        started = time.monotonic()
        switch.ofctl(self._ovs, self.bridge, "add-flows", str(self.flows))
        return time.monotonic() - started


class Baseline(ABC):
    """Run a Ryu app that is not hoaflow's, connected to some bridges, while the context lasts."""

    APP: str

    def __init__(self, ovs: Ovs, directory: Path, dpids: Sequence[int] = (REFERENCE,)) -> None:
        self._ovs = ovs
        self._dpids = dpids
        log = directory / "baseline.log"
        self._ryu = RyuManager(ovs, log, self.APP, ports.REFERENCE_OPENFLOW, ports.REFERENCE_REST, self.listens)

    def __enter__(self) -> Self:
        try:
            self._ryu.start()
            set_controller(self._ovs, self._dpids, ports.REFERENCE_OPENFLOW)
            wait_for(f"each switch is connected to {self.APP}", self.connected, TIMEOUT)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ryu.kill()
        unset_controller(self._ovs, self._dpids)

    @property
    def pid(self) -> int:
        """Return the app's process id. Raises RuntimeError if it is not running."""
        return self._ryu.pid

    @abstractmethod
    def listens(self) -> bool:
        """Return whether the app takes requests; may raise OSError until then."""

    @abstractmethod
    def connected(self) -> bool:
        """Return whether the app has a connection to each of its switches."""


class BareRyu(Baseline):
    """Run the smallest Ryu app that sends FlowMods or handovers, each with a barrier (`bare_app`)."""

    APP = "tools.benchmarks.bare_app"

    def listens(self) -> bool:
        """Return whether something listens on port BARE_TRIGGER."""
        return f":{ports.BARE_TRIGGER} " in self._ovs.run("ss", "-ltnH")

    def connected(self) -> bool:
        """Return whether a flow was changed on each switch and the barriers answered."""
        return len(self.handovers(1, 1.0)) == 1

    def latencies(self, count: int, rate: float) -> list[float]:
        """Send `count` changes at `rate` a second; return the seconds from FlowMod to barrier reply of each."""
        return self._order(count=count, rate=rate)

    def handovers(self, count: int, rate: float) -> list[float]:
        """Send `count` handovers at `rate` a second to all switches; return the seconds that each took."""
        return self._order(count=count, rate=rate, handovers=True, switches=len(self._dpids))

    def _order(self, count: int, rate: float, **more: object) -> list[float]:
        with self._ovs.inside():
            connection = socket.create_connection(("127.0.0.1", ports.BARE_TRIGGER), TIMEOUT)
        with connection, connection.makefile("rw") as stream:
            connection.settimeout(count / rate + TIMEOUT)
            stream.write(json.dumps({"count": count, "rate": rate, **more}) + "\n")
            stream.flush()
            return [float(latency) for latency in json.load(stream)]


class BareRest(Baseline):
    """Run the smallest Ryu app that takes bindings by POST and sends their flows (`bare_rest`)."""

    APP = "tools.benchmarks.bare_rest"
    PATH = "/v1/bindings"
    PREPARED = "/prepared"  # where messages are made from ones that were serialised once, and waited for
    CHECKED = "/checked"  # likewise, but checked and kept
    NULL = "/"  # where they are only answered

    def report(self, bodies: Iterable[bytes], path: str = PREPARED) -> float:
        """Report bindings, in one request after the other; return the seconds until all are answered.

        With the paths `PREPARED` and `CHECKED` that is when the switch has confirmed their flows.
        """
        client = RestClient(self._ovs, ports.REFERENCE_REST)
        started = time.monotonic()
        for body in bodies:
            client.ask("POST", path, body)
        seconds = time.monotonic() - started
        client.close()
        return seconds

    def listens(self) -> bool:
        """Return whether the app answers."""
        return self._switches() is not None

    def connected(self) -> bool:
        """Return whether the app has a connection to each of its switches."""
        return sorted(self._switches()) == sorted(self._dpids)

    def _switches(self) -> Any:
        return RestClient(self._ovs, ports.REFERENCE_REST).ask("GET", "/")


class OfctlRest(Baseline):
    """Run Ryu's own REST API for flows, which has no matches on tunnel fields, as `verify` flows need."""

    APP = "ryu.app.ofctl_rest"
    PATH = "/stats/flowentry/add"

    def listens(self) -> bool:
        """Return whether the API answers 200."""
        return RestClient(self._ovs, ports.REFERENCE_REST).call("GET", "/stats/switches")[0] == 200

    def connected(self) -> bool:
        """Return whether the API lists the `Reference` bridge among its switches."""
        switches: list[int] = RestClient(self._ovs, ports.REFERENCE_REST).call("GET", "/stats/switches")[1]
        return switches == [REFERENCE]

    @staticmethod
    def body(flow: str) -> dict[str, Any]:
        """Translate a flow as `switch.dump` prints it into the JSON that `ofctl_rest` takes. Raises ValueError."""
        found = re.fullmatch(
            r"cookie=(\w+),table=(\d+),(?:hard_timeout=(\d+), )?send_flow_rem priority=(\d+),ipv6,(.*) actions=(.*)",
            flow,
        )
        if not found:
            raise ValueError(f"expected a binding's flow, got {flow}")
        cookie, table, timeout, priority, matches, actions = found.groups()
        pairs = dict(pair.split("=") for pair in matches.split(","))
        match = {_MATCHES.get(name, name): value for name, value in pairs.items()}
        return {
            "dpid": REFERENCE,
            "cookie": int(cookie, 0),
            "table_id": int(table),
            "hard_timeout": int(timeout or 0),
            "priority": int(priority),
            "flags": 1,  # OFPFF_SEND_FLOW_REM
            "match": {"eth_type": 0x86DD} | {name: _number(value) for name, value in match.items()},
            "actions": [_action(action) for action in actions.split(",")],
        }


_MATCHES = {"nw_proto": "ip_proto"}
_LOCAL = 0xFFFFFFFE  # OFPP_LOCAL


def _number(value: str) -> int | str:
    return int(value) if value.isdigit() else value


def _action(text: str) -> dict[str, Any]:
    name, _, value = text.partition(":")
    if name == "dec_ttl":
        return {"type": "DEC_NW_TTL"}
    if name == "output":
        return {"type": "OUTPUT", "port": int(value)}
    if name == "LOCAL":
        return {"type": "OUTPUT", "port": _LOCAL}
    if name == "set_field":
        new, _, field = value.partition("->")
        return {"type": "SET_FIELD", "field": field, "value": new}
    raise ValueError(f"expected an action of a binding's flow, got {text}")
