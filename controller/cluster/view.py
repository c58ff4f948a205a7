# SPDX-License-Identifier: Apache-2.0
"""Model what a member knows of its cluster: the members, and which of them is master of each router. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hoaflow.errors import HoaflowError


class NotRecorded(HoaflowError):
    """Etcd has not taken in what it is to keep; the message says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One controller. `url`: its REST API as the others reach it, None if not known. `started`: seconds since 1970."""

    name: str
    url: str | None
    started: float
    version: str


@dataclass(frozen=True, slots=True)
class RouterMaster:
    """Which member writes to a router. `master` is None while there is none.

    `generation`: the generation_id that it has shown the switch (OpenFlow 1.3.5 section 6.3.6). `since`: seconds since
    1970. `reason`: why it, and not another, in words. `drained`: an operator has taken the router out of service, as
    etcd has it.
    """

    master: str | None
    generation: int
    since: float
    reason: str
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Etcd:
    """Whether etcd answers, and since when (seconds since 1970). While it does not, masters stay as they are."""

    reachable: bool
    since: float


@dataclass(frozen=True, slots=True)
class View:
    """The cluster as `member` knows it, routers by datapath id. `cluster` and `etcd` are None without a cluster.

    `name_taken`: another process is in the cluster with the name of this one, which therefore is not.
    """

    cluster: str | None
    member: str
    members: Mapping[str, Member]
    routers: Mapping[int, RouterMaster] = field(default_factory=dict)
    etcd: Etcd | None = None
    name_taken: bool = False

    def master_elsewhere(self, dpid: int) -> str | None:
        """Return another member that is master of a router; None if it is this one or nobody."""
        mastership = self.routers.get(dpid)
        return None if mastership is None or mastership.master == self.member else mastership.master

    def others(self) -> list[Member]:
        """Return the other members, by name."""
        return [member for name, member in sorted(self.members.items()) if name != self.member]


class Cluster(Protocol):
    """What the REST API needs of the cluster."""

    def view(self) -> View:
        """Return the cluster as it is now. Does no I/O."""

    def master_and_generation(self, dpid: int) -> tuple[bool, int]:
        """Tell whether this member is a router's master, and the newest generation of its masters. Does no I/O."""

    def record_drain(self, dpid: int, draining: bool) -> None:
        """Have etcd keep that a router is out of service, or back in it. Raises NotRecorded."""


class Alone:
    """A controller without a cluster: one member that is master of all routers."""

    def __init__(self, member: Member) -> None:
        self._view = View(None, member.name, {member.name: member})

    def view(self) -> View:
        """Return the view, which never changes."""
        return self._view

    def master_and_generation(self, dpid: int) -> tuple[bool, int]:
        """Return that it is the master of all routers."""
        return True, 0

    def record_drain(self, dpid: int, draining: bool) -> None:
        """Do nothing: the switch alone keeps it."""
