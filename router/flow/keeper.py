# SPDX-License-Identifier: Apache-2.0
"""Keeps a bridge's `flow` backend whole while the agent runs."""

from __future__ import annotations

from logs import Log
from router.errors import RouterError
from router.flow import setup
from router.flow.record import FlowPorts, FlowRecord
from router.flow.status import problems
from router.ovsdb import Bridge, Ovsdb

LOG = Log("router")


class BrokenTunnel(Exception):
    """The backend is not whole and could not be mended. The message says what is missing, and why it stays so."""


class FlowKeeper:
    """The flow backend of one bridge, if it has one: `record`, as last read from the database."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        self.record: FlowRecord | None = None
        self._ovsdb = ovsdb
        self._bridge: Bridge | None = None

    def take(self, bridge: Bridge) -> bool:
        """Read the record anew; returns whether it has changed. Raises RouterError."""
        before, self.record = self.record, FlowPorts(self._ovsdb).record(bridge.name)
        self._bridge = bridge
        return self.record != before

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
        except RouterError as error:
            raise BrokenTunnel(str(error)) from error
        if found:
            raise BrokenTunnel("; ".join(found))

    def _say(self, line: str) -> None:
        LOG.info("mended", what=line)
