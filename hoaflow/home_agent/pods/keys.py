# SPDX-License-Identifier: Apache-2.0
"""Name what etcd holds of a home agent address, and how to reach that etcd. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hoaflow.etcd.client import EtcdAccess
from hoaflow.etcd.messages import KeyValue


class Shared(NamedTuple):
    """Where the shared cache is, and what this pod is called there.

    `endpoints`: URLs of etcd's members. `cache`: the name of the cache. `lease`: seconds, after which another pod takes
    the address of one that gives no sign of life. `access`: how etcd is asked.
    """

    endpoints: tuple[str, ...]
    cache: str
    pod: str
    lease: int
    access: EtcdAccess = EtcdAccess()


class Keys:
    """The keys of a home agent address: its owner, and one for each home address.

    The owner's key goes with the owner's lease. The others stay; only the owner writes them.
    """

    def __init__(self, name: str, home_agent: str) -> None:
        self.prefix = f"/hoaflow-ha/{name}/{home_agent}/"
        self.owner = f"{self.prefix}owner"
        self._bindings = f"{self.prefix}bindings/"

    def binding(self, home_address: str) -> str:
        """Return the key of a home address."""
        return self._bindings + home_address

    def home_address(self, key: str) -> str | None:
        """Return the home address of a key, None if it is another kind of key."""
        return key.removeprefix(self._bindings) if key.startswith(self._bindings) else None


def owner_value(pod: str, since: float) -> str:
    """Return what the owner's key holds. `since`: seconds since 1970."""
    return json.dumps({"pod": pod, "since": round(since, 3)})


def owner_name(found: KeyValue | None) -> str:
    """Return the name of the owner, for operators."""
    if found is None:
        return "nobody"
    try:
        return str(json.loads(found.value)["pod"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return "somebody whose key hoaflow-ha has not written"


@dataclass(slots=True)
class Copy:
    """What this pod has seen of the keys: the owner, and what is known of each home address, as JSON."""

    keys: Keys
    owner: KeyValue | None = None
    records: dict[str, str] = field(default_factory=dict)

    def take(self, changes: Mapping[str, KeyValue | None]) -> None:
        """Take in what some keys hold now."""
        for key, found in changes.items():
            if key == self.keys.owner:
                self.owner = found
            elif (home_address := self.keys.home_address(key)) is not None:
                self.records.pop(home_address, None)
                if found is not None:
                    self.records[home_address] = found.value
