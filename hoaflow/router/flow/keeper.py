# SPDX-License-Identifier: Apache-2.0
"""Keep a bridge's `flow` backend as declared while the agent runs."""

import functools

from hoaflow.router.client import LONGEST_PROBLEM
from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.record import FlowPorts, FlowRecord
from hoaflow.router.flow.status import NO_IPV6_INSIDE, ipv4_problem
from hoaflow.router.keeper import Keeper
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.tunnel import links


class FlowKeeper:
    """The flow backend of one bridge, if it has one.

    `records`: as last read from the database, one for each family of outer headers. `filter_problems`: what the
    router's packet filter drops, by record.
    """

    def __init__(self, ovsdb: Ovsdb) -> None:
        self.records: list[FlowRecord] = []
        self.filter_problems: dict[FlowRecord, str | None] = {}
        self.ovsdb = ovsdb
        self._keepers: dict[int, Keeper] = {}  # by the outer headers' family
        self._ipv4_problem: str | None = None

    def take(self, bridge: str) -> bool:
        """Read the records anew; returns whether they have changed. Raises RouterError."""
        before, self.records = self.records, FlowPorts(self.ovsdb).records(bridge, self.records)
        self._keepers = {each.family: self._keepers.get(each.family, Keeper()) for each in self.records}
        return self.records != before

    def keep(self, bridge: str, database: bool = True) -> None:
        """Compare the backend with its declaration, and mend it; what cannot be mended is announced."""
        for record in self.records:
            declare = functools.partial(declaration, bridge, record, self.ovsdb)
            self._keepers[record.family].keep(declare, database, bridge=bridge)
        if self.records and links.link(None, bridge) is not None:
            self._ipv4_problem = ipv4_problem(bridge)

    def announcement(self) -> dict[str, dict[str, object]]:
        """Return the backend as members of what is announced to the controller, none if there is none."""
        return {"flow_ipv4" if each.is_ipv4 else "flow": self._announced(each) for each in self.records}

    def _announced(self, record: FlowRecord) -> dict[str, object]:
        found: dict[str, object] = {
            "transmit_port": record.transmit_port,
            "receive_port": record.receive_port,
            "decapsulation_address": record.decapsulation_address,
            # Both are the bridge's own interface.
            "decapsulation_mac": record.mac,
            "router_mac": record.mac,
            "mtu": record.mtu,
            "ipv4_problem": self._ipv4_problem,
        }
        if record.is_ipv4:
            found["ipv6_problem"] = NO_IPV6_INSIDE
        problem = self._keepers[record.family].problem or self.filter_problems.get(record)
        return found if problem is None else found | {"problem": problem[:LONGEST_PROBLEM]}
