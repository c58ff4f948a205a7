# SPDX-License-Identifier: Apache-2.0
"""Build and read the messages of etcd's JSON gateway, in which keys and values are in Base64, and numbers are text.

Their fields are those of etcd's API, https://etcd.io/docs/v3.5/dev-guide/api_reference_v3/.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# A transaction carries all of its operations out if all of its comparisons hold, else none.
Comparison = Mapping[str, Any]
Operation = Mapping[str, Any]
Transaction = tuple[Sequence[Comparison], Sequence[Operation]]


class KeyValue(NamedTuple):
    """What a key holds: the revision of its last change, and the lease with which it goes, 0 for none."""

    value: str
    revision: int
    lease: int


class Change(NamedTuple):
    """A change of a key: what it holds now, None if it was deleted."""

    key: str
    found: KeyValue | None


def encoded(text: str) -> str:
    """Return a key or value as the gateway takes it."""
    return b64encode(text.encode()).decode()


def unchanged(key: str, revision: int) -> Comparison:
    """Require that a key was last changed at `revision`; 0: that it does not exist."""
    return {"key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def put(key: str, value: str, lease: int = 0) -> Operation:
    """Set a key, which goes with `lease` if that is not 0."""
    return {"request_put": {"key": encoded(key), "value": encoded(value), "lease": str(lease)}}


def delete(key: str) -> Operation:
    """Delete a key if it exists."""
    return {"request_delete_range": {"key": encoded(key)}}


def below(prefix: str) -> dict[str, str]:
    """Return the range of all keys that begin with `prefix`, which must end in an ASCII character."""
    return {"key": encoded(prefix), "range_end": encoded(prefix[:-1] + chr(ord(prefix[-1]) + 1))}


def key_value(found: Mapping[str, Any]) -> tuple[str, KeyValue]:
    """Return the key of etcd's `KeyValue` and what it holds."""
    value = b64decode(found.get("value", "")).decode(errors="replace")
    key = b64decode(found["key"]).decode(errors="replace")
    return key, KeyValue(value, int(found["mod_revision"]), int(found.get("lease", 0)))


def keys_of(answer: Mapping[str, Any]) -> tuple[int, dict[str, KeyValue]]:
    """Return the revision and the keys of the answer to a reading."""
    return int(answer["header"]["revision"]), dict(map(key_value, answer.get("kvs", ())))


def change_of(event: Mapping[str, Any]) -> Change:
    """Return the change that etcd's `Event` tells of."""
    key, found = key_value(event["kv"])
    return Change(key, None if event.get("type") == "DELETE" else found)
