# SPDX-License-Identifier: Apache-2.0
"""Describe what an agent tells each controller of its router."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hoaflow.router.ovsdb import EndpointRecord


@dataclass(frozen=True)
class Announcement:
    """What a router has.

    `endpoints`: those of the `route` backend. `flow`: the `flow` backend (`FlowKeeper.announcement`). `macs`: those of
    the router's kernel (`kernel_macs`). `failed`: {home address: reason} of tunnels that are not applied. `broken`:
    {home agent: reason} of endpoints that carry nothing. `install`: which bindings' flows it is to have, None for what
    the controller's setting says.
    """

    endpoints: tuple[EndpointRecord, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    macs: tuple[str, ...] = ()
    flow: Mapping[str, object] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    install: str | None = None
