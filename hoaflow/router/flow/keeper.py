# SPDX-License-Identifier: Apache-2.0
"""Keep a bridge's `flow` backend as declared while the agent runs."""

from hoaflow.router.client import LONGEST_PROBLEM
from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.record import FlowPorts, FlowRecord
from hoaflow.router.flow.status import ipv4_problem
from hoaflow.router.keeper import Keeper
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.tunnel import links


class FlowKeeper:
    """The flow backend of one bridge, if it has one.

    `record`: as last read from the database. `filter_problem`: what the router's packet filter drops, or None.
    """

    def __init__(self, ovsdb: Ovsdb) -> None:
        self.record: FlowRecord | None = None
        self._ovsdb = ovsdb
        self._keeper = Keeper()
        self._ipv4_problem: str | None = None
        self.filter_problem: str | None = None

    def take(self, bridge: str) -> bool:
        """Read the record anew; returns whether it has changed. Raises RouterError."""
        before, self.record = self.record, FlowPorts(self._ovsdb).record(bridge, self.record)
        return self.record != before

    def keep(self, bridge: str, database: bool = True) -> None:
        """Compare the backend with its declaration, and mend it; what cannot be mended is announced."""
        if (record := self.record) is not None:
            self._keeper.keep(lambda: declaration(bridge, record, self._ovsdb), database, bridge=bridge)
            if links.link(None, bridge) is not None:
                self._ipv4_problem = ipv4_problem(bridge)

    def announcement(self) -> dict[str, object] | None:
        """Return the backend as it is announced to the controller, or None if there is none."""
        if self.record is None:
            return None
        found: dict[str, object] = {
            "transmit_port": self.record.transmit_port,
            "receive_port": self.record.receive_port,
            "decapsulation_address": self.record.decapsulation_address,
            # Both are the bridge's own interface.
            "decapsulation_mac": self.record.mac,
            "router_mac": self.record.mac,
            "mtu": self.record.mtu,
            "ipv4_problem": self._ipv4_problem,
        }
        problem = self._keeper.problem or self.filter_problem
        return found if problem is None else found | {"problem": problem[:LONGEST_PROBLEM]}
