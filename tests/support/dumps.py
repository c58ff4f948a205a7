# SPDX-License-Identifier: Apache-2.0
"""What a real switch holds for one mobile node, by backend, as docs/pipeline.md explains it.

`python -m tests.support.dumps` writes docs/dumps anew.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.bench import FIRST, HOME_AGENT, HOME_PREFIX, MAC, Bench, binding
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

DUMPS = Path(__file__).parents[2] / "docs/dumps"
ENDPOINTS = [{"home_agent": HOME_AGENT, "port": "tin", "mac": MAC}]
FLOW = {
    "transmit_port": "tx",
    "receive_port": "rx",
    "decapsulation_address": "fdb1:b792:6c09::41",
    "decapsulation_mac": MAC,
    "router_mac": MAC,
}
MACS = ["02:00:00:00:00:0c"]
BACKENDS: dict[str, dict[str, Any]] = {
    "route": {"router_macs": MACS, "endpoints": ENDPOINTS},
    "flow": {"router_macs": MACS, "endpoints": [], "flow": FLOW},
}
# What differs from run to run, and what says nothing here.
VARYING = re.compile(r"(duration|n_bytes|hard_age|idle_age)=[^,]*, |send_flow_rem ")
LEASE = 60
# What is left of the lease when a gate is sent.
TIMEOUT = re.compile(r"hard_timeout=(5[5-9]|60), ")


def record(ovs: Ovs, controller: Controller, backend: str) -> str:
    """Return the flows of a bridge whose agent says that it has this backend; nothing else may be on `ovs` yet."""
    ovs.add_bridge("br0", 1, OPENFLOW_PORT)
    for number, port in enumerate(("cn", "tin", "tx", "rx"), start=1):
        ovs.add_port("br0", port, number)
    bench = Bench(ovs, controller)
    bench.announce(lease=LEASE, home_prefixes=[HOME_PREFIX])
    bench.snapshot(binding(FIRST))
    bench.agent(**BACKENDS[backend])
    wait_for("the binding is active", lambda: bench.state() == "active")
    lines = ovs.ofctl("--names", "dump-flows", "br0").splitlines()
    shown = (VARYING.sub("", line).strip() for line in lines if "cookie=" in line)
    flows = [TIMEOUT.sub(f"hard_timeout={LEASE}, ", line) for line in shown]
    return "\n".join(sorted(flows, key=_order)) + "\n"


def _order(flow: str) -> tuple[int, int, str]:
    """Return the tables in order, and in each what is looked at first."""
    table, priority = (int(re.search(rf"{name}=(\d+)", flow)[1]) for name in ("table", "priority"))  # type: ignore[index]
    return table, -priority, flow


def main() -> int:
    """Write the dumps."""
    DUMPS.mkdir(exist_ok=True)
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as name, Ovs(Path(name)) as ovs, Controller(ovs, Path(name)) as controller:
            (DUMPS / f"{backend}.txt").write_text(record(ovs, controller, backend))
    return 0


if __name__ == "__main__":
    sys.exit(main())
