# SPDX-License-Identifier: Apache-2.0
"""Limit the REST server's open connections, in all and from one address, and choose which one makes room.

Ours because eventlet limits connections in all only: one client could have them all.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable

from hoaflow.errors import HoaflowError

# Key in a request's WSGI environment for the `set_admitted` of its connection.
ADMITTED = "hoaflow.admitted"
# Key for a function that tells whether the client has hung up.
HUNG_UP = "hoaflow.hung-up"


class TooManyConnections(HoaflowError):
    """There is no room for another connection from this address."""


class Connection:
    """One connection, which is a stranger's until one of its requests has been admitted."""

    __slots__ = ("_all", "address", "end")

    def __init__(self, all_: "Connections", address: str) -> None:
        self._all = all_
        self.address = address
        self.end: Callable[[], None] = lambda: None

    def set_admitted(self) -> None:
        """Record that a request has been admitted: the connection is never ended to make room for another."""
        self._all.strangers.pop(self, None)

    def close(self) -> None:
        """Release the place of the connection, which has ended."""
        self._all.remove(self)


class Connections:
    """Hold all connections: at most `most`, and at most `most_of_one` from one address.

    If there are too many, the oldest connection of a stranger is ended. So nobody keeps others out with slow or silent
    connections.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._count = 0
        self._of_address: Counter[str] = Counter()
        self.strangers: OrderedDict[Connection, None] = OrderedDict()

    def add(self, address: str) -> Connection:
        """Return a new connection; the caller sets its `end`. Raises TooManyConnections."""
        if self._of_address[address] >= self._most_of_one:
            raise TooManyConnections(f"{address} has {self._most_of_one} connections already (connections_per_client)")
        if self._count >= self._most:
            if not self.strangers:
                raise TooManyConnections(f"{self._count} connections are open, all of admitted clients")
            next(iter(self.strangers)).end()
        connection = Connection(self, address)
        self.strangers[connection] = None
        self._of_address[address] += 1
        self._count += 1
        return connection

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.strangers.pop(connection, None)
        self._count -= 1
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]
