# SPDX-License-Identifier: Apache-2.0
"""Keeps the tunnel endpoints of a bridge as declared while the agent runs."""

from __future__ import annotations

from logs import Log
from router.declaration import declaration
from router.endpoint import Endpoint
from router.former import RUN_SETUP
from router.ovsdb import Bridge, EndpointRecord, Ovsdb
from router.port import InDatabase
from tunnel.declaration import in_words, mend
from tunnel.errors import TunnelError

LOG = Log("router")


class EndpointKeeper:
    """`broken`: {home agent: reason} of the endpoints that are not as declared and cannot be mended."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        self.broken: dict[str, str] = {}
        self._ovsdb = ovsdb

    def keep(self, bridge: Bridge, database: bool = True) -> set[str]:
        """Compare all endpoints with their declarations and mend them; returns the home agents of those mended.

        `database`: also what is in the database; without, as the bridge's datapath goes on, the kernel's part alone.
        """
        mended: set[str] = set()
        broken: dict[str, str] = {}
        for record in bridge.endpoints:
            home_agent = record.home_agent
            try:
                found = self._mend(bridge, record, database)
            except (TunnelError, OSError) as error:
                broken[home_agent] = str(error)
                if home_agent not in self.broken:
                    LOG.warning("broken", bridge=bridge.name, home_agent=home_agent, reason=error)
                mended.add(home_agent)  # some of it may have been
                continue
            if found or home_agent in self.broken:
                LOG.warning("mended", bridge=bridge.name, home_agent=home_agent, found=found)
                mended.add(home_agent)
        self.broken = broken
        return mended

    def _mend(self, bridge: Bridge, record: EndpointRecord, database: bool) -> str:
        if not record.mtu:
            raise TunnelError(RUN_SETUP)
        declared = declaration(Endpoint.of(bridge.name, record), bridge.userspace, self._ovsdb)
        if not database:
            declared = [each for each in declared if not isinstance(each, InDatabase)]
        return in_words(mend(declared))
