# SPDX-License-Identifier: Apache-2.0
"""Know where addresses stand in the bytes of flows that differ in addresses only, to read many of them at once."""

import struct
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, TypeVar

from controller.core.flows import Flow
from controller.core.installed import AlikeFlows

# ofp_flow_stats up to its match (OpenFlow 1.3.5, section 7.3.5.2): length and table; seconds and nanoseconds of age;
# priority and idle time-out; hard time-out; flags and cookie; packets and bytes. What is the same in all flows of one
# shape is left as bytes.
STATISTICS = struct.Struct("!4sII4sH14sQQ")
SECONDS, NANOSECONDS, TIMEOUT, PACKETS, BYTES = 1, 2, 4, 6, 7
# The octets of these numbers, which may be any in flows that are alike; the time-out, though, has to be none.
_ANY = STATISTICS.pack(bytes(4), 0xFFFFFFFF, 0xFFFFFFFF, bytes(4), 0, bytes(14), (1 << 64) - 1, (1 << 64) - 1)
_TIMEOUT_AT = slice(16, 18)
# How many flows are compared at once that may be alike: first, and at most, as this doubles while they are. So what was
# compared in vain is never more than twice what was not.
FIRST_RUN, LONGEST_RUN = 4, 512

T = TypeVar("T")
Fields = tuple[Any, ...]


class Layout(Generic[T]):
    """Know where addresses stand in the bytes of an example, and what has to stand around them."""

    def __init__(
        self, example: T, data: bytes, head: str, matched: Sequence[bytes], values: Sequence[bytes] = ()
    ) -> None:
        """Find the places of the example's addresses in `data`, its bytes, behind a head in the format of `struct`.

        `matched` and `values` are the addresses that it matches, and sets. Numbers in the head may be any.
        """
        self.example = example
        self.size = len(data)
        begin, addresses = struct.calcsize(head), (*matched, *values)
        # Where each address is, in the order of `addresses`.
        self.places = [data.find(address, begin) for address in addresses]
        # An address that occurs twice, or as part of another, would be ambiguous: such a layout fits nothing.
        self.usable = self.places == [data.rfind(address, begin) for address in addresses]
        if not self.usable:
            return
        layout, end = head or "!", begin
        for at, address in sorted(zip(self.places, addresses, strict=True)):
            layout += f"{at - end}s{len(address)}s"
            end = at + len(address)
        self._struct = struct.Struct(f"{layout}{len(data) - end}s")
        fields = self._struct.unpack(data)
        first = len(struct.unpack_from(head, data))  # behind the head, which may hold the same octets
        places = [fields.index(address, first) for address in addresses]
        constant = [at for at, each in enumerate(fields) if isinstance(each, bytes) and at not in places]
        self._constant_of = _taking(constant)
        self._constants = self._constant_of(fields)
        self.matched, self.values = _taking(places[: len(matched)]), _taking(places[len(matched) :])

    def fields(self, data: bytes, offset: int) -> Fields | None:
        """Return head, constants and addresses at an offset in `data`; None if they have another layout.

        `matched` and `values` take the addresses from them.
        """
        if not self.usable or len(data) - offset < self.size:
            return None
        fields = self._struct.unpack_from(data, offset)
        return fields if self._constant_of(fields) == self._constants else None


class FlowLayout(Layout[Flow]):
    """Know the layout of flow statistics, and take apart at once those of many flows that have it and no time-out."""

    def __init__(self, example: Flow, data: bytes) -> None:
        """Learn the layout from the statistics of one flow, with time-out or without."""
        super().__init__(example, data, STATISTICS.format, example.addresses, example.values)
        if not self.usable:
            return
        addresses = dict(zip(self.places, (*example.addresses, *example.values), strict=True))
        varies, rows, end = bytearray(_ANY.ljust(self.size, b"\0")), "!", 0
        for at, address in sorted(addresses.items()):
            varies[at : at + len(address)] = b"\xff" * len(address)
            rows += f"{at - end}x{len(address)}s"
            end = at + len(address)
        self._rows = struct.Struct(f"{rows}{self.size - end}x")
        order = [sorted(addresses).index(at) for at in self.places]
        self._row = None if order == sorted(order) else _taking(order)
        pieces = [(varying, len(list(octets))) for varying, octets in groupby(varies)]
        self._around = struct.Struct("!" + "".join(f"{octets}{'x' if varying else 's'}" for varying, octets in pieces))
        self._alike = self._around.unpack(data[: _TIMEOUT_AT.start] + bytes(2) + data[_TIMEOUT_AT.stop :])
        self._counted = struct.Struct(f"!{STATISTICS.size - 16}xQQ{self.size - STATISTICS.size}x")

    def run(self, data: bytes, offset: int, longest: int) -> AlikeFlows | None:
        """Return the next flows that have this layout and no time-out, so many at most; None if there are none."""
        most = min((len(data) - offset) // self.size, longest)
        if not self.usable or not most:
            return None
        found = data[offset : offset + most * self.size]
        around = list(self._around.iter_unpack(found))
        if around.count(self._alike) != most:
            most = next(at for at, each in enumerate(around) if each != self._alike)
            found = found[: most * self.size]
        if not most:
            return None
        rows = self._rows.iter_unpack(found)
        octets = map(b"".join, rows if self._row is None else map(self._row, rows))
        return AlikeFlows(self.example.shape, list(octets), partial(self._counted.iter_unpack, found))


def _taking(places: Sequence[int]) -> Callable[[Fields], Fields]:
    """Return what takes the fields at these places, in this order."""
    if len(places) > 1:
        return itemgetter(*places)
    first = places[0] if places else 0
    return itemgetter(slice(first, first + len(places)))
