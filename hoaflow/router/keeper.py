# SPDX-License-Identifier: Apache-2.0
"""Keep a bridge's backends as declared while the agent runs."""

import functools
from collections.abc import Callable, Sequence

from hoaflow.logs import Log
from hoaflow.router.database_objects import DatabaseObject
from hoaflow.router.declaration import declaration
from hoaflow.router.endpoint import Endpoint
from hoaflow.router.ovsdb import Bridge, EndpointRecord, Ovsdb
from hoaflow.router.record_upgrade import RUN_SETUP
from hoaflow.tunnel.declaration import Declared, in_words, mend
from hoaflow.tunnel.errors import TunnelError

LOG = Log("router")


class Keeper:
    """One declaration of a bridge. `problem`: what is not as declared and cannot be mended, or None."""

    def __init__(self) -> None:
        self.problem: str | None = None

    def keep(self, declare: Callable[[], Sequence[Declared]], database: bool, **place: str) -> bool:
        """Compare and mend; returns whether anything may have been changed. Logs it with `place`.

        Without `database`, objects in the OVS database are left out: the datapath goes on without it.
        """
        try:
            declared = [each for each in declare() if database or not isinstance(each, DatabaseObject)]
            found = in_words(mend(declared))
        except (TunnelError, OSError) as error:
            if self.problem is None:
                LOG.warning("broken", **place, reason=error)
            self.problem = str(error)
            return True
        whole_again, self.problem = self.problem is not None, None
        if found or whole_again:
            LOG.warning("mended", **place, found=found)
        return bool(found) or whole_again


class EndpointKeeper:
    """The tunnel endpoints of one bridge (`route` backend)."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        self._ovsdb = ovsdb
        self._keepers: dict[str, Keeper] = {}

    @property
    def broken(self) -> dict[str, str]:
        """{home agent: reason} of the endpoints that are not as declared and cannot be mended."""
        return {home: keeper.problem for home, keeper in self._keepers.items() if keeper.problem is not None}

    def keep(self, bridge: Bridge, database: bool, between: Callable[[], None]) -> set[str]:
        """Compare and mend all endpoints; returns the home agents of those that may have been changed.

        `between` is called after each, for what can't wait until all have been compared.
        """
        self._keepers = {each.home_agent: self._keepers.get(each.home_agent, Keeper()) for each in bridge.endpoints}
        changed = set()
        for record in bridge.endpoints:
            declare = functools.partial(self._declare, bridge, record)
            place = {"bridge": bridge.name, "home_agent": record.home_agent}
            if self._keepers[record.home_agent].keep(declare, database, **place):
                changed.add(record.home_agent)
            between()
        return changed

    def _declare(self, bridge: Bridge, record: EndpointRecord) -> list[Declared]:
        if not record.mtu:
            raise TunnelError(RUN_SETUP)
        return declaration(Endpoint.of(bridge.name, record), bridge.userspace, self._ovsdb)
