# SPDX-License-Identifier: Apache-2.0
"""Keeps a bridge's `flow` backend whole while the agent runs."""

from __future__ import annotations

from hoaflow.errors import HoaflowError
from logs import Log
from router.flow import setup
from router.flow.record import FlowPorts, FlowRecord
from router.flow.status import ipv4_problem, problems
from router.ovsdb import Bridge, Ovsdb
from tunnel import links
from tunnel.errors import TunnelError

LOG = Log("router")


class BrokenTunnel(HoaflowError):
    """The backend is not whole and could not be mended. The message says what is missing, and why it stays so."""


class FlowKeeper:
    """The flow backend of one bridge, if it has one: `record`, as last read from the database.

    `ipv4_problem`: why it cannot carry IPv4 home addresses, None if it can.
    """

    def __init__(self, ovsdb: Ovsdb) -> None:
        self.record: FlowRecord | None = None
        self.ipv4_problem: str | None = None
        self._ovsdb = ovsdb
        self._bridge: Bridge | None = None

    def take(self, bridge: Bridge) -> bool:
        """Read anew what there is; returns whether it has changed. Raises RouterError."""
        before = self.record, self.ipv4_problem
        self.record = FlowPorts(self._ovsdb).record(bridge.name)
        if self.record is not None and links.link(None, bridge.name) is not None:
            self.ipv4_problem = ipv4_problem(bridge.name)
        self._bridge = bridge
        return (self.record, self.ipv4_problem) != before

    def announcement(self) -> dict[str, object] | None:
        """The backend as the controller is told of it; None without one."""
        if self.record is None:
            return None
        return {
            "transmit_port": self.record.transmit_port,
            "receive_port": self.record.receive_port,
            "decapsulation_address": self.record.decapsulation_address,
            # The bridge's own interface is where the tunnel begins for the one and ends for the other.
            "decapsulation_mac": self.record.mac,
            "router_mac": self.record.mac,
            "mtu": self.record.mtu,
            "ipv4_problem": self.ipv4_problem,
        }

    def keep(self) -> None:
        """Mend what the kernel has lost, after a reboot for instance. Raises BrokenTunnel when that fails.

        Packets that OpenFlow gives to a broken tunnel are lost, so the controller must not be told that all is well.
        """
        if self.record is None or self._bridge is None:
            return
        try:
            found = problems(self.record, self._bridge.name)
            if not found:
                return
            LOG.warning("mending", bridge=self._bridge.name, problems="; ".join(found))
            setup.repair(self._bridge, self._ovsdb, self.record, self._say)
            found = problems(self.record, self._bridge.name)
        except TunnelError as error:
            raise BrokenTunnel(str(error)) from error
        if found:
            raise BrokenTunnel("; ".join(found))

    def _say(self, line: str) -> None:
        LOG.info("mended", what=line)
