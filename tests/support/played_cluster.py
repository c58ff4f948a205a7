# SPDX-License-Identifier: Apache-2.0
"""Controllers of a cluster without etcd: a test decides which is whose switch's master."""

import json
import socket
from pathlib import Path

from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for
from topologies.waiting import patient


class Member(Controller):
    """One controller, with OpenFlow and REST at 127.0.0.`number`. A context manager."""

    def __init__(self, ovs: Ovs, directory: Path, number: int, settings: str = "", cluster: str = "hoaflow") -> None:
        directory = directory / f"member-{number}"
        directory.mkdir()
        self.address = f"127.0.0.{number}"
        self.openflow = f"{self.address}:{OPENFLOW_PORT}"
        self._socket = directory / "cluster.sock"
        played = f"[played]\nsocket = {self._socket}\ncluster = {cluster}"
        options = ["--ofp-listen-host", self.address, "tests/support/played_cluster_app.py"]
        super().__init__(ovs, directory, f"{settings}\n{played}", self.address, options)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._socket.unlink(missing_ok=True)
        super().start()

    def tell(self, *command: object) -> list[list[object]]:
        """Carry out a command, if one is given (`tests.support.played_cluster_app`); return what switches have said."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(patient(20.0))
            connection.connect(str(self._socket))
            with connection.makefile("rw") as stream:
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                said: list[list[object]] = json.loads(stream.readline())
        return said

    def hear(self, *expected: object) -> None:
        """Wait until the last that a switch has said is `expected`."""
        wait_for(f"{self.address} hears {expected}", lambda: self.tell()[-1:] == [list(expected)])

    def events(self, name: str) -> list[str]:
        """Return the log's lines of one event."""
        return [line for line in self.log.splitlines() if f"event={name} " in line]


def connect(ovs: Ovs, bridge: str, *targets: str) -> None:
    """Connect a switch to controllers at these addresses, as `host:port`, and to no others."""
    rows = [f"@c{number}" for number in range(len(targets))]
    argv = ["set", "bridge", bridge, f"controller={','.join(rows)}"]
    for row, target in zip(rows, targets, strict=True):
        settings = [f'target="tcp:{target}"', "max_backoff=1000", "inactivity_probe=5000"]
        argv += ["--", f"--id={row}", "create", "controller", *settings]
    ovs.vsctl("--", *argv)
