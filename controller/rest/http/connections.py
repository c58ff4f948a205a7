# SPDX-License-Identifier: Apache-2.0
"""The open connections of the REST server: how many there may be, in all and of one address, and who makes room."""

from collections import Counter, OrderedDict
from collections.abc import Callable

from hoaflow.errors import HoaflowError

# Where a request's environment has the ``let_in`` of its connection.
LET_IN = "hoaflow.let_in"


class TooManyConnections(HoaflowError):
    """There is no room for a connection of this address."""


class Connection:
    """One connection. It is a stranger's until something that came over it has been let in (``let_in``)."""

    __slots__ = ("_all", "address", "end")

    def __init__(self, all_: "Connections", address: str) -> None:
        self._all = all_
        self.address = address
        self.end: Callable[[], None] = lambda: None

    def let_in(self) -> None:
        """A request over it has been let in: it is nobody's to be ended for another's sake any more."""
        self._all.strangers.pop(self, None)

    def close(self) -> None:
        """It has ended."""
        self._all.remove(self)


class Connections:
    """All of them, at most ``most``, and ``most_of_one`` of one address.

    When there are too many, the oldest of the strangers has to go: so nobody keeps others out by opening connections
    and saying little or nothing.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._count = 0
        self._of_address: Counter[str] = Counter()
        self.strangers: OrderedDict[Connection, None] = OrderedDict()

    def add(self, address: str) -> Connection:
        """Return a new connection; its ``end`` is to be set to what ends it. Raises TooManyConnections."""
        if self._of_address[address] >= self._most_of_one:
            raise TooManyConnections(f"{address} has {self._most_of_one} connections already (connections_per_client)")
        if self._count >= self._most:
            if not self.strangers:
                raise TooManyConnections(f"{self._count} connections are open, all of clients that were let in")
            next(iter(self.strangers)).end()
        connection = Connection(self, address)
        self.strangers[connection] = None
        self._of_address[address] += 1
        self._count += 1
        return connection

    def remove(self, connection: Connection) -> None:
        """A connection has ended."""
        self.strangers.pop(connection, None)
        self._count -= 1
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]
