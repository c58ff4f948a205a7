# SPDX-License-Identifier: Apache-2.0
"""Remove from the kernel what a home agent left that was killed."""

from contextlib import ExitStack, closing

from hoaflow.home_agent.declaration import declaration
from hoaflow.home_agent.parts import Parts, open_parts
from hoaflow.home_agent.settings import Settings
from hoaflow.linux import AF_INET
from hoaflow.logs import Log
from hoaflow.mobile_ipv4.home_link import HomeLink
from hoaflow.mobility.binding_objects import ProxyEntries
from hoaflow.mobility.objects import restore_others
from hoaflow.mobility.routes import UnreachablePrefixes
from hoaflow.tunnel.declaration import tear_down

LOG = Log("home-agent")


def remove_leftovers(settings: Settings) -> None:
    """Remove everything. Raises one of KERNEL_ERRORS."""
    with ExitStack() as opened:
        parts = open_parts(settings, opened, to_remove=True)
        left = declaration(settings.policy, parts, lambda: None)
        tear_down(left, lambda removed: LOG.debug("leftover", removed=removed))
        remove_unserved(settings, parts)
    restore_others([])


def remove_unserved(settings: Settings, parts: Parts) -> None:
    """Remove what is not declared with these settings, but was with others. Raises one of KERNEL_ERRORS."""
    parts.tunnels.remove_leftovers()
    if parts.ipv4 is None:
        with closing(HomeLink(settings.home_link)) as link:
            ProxyEntries(link).remove()
        UnreachablePrefixes([], AF_INET).remove()
