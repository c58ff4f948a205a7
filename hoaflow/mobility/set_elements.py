# SPDX-License-Identifier: Apache-2.0
"""Declare the elements of an nftables set: one for each prefix or home address that is served."""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from hoaflow.addresses import format_address, parse_prefix
from hoaflow.mobility.binding_objects import summary
from hoaflow.tunnel.actual_state import ActualState, MissingParent
from hoaflow.tunnel.nfnetlink import Count, Element, NftSocket, parsed

V = TypeVar("V")
MAC_OCTETS, PADDED_MAC = 6, 8


class SetElements(Generic[V]):
    """The elements of a set, and no others. They vanish with the set's table, which is declared before them."""

    def __init__(
        self,
        family: str,
        table: str,
        name: str,
        what: str,
        element: Callable[[str, V], Element],
        shown: Callable[[Element], str],
    ) -> None:
        """Open a socket. `element` returns that of a prefix; `what` and `shown` are for operators. Raises OSError."""
        self.wanted: dict[str, V] = {}
        """{prefix or home address: what its element is made of}"""
        self._family, self._table, self._name, self._what = family, table, name, what
        self._element, self._shown = element, shown
        self._socket = NftSocket()

    def __str__(self) -> str:
        return self._what

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        if (self._family, self._table) not in actual.tables(None):
            raise MissingParent(f"nftables table {self._table} is missing")
        listed = self._socket.elements(self._family, self._table, self._name)
        found = {element for message in listed for element in parsed(message)}
        wanted = set(self._elements(self.wanted))
        return summary(self._what, [*map(self._shown, wanted - found)], [*map(self._shown, found - wanted)])

    def make(self) -> None:
        """See `Declared`."""
        self._change(self._elements(self.wanted), None)

    def remove(self) -> None:
        """See `Declared`. They go with the table."""
        self.wanted.clear()

    def put(self, prefix: str, value: V) -> None:
        """Have the element of a prefix in place of any former one. Raises NftError, OSError."""
        former = {prefix: self.wanted[prefix]} if prefix in self.wanted else {}
        self.wanted[prefix] = value
        self._change(self._elements({prefix: value}), self._elements(former))

    def drop(self, prefix: str) -> None:
        """Have no element of a prefix any more. Raises NftError, OSError."""
        if prefix in self.wanted:
            self._change([], self._elements({prefix: self.wanted.pop(prefix)}))

    @property
    def port(self) -> int:
        """The netlink port of its changes."""
        return self._socket.port

    def close(self) -> None:
        """Close its socket."""
        self._socket.close()

    def _change(self, add: Iterable[Element], remove: Iterable[Element] | None) -> None:
        change = (self._name, list(add), None if remove is None else list(remove))
        self._socket.change_elements(self._family, self._table, [change])

    def _elements(self, wanted: Mapping[str, V]) -> list[Element]:
        return [self._element(prefix, value) for prefix, value in wanted.items()]


def counters(family: str, table: str) -> dict[str, Count]:
    """Return a table's counters by name; also for the thread of a metrics' server. Raises NftError."""
    with NftSocket() as opened:
        return opened.counters(family, table)


def padded(mac: bytes) -> bytes:
    """Return a MAC address as the kernel has it in a set with another part after it."""
    return mac.ljust(PADDED_MAC, b"\0")


def source_shown(element: Element) -> str:
    """Show an element of MAC address and source."""
    return f"{element.key[:MAC_OCTETS].hex(':')} {format_address(element.key[PADDED_MAC:])}"


def source_prefix(text: str, mac: bytes) -> Element:
    """Return the element of an interval set for a prefix as source from a MAC address."""
    prefix = parse_prefix(text)
    last = int.from_bytes(prefix.packed, "big") | (1 << (prefix.bits - prefix.length)) - 1
    return Element(padded(mac) + prefix.packed, padded(mac) + last.to_bytes(len(prefix.packed), "big"))
