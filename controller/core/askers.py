# SPDX-License-Identifier: Apache-2.0
"""Find the on-demand routers that an update of a home address concerns, without a look at any other."""

from collections.abc import Iterator
from itertools import chain
from typing import TypeVar

from controller.core.prefix_index import PrefixIndex
from hoaflow.addresses import Prefix

_Key = TypeVar("_Key", Prefix, bytes)


class Askers:
    """The routers that are asked for each home address, so that an update looks at no others.

    ``suppressed`` has the home addresses of which a switch tells nothing for a while: those without a binding, too.
    """

    def __init__(self) -> None:
        self.on_demand: dict[int, None] = {}
        self.with_everything: dict[int, None] = {}
        self.suppressed: PrefixIndex[tuple[int, ...]] = PrefixIndex()
        self._asked: dict[Prefix, tuple[int, ...]] = {}
        # By care-of address the routers with an adopted uplink flow: it takes the packets of whoever comes there.
        self._adopting: dict[bytes, tuple[int, ...]] = {}

    def __iter__(self) -> Iterator[Prefix]:
        """Iterate over the home addresses that any is asked for, as they are now."""
        return iter(list(self._asked))

    def of(self, home_address: Prefix) -> tuple[int, ...]:
        """Return the datapath ids of the on-demand routers that are asked for a home address."""
        return self._asked.get(home_address, ())

    def add(self, home_address: Prefix, dpid: int) -> None:
        """Record that a router is asked for a home address, which it was not."""
        self._asked[home_address] = (*self.of(home_address), dpid)

    def remove(self, home_address: Prefix, dpid: int) -> None:
        """Record that a router is no longer asked for a home address."""
        _remove(self._asked, home_address, dpid)

    def adopting(self, care_of_address: bytes) -> tuple[int, ...]:
        """Return the datapath ids of the on-demand routers with an adopted uplink flow from a care-of address."""
        return self._adopting.get(care_of_address, ())

    def adopt(self, care_of_address: bytes, dpid: int) -> None:
        """Record that a router has an adopted uplink flow from a care-of address, which it had not."""
        self._adopting[care_of_address] = (*self.adopting(care_of_address), dpid)

    def abandon(self, care_of_address: bytes, dpid: int) -> None:
        """Record that a router has no adopted uplink flow from a care-of address any more."""
        _remove(self._adopting, care_of_address, dpid)

    def suppress(self, home_address: Prefix, dpid: int) -> None:
        """Record that a router's switch tells nothing of a home address, of which it has told until now."""
        self.suppressed.put(home_address, (*(self.suppressed.get(home_address) or ()), dpid))

    def unsuppress(self, home_address: Prefix, dpid: int) -> None:
        """Record that a router's switch may tell of a home address again."""
        known = self.suppressed.get(home_address) or ()
        left = _without(known, dpid)
        if left:
            self.suppressed.put(home_address, left)
        else:
            self.suppressed.remove(home_address, known)

    def suppressing(self, home_address: Prefix) -> Iterator[int]:
        """Iterate over the routers whose switches tell nothing of a home address, or of one in it."""
        return chain.from_iterable(self.suppressed.within(home_address))

    def note_mode(self, dpid: int, on_demand: bool) -> None:
        """Record which bindings' flows a router has. Idempotent."""
        former, present = self.with_everything, self.on_demand
        if not on_demand:
            former, present = present, former
        former.pop(dpid, None)
        present[dpid] = None

    def forget(self, dpid: int) -> None:
        """Forget a router that is asked for nothing. Idempotent."""
        self.on_demand.pop(dpid, None)
        self.with_everything.pop(dpid, None)


def _remove(routers: dict[_Key, tuple[int, ...]], key: _Key, dpid: int) -> None:
    left = _without(routers.get(key, ()), dpid)
    if left:
        routers[key] = left
    else:
        routers.pop(key, None)


def _without(dpids: tuple[int, ...], dpid: int) -> tuple[int, ...]:
    return tuple(each for each in dpids if each != dpid)
