# SPDX-License-Identifier: Apache-2.0
"""Declare everything that a local mobility anchor needs of its kernel."""

from collections.abc import Iterable

from hoaflow.mobility.objects import MainRule, RestoredSetting
from hoaflow.mobility.routes import UnreachablePrefixes
from hoaflow.mobility.tunnels import Tunnels
from hoaflow.pmipv6.objects import OwnAddress
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.routing import Rule

PREFIX_TABLE, PREFIX_RULE_PREFERENCE = 252, 1005
"""OAI PMIPv6's: table of the routes to access gateways, and its rule."""


def declaration(address: str, home_prefixes: Iterable[str], tunnels: Tunnels) -> list[Declared]:
    """Return the declared objects in the order in which they are made.

    Routes to access gateways, which nothing here can mend, come last.
    """
    return [
        RestoredSetting("all.forwarding", "1"),
        MainRule(),
        OwnAddress(address),
        UnreachablePrefixes(home_prefixes),
        *tunnels.declaration(),
        Rule(None, PREFIX_RULE_PREFERENCE, PREFIX_TABLE),
        *tunnels.links(),
    ]
