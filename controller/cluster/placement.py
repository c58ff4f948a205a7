# SPDX-License-Identifier: Apache-2.0
"""Place routers on members: evenly, with few moves, and the same at each member without a word between them. Pure.

Each router prefers members in an order of its own (rendezvous hashing), so the routers of a member that dies spread
over all others. None has more than its share as long as another has room; within it, everything stays.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b

from controller.cluster.records import Records


def place(masters: Mapping[int, str | None], candidates: Mapping[int, Collection[str]]) -> dict[int, str]:
    """Return the member that is to be master of each router that has candidates; `masters` are the present ones."""
    routers = sorted(dpid for dpid, able in candidates.items() if able)
    members = {member for dpid in routers for member in candidates[dpid]}
    share = -(-len(routers) // max(1, len(members)))
    load: Counter[str] = Counter()
    placed: dict[int, str] = {}
    kept = [(master, dpid) for dpid in routers if (master := masters.get(dpid)) in candidates[dpid]]
    for master, dpid in sorted(kept, key=lambda each: preference(str(each[0]), each[1]), reverse=True):
        if master is not None and load[master] < share:
            placed[dpid] = master
            load[master] += 1
    for dpid in routers:
        if dpid not in placed:
            placed[dpid] = _best(dpid, masters.get(dpid), candidates[dpid], load, share)
            load[placed[dpid]] += 1
    return placed


def candidates_of(records: Records) -> dict[int, list[str]]:
    """Return, for each router, the connected members to which the most home agents' bridges report."""
    able: dict[int, list[str]] = {}
    for name, record in sorted(records.members.items()):
        for dpid in record.connected:
            able.setdefault(dpid, []).append(name)
    for dpid, names in able.items():
        most = max(len(records.members[name].home_agents) for name in names)
        able[dpid] = [name for name in names if len(records.members[name].home_agents) == most]
    return able


@lru_cache(maxsize=100_000)
def preference(member: str, dpid: int) -> int:
    """Return how much a router prefers a member: the highest of all members' numbers wins."""
    return int.from_bytes(blake2b(f"{dpid:016x} {member}".encode(), digest_size=8).digest())


def _best(dpid: int, master: str | None, able: Collection[str], load: Mapping[str, int], share: int) -> str:
    """Return the candidate with room that the router prefers; if none has room, its present master."""
    return max(able, key=lambda member: (load[member] < share, member == master, preference(member, dpid)))
