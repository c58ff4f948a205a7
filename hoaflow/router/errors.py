# SPDX-License-Identifier: Apache-2.0
"""The errors of `hoaflow-router`, whose messages the command line shows in one line."""

from hoaflow.tunnel.errors import TunnelError


class RouterError(TunnelError):
    """Something failed that the operator has to know of; nothing is left half done."""


class NoBridge(RouterError):
    """The database has no bridge of this name."""


class NoRoute(RouterError):
    """The router's kernel has no route to where a packet has to go."""


class NotTakenIn(RouterError):
    """Packets that were sent to the router's kernel never came to its packet filter."""
