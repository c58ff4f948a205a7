# SPDX-License-Identifier: Apache-2.0
"""What hoaflow is compared with, in the same run: `ovs-ofctl`, and Ryu without hoaflow.

They work on a bridge of their own in the same Open vSwitch, with flows that were dumped from hoaflow's.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from benchmarks import ports, switch
from benchmarks.hoaflow import add_router, bridge
from benchmarks.rest import RestClient
from tests.support.controller import CHECKOUT, wait_for
from tests.support.ovs import Ovs

REFERENCE = 0x100  # datapath id
START_TIMEOUT = 60.0  # seconds


class Reference:
    """The bridge that the baselines work on. No controller of it runs but when a `RyuManager` does."""

    def __init__(self, ovs: Ovs, directory: Path) -> None:
        self._ovs = ovs
        self.bridge = bridge(REFERENCE)
        self.flows = directory / "flows.txt"
        add_router(ovs, REFERENCE, ports.REFERENCE_OPENFLOW)

    def counter(self) -> switch.FlowCounter:
        """What counts its flows."""
        return switch.FlowCounter(self._ovs, self.bridge)

    def clear(self) -> None:
        """Remove all flows."""
        switch.ofctl(self._ovs, self.bridge, "del-flows")

    def fill(self) -> float:
        """`ovs-ofctl --bundle add-flows` of the file `flows`; returns how long it took, in seconds."""
        started = time.monotonic()
        switch.ofctl(self._ovs, self.bridge, "add-flows", str(self.flows))
        return time.monotonic() - started


class RyuManager:
    """Ryu with an app that is not hoaflow's, started as hoaflow is. A context manager."""

    def __init__(self, ovs: Ovs, directory: Path, app: str) -> None:
        """app: a module's name."""
        self._ovs = ovs
        self._log = directory / "ryu.log"
        self._command = [
            str(Path(sys.executable).with_name("ryu-manager")),
            *("--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", str(ports.REFERENCE_OPENFLOW)),
            *("--wsapi-host", "127.0.0.1", "--wsapi-port", str(ports.REFERENCE_REST), app),
        ]

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            command = self._ovs.command(*self._command)
            environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}  # of hoaflow, the apps need the benchmark only
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            wait_for(f"{self._command[-1]} is ready", self._is_ready, START_TIMEOUT)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(START_TIMEOUT)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ready(self) -> bool:
        """Tell whether it is ready. Raises OSError when it does not listen yet."""
        raise NotImplementedError

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"ryu-manager ended with {self._process.returncode}:\n{self._log.read_text()}")
        with contextlib.suppress(OSError):
            return self.ready()
        return False


class BareRyu(RyuManager):
    """A FlowMod with a barrier from the smallest Ryu app."""

    def __init__(self, ovs: Ovs, directory: Path) -> None:
        super().__init__(ovs, directory, "benchmarks.bare_app")

    def ready(self) -> bool:
        """It listens; it waits for the switch by itself."""
        return f":{ports.BARE_TRIGGER} " in self._ovs.run("ss", "-ltnH")

    def latencies(self, count: int, rate: float) -> list[float]:
        """Seconds from FlowMod to barrier reply, of `count` changes at `rate` a second."""
        with self._ovs.inside():
            connection = socket.create_connection(("127.0.0.1", ports.BARE_TRIGGER), START_TIMEOUT)
        with connection, connection.makefile("rw") as stream:
            connection.settimeout(count / rate + START_TIMEOUT)
            stream.write(f"{count}\n{rate}\n")
            stream.flush()
            return [float(latency) for latency in json.load(stream)]


class OfctlRest(RyuManager):
    """Ryu's own REST API for flows. It knows no matches on tunnel fields, as `verify` flows have."""

    PATH = "/stats/flowentry/add"

    def __init__(self, ovs: Ovs, directory: Path) -> None:
        super().__init__(ovs, directory, "ryu.app.ofctl_rest")
        self._client = RestClient(ovs, ports.REFERENCE_REST)

    def ready(self) -> bool:
        """The switch is connected."""
        return self._client.call("GET", "/stats/switches") == (200, [REFERENCE])

    @staticmethod
    def body(flow: str) -> dict[str, Any]:
        """A flow, as `switch.dump` has it, in the form that `ofctl_rest` takes. Raises ValueError."""
        found = re.fullmatch(
            r"cookie=(\w+),table=(\d+),hard_timeout=(\d+), send_flow_rem priority=(\d+),ipv6,(.*) actions=(.*)", flow
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
            "hard_timeout": int(timeout),
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
