# SPDX-License-Identifier: Apache-2.0
"""What etcd holds of a cluster is read key by key: a change costs no more where there are a thousand routers."""

import json

import pytest

from controller.cluster.records import Keys, Records
from hoaflow.etcd import KeyValue

KEYS = Keys("hoaflow")
MASTER = json.dumps({"member": "a", "since": 1.0, "reason": "there was no master"})


def held(routers: int) -> dict[str, KeyValue]:
    """Return the keys of some routers of which member a is master."""
    masters = {KEYS.master(dpid): KeyValue(MASTER, dpid, 7) for dpid in range(1, routers + 1)}
    return masters | {KEYS.counter(dpid): KeyValue("3", dpid, 0) for dpid in range(1, routers + 1)}


def test_a_change_of_one_router_reads_no_other() -> None:
    before, _ = KEYS.updated(Records(), held(1000))
    after, unusable = KEYS.updated(before, {KEYS.master(500): KeyValue(MASTER, 2000, 8)})
    assert not unusable
    assert [dpid for dpid, record in after.routers.items() if record is not before.routers[dpid]] == [500]
    assert (after.router(500).lease, after.router(500).generation) == (8, 3)


@pytest.mark.parametrize("gone", [None, KeyValue("nonsense", 9, 7), KeyValue('{"member": "a"}', 9, 7)])
def test_what_is_gone_or_unusable_leaves_what_the_other_keys_hold(gone: KeyValue | None) -> None:
    before, _ = KEYS.updated(Records(), {**held(1), KEYS.drained(1): KeyValue("", 5, 0)})
    after, unusable = KEYS.updated(before, {KEYS.master(1): gone})
    assert unusable == ([] if gone is None else [KEYS.master(1)])
    record = after.router(1)
    assert (record.master, record.lease, record.revision) == (None, 0, 0)
    assert (record.generation, record.drained) == (3, True)
    assert KEYS.updated(after, {KEYS.counter(1): None, KEYS.drained(1): None})[0] == Records()


def test_changes_one_by_one_come_to_the_same_as_all_at_once() -> None:
    keys = held(5) | {KEYS.drained(2): KeyValue("", 5, 0), f"{KEYS.prefix}routers/1/strange": KeyValue("", 6, 0)}
    records = Records()
    for key, found in keys.items():
        records, _ = KEYS.updated(records, {key: found})
    assert records == KEYS.updated(Records(), keys)[0]
