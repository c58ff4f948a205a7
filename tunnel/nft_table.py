# SPDX-License-Identifier: Apache-2.0
"""An nftables table that is wholly ours, declared as data: made, compared rule by rule, and removed."""

from __future__ import annotations

from typing import Any, NamedTuple

from tunnel import nft
from tunnel.namespace import Namespace

Rule = tuple[dict[str, Any], ...]
"""A rule's expressions, written as nft lists them (libnftables-json(5)): what is listed is compared with it."""


class Chain(NamedTuple):
    """A base chain of type filter that accepts what its rules say nothing about."""

    name: str
    hook: str
    priority: int
    rules: tuple[Rule, ...]


class Table(NamedTuple):
    """A table. Nothing in it but these chains; calls are idempotent and raise NftError."""

    family: str
    name: str
    chains: tuple[Chain, ...]

    def put(self, namespace: Namespace) -> bool:
        """Make the table what it is to be, in one transaction; False if it is so already."""
        if self.is_there(namespace):
            return False
        commands: list[dict[str, Any]] = [{"add": {"table": self._own}}, {"delete": {"table": self._own}}]
        nft.apply(namespace, commands + [{"add": each} for each in self._objects()])
        return True

    def remove(self, namespace: Namespace) -> bool:
        """Remove the table; False if there is none."""
        if (self.family, self.name) not in nft.tables(namespace):
            return False
        nft.apply(namespace, [{"delete": {"table": self._own}}])
        return True

    def is_there(self, namespace: Namespace) -> bool:
        """Whether the table is there, with these chains and rules and no others."""
        if (self.family, self.name) not in nft.tables(namespace):
            return False
        listed = nft.listing(namespace, "table", self.family, self.name)
        return [_without_handles(each) for each in listed] == self._objects()

    @property
    def _own(self) -> dict[str, Any]:
        return {"family": self.family, "name": self.name}

    def _objects(self) -> list[dict[str, Any]]:
        """What the table consists of, as nft lists it."""
        within = {"family": self.family, "table": self.name}
        objects: list[dict[str, Any]] = [{"table": self._own}]
        for name, hook, priority, _ in self.chains:
            base = {"type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
            objects.append({"chain": within | {"name": name} | base})
        for chain in self.chains:
            objects += [{"rule": within | {"chain": chain.name, "expr": list(rule)}} for rule in chain.rules]
        return objects


def _without_handles(listed: dict[str, Any]) -> dict[str, Any]:
    return {kind: {key: value for key, value in facts.items() if key != "handle"} for kind, facts in listed.items()}
