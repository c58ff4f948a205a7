# SPDX-License-Identifier: Apache-2.0
"""The agent's process, and what it has installed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hoaflow.tunnel.seg6 import Seg6Routes
from hoaflow.tunnel.spoofing_filter import SourcePair, SpoofingFilter
from tests.support.checkout import CHECKOUT
from tests.support.fake_controller import FakeController
from tests.support.router_lab import COA, HA, RouterLab, until
from topologies.waiting import patient

MNP, MNP4 = "2001:db8:99:10::/64", "10.99.1.0/24"


class AgentProcess:
    """`hoaflow-router run` with controllers at these URLs; its log goes to a file."""

    def __init__(self, lab: RouterLab, urls: Sequence[str], log: Path) -> None:
        self.log_file = log
        self.command = lab.router_command("run", "--bridge", lab.bridge, "--controller", *urls)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log, stdout=log, cwd=CHECKOUT)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(patient(30))

    def log(self) -> str:
        return self.log_file.read_text()


def offload(controller: FakeController, *home_addresses: str) -> None:
    """Bind home addresses of home agent HA to care-of address COA, and wait until the agent has applied that."""
    controller.know(HA)
    for home_address in home_addresses:
        controller.bind(home_address, COA, HA)
    until(controller.up_to_date, "the bindings are applied")


def installed(lab: RouterLab) -> dict[str, str]:
    with Seg6Routes(lab.endpoint().namespace) as routes:
        return routes.installed()


def accepted(lab: RouterLab) -> set[SourcePair]:
    return SpoofingFilter(lab.endpoint().namespace).installed()


def narrow(lab: RouterLab, mtu: int) -> None:
    """Narrow the link between the router and the mobile node."""
    lab.ip("rt", "link", "set", "acc", "mtu", str(mtu))
