# SPDX-License-Identifier: Apache-2.0
"""Keeps a bridge's `flow` backend as declared while the agent runs."""

from __future__ import annotations

from hoaflow.router.client import LONGEST_PROBLEM
from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.record import FlowPorts, FlowRecord
from hoaflow.router.flow.status import ipv4_problem
from hoaflow.router.keeper import Keeper
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.tunnel import links


class FlowKeeper:
    """The flow backend of one bridge, if it has one: `record`, as last read from the database."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        self.record: FlowRecord | None = None
        self._ovsdb = ovsdb
        self._keeper = Keeper()
        self._ipv4_problem: str | None = None

    def take(self, bridge: str) -> bool:
        """Read anew whether there is one; returns whether that has changed. Raises RouterError."""
        before, self.record = self.record, FlowPorts(self._ovsdb).record(bridge, self.record)
        return self.record != before

    def keep(self, bridge: str, database: bool = True) -> None:
        """Compare all of it with its declaration, and mend it; what cannot be mended is announced."""
        if (record := self.record) is not None:
            self._keeper.keep(lambda: declaration(bridge, record, self._ovsdb), database, bridge=bridge)
            if links.link(None, bridge) is not None:
                self._ipv4_problem = ipv4_problem(bridge)

    def announcement(self) -> dict[str, object] | None:
        """The backend as the controller is told of it; None without one."""
        if self.record is None:
            return None
        found: dict[str, object] = {
            "transmit_port": self.record.transmit_port,
            "receive_port": self.record.receive_port,
            "decapsulation_address": self.record.decapsulation_address,
            # The bridge's own interface is where the tunnel begins for the one and ends for the other.
            "decapsulation_mac": self.record.mac,
            "router_mac": self.record.mac,
            "mtu": self.record.mtu,
            "ipv4_problem": self._ipv4_problem,
        }
        return found if self._keeper.problem is None else found | {"problem": self._keeper.problem[:LONGEST_PROBLEM]}
