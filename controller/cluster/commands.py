# SPDX-License-Identifier: Apache-2.0
"""Name what a member is to do for its masterships: at switches, in its own core, and at etcd. Pure."""

import json
from typing import NamedTuple

from controller.cluster.records import Keys, RouterRecord
from hoaflow.etcd.messages import Transaction, delete, put, unchanged


class TakeRole(NamedTuple):
    """Become the switch's MASTER with a generation."""

    dpid: int
    generation: int


class GiveUp(NamedTuple):
    """Stop writing to a switch."""

    dpid: int


class MasteredBy(NamedTuple):
    """Take note of the other member that is a router's master, None if there is none."""

    dpid: int
    member: str | None


class TakenByStranger(NamedTuple):
    """Take note that a stranger has taken a router from this member, master with a generation; None: it is over."""

    dpid: int
    generation: int | None


class Elect(NamedTuple):
    """Have etcd make a member master, with a new generation, unless the router's record has changed."""

    dpid: int
    member: str
    lease: int
    generation: int
    record: RouterRecord
    reason: str


class Resign(NamedTuple):
    """Have etcd forget this member as a router's master, unless the router's record has changed."""

    dpid: int
    record: RouterRecord


def resignation(keys: Keys, resign: Resign) -> Transaction:
    """Return the transaction of a resignation."""
    master = keys.master(resign.dpid)
    return [unchanged(master, resign.record.revision)], [delete(master)]


def election(keys: Keys, elect: Elect, since: float) -> Transaction:
    """Return the transaction of an election. `since`: seconds since 1970."""
    master, counter = keys.master(elect.dpid), keys.counter(elect.dpid)
    value = json.dumps({"member": elect.member, "since": since, "reason": elect.reason})
    return (
        [unchanged(master, elect.record.revision), unchanged(counter, elect.record.counter_revision)],
        [put(master, value, elect.lease), put(counter, str(elect.generation))],
    )


Command = TakeRole | GiveUp | MasteredBy | TakenByStranger | Elect | Resign
