# SPDX-License-Identifier: Apache-2.0
"""Model what etcd holds of a cluster, and read it from etcd's keys. Pure.

Below `/hoaflow/CLUSTER/` there are `members/NAME` and `routers/DPID/master`, which go with their member's lease, and
`identity`, `routers/DPID/generation` and `routers/DPID/drained`, which stay.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.cluster.view import Member
from hoaflow.etcd.messages import KeyValue, Transaction, put, unchanged

ABSENT = 0  # the revision of a key that does not exist


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member that is alive, and what it reaches.

    `connected`: datapath ids of its switches. `home_agents`: those whose bridges report to it.
    """

    member: Member
    lease: int
    connected: frozenset[int]
    home_agents: frozenset[str]


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """Who is master of a router, None for nobody, under which lease, with which generation, since when and why.

    `revision` and `counter_revision` are those of the keys of the master and of the counter of generations: another
    master is elected only if they are unchanged.
    """

    master: str | None = None
    lease: int = 0
    revision: int = ABSENT
    generation: int = 0
    counter_revision: int = ABSENT
    since: float = 0.0
    reason: str = ""
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Records:
    """All of a cluster: members by name, routers by datapath id.

    `identity`: a random text that tells it from all others, also from one with the same name in another etcd; the name
    where members from before there was an identity were replaced one by one.
    """

    members: Mapping[str, MemberRecord] = field(default_factory=dict)
    routers: Mapping[int, RouterRecord] = field(default_factory=dict)
    identity: str | None = None

    def router(self, dpid: int) -> RouterRecord:
        """Return the record of a router, an empty one if etcd has none."""
        return self.routers.get(dpid, _NOTHING)

    def shared_urls(self) -> dict[str, list[str]]:
        """Return the URLs that more than one member says it has, and the members' names."""
        names: dict[str, list[str]] = {}
        for name, record in sorted(self.members.items()):
            if record.member.url is not None:
                names.setdefault(record.member.url, []).append(name)
        return {url: sharing for url, sharing in names.items() if len(sharing) > 1}


_NOTHING = RouterRecord()
# The fields of a router's record that each of its keys holds, as they are without it.
_WITHOUT: dict[str, dict[str, Any]] = {
    part: {name: getattr(_NOTHING, name) for name in names}
    for part, names in {
        "master": ("master", "lease", "revision", "since", "reason"),
        "generation": ("generation", "counter_revision"),
        "drained": ("drained",),
    }.items()
}


class Keys:
    """The keys of the cluster with a name."""

    def __init__(self, cluster: str) -> None:
        self.prefix = f"/hoaflow/{cluster}/"
        self.identity = f"{self.prefix}identity"

    def member(self, name: str) -> str:
        """Return the key of a member."""
        return f"{self.prefix}members/{name}"

    def master(self, dpid: int) -> str:
        """Return the key of a router's master."""
        return f"{self.prefix}routers/{dpid:016x}/master"

    def counter(self, dpid: int) -> str:
        """Return the key of a router's counter of generations."""
        return f"{self.prefix}routers/{dpid:016x}/generation"

    def drained(self, dpid: int) -> str:
        """Return the key that says that a router is out of service."""
        return f"{self.prefix}routers/{dpid:016x}/drained"

    def updated(self, records: Records, changes: Mapping[str, KeyValue | None]) -> tuple[Records, list[str]]:
        """Return records after some keys have changed, and those of the keys that hold nothing usable.

        What a key holds that is not usable counts as nothing. The other keys are not looked at, as there may be
        thousands.
        """
        members, routers, identity = dict(records.members), dict(records.routers), records.identity
        unusable = []
        for key, found in changes.items():
            try:
                match key.removeprefix(self.prefix).split("/"):
                    case ["identity"]:
                        identity = None if found is None else found.value
                    case ["members", name]:
                        members.pop(name, None)
                        if found is not None:
                            members[name] = _member_record(name, found)
                    case ["routers", dpid, part]:
                        number, without = int(dpid, 16), _WITHOUT[part]
                        router = replace(routers.pop(number, _NOTHING), **without)
                        if router != _NOTHING:
                            routers[number] = router
                        if found is not None:
                            routers[number] = replace(router, **_router_part(part, found))
                    case _:
                        raise ValueError(key)
            except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
                if found is not None:
                    unusable.append(key)
        return Records(members, routers, identity), unusable


def identification(keys: Keys, identity: str) -> Transaction:
    """Return the transaction that gives the cluster an identity, if it has none."""
    return [unchanged(keys.identity, ABSENT)], [put(keys.identity, identity)]


def registration(keys: Keys, records: Records, record: MemberRecord) -> Transaction | None:
    """Return the transaction that puts a member's record where etcd has another one, None if it has this.

    By what etcd holds, and not by what was sent: a record that was sent before may still arrive after this one.
    """
    name = record.member.name
    held = records.members.get(name)
    if held == record:
        return None
    key = keys.member(name)
    is_own = held is not None and held.lease == record.lease
    return [] if is_own else [unchanged(key, ABSENT)], [put(key, _member_value(record), record.lease)]


def _member_value(record: MemberRecord) -> str:
    member = record.member
    return json.dumps(
        {
            "url": member.url,
            "started": member.started,
            "version": member.version,
            "connected": [f"{dpid:016x}" for dpid in sorted(record.connected)],
            "home_agents": sorted(record.home_agents),
        }
    )


def _member_record(name: str, found: KeyValue) -> MemberRecord:
    value = json.loads(found.value)
    url = value["url"]
    return MemberRecord(
        Member(name, None if url is None else str(url), float(value["started"]), str(value["version"])),
        found.lease,
        frozenset(int(dpid, 16) for dpid in value["connected"]),
        frozenset(map(str, value["home_agents"])),
    )


def _router_part(part: str, found: KeyValue) -> dict[str, Any]:
    """Return the fields of a router's record that one of its keys holds. Raises ValueError, LookupError, TypeError."""
    match part:
        case "master":
            value = json.loads(found.value)
            return {
                # Without a lease it is none of ours, and nobody's: it would stand for ever.
                "master": str(value["member"]) if found.lease else None,
                "lease": found.lease,
                "revision": found.revision,
                "since": float(value["since"]),
                "reason": str(value["reason"]),
            }
        case "generation":
            return {"generation": int(found.value), "counter_revision": found.revision}
        case "drained":
            return {"drained": True}
    raise LookupError(part)
