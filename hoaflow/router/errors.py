# SPDX-License-Identifier: Apache-2.0
"""Errors that the command line shows to the operator in one line."""

from hoaflow.tunnel.errors import TunnelError


class RouterError(TunnelError):
    """Something the operator has to know or do; nothing was left half done."""


class NoBridge(RouterError):
    """The database has no bridge of that name."""
