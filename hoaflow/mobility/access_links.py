# SPDX-License-Identifier: Apache-2.0
"""Keep sockets open on the access links of a service: on each interface that has the link's name now."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from hoaflow.mobility.bound import Bound
from hoaflow.mobility.packet_io import PacketReceiver
from hoaflow.mobility.service import Service


class Link(Protocol):
    """One access link's sockets."""

    receiver: PacketReceiver

    def close(self) -> None:
        """Close them."""


LinkT = TypeVar("LinkT", bound=Link)


class AccessLinks(Generic[LinkT]):
    """The access links whose sockets are open, each one declared object (`declaration`)."""

    def __init__(
        self,
        service: Service,
        interfaces: Sequence[str],
        opened: Callable[[str], LinkT],
        hear: Callable[[LinkT], None],
    ) -> None:
        """Open none yet. `opened` opens an interface's sockets, `hear` takes what has arrived there.

        They are closed when `service` undoes what it has set up.
        """
        self._service, self._interfaces, self._opened, self._hear = service, interfaces, opened, hear
        self._links: dict[str, LinkT] = {}
        service.undo.callback(self._close)

    def __iter__(self) -> Iterator[LinkT]:
        return iter(self._links.values())

    def get(self, interface: str) -> LinkT | None:
        """Return the sockets of an interface, None while it has none."""
        return self._links.get(interface)

    def declaration(self) -> list[Bound]:
        """Return the declared objects that open the sockets, and open them anew on a new interface of that name."""
        return [Bound(interface, partial(self._bind, interface)) for interface in self._interfaces]

    def _bind(self, interface: str) -> None:
        if (former := self._links.pop(interface, None)) is not None:
            self._service.loop.selector.unregister(former.receiver)
            former.close()
        link = self._links[interface] = self._opened(interface)
        self._service.listen(link.receiver, partial(self._hear, link))

    def _close(self) -> None:
        for link in self._links.values():
            link.close()
