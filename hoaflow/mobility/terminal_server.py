# SPDX-License-Identifier: Apache-2.0
"""Serve the virtual terminal, with UMIP's settings and answers, to several clients at a time.

A client that does not read or says nothing costs a buffer of bounded size and nothing else. Tests compare the answers
with captures of UMIP's.
"""

import contextlib
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv6Address, ip_address
from itertools import chain, islice

from hoaflow.logs import Log

PROMPT = "mip6d> "
MAX_CLIENTS = 16
MAX_LINE = 1024
"""Bytes. A client that sends a longer line is disconnected, as no command is that long."""
PATIENCE = 3.0
"""Seconds that a probe waits for the terminal's greeting."""
ENTRIES_AT_ONCE = 256
"""Entries rendered before the loop turns to other sockets."""

Listing = Callable[[bool, bool], Iterator[str]]
"""Renders the entries as they are at the call; its arguments are the client's settings `verbose` and `fancy`."""

Switch = Callable[[bool | None], str]
"""Sets a state of the program, None leaves it; returns `yes` or `no` for what it is now, or why it can't be set."""

LOG = Log("mobility")


def silence(address: tuple[str, int]) -> str | None:
    """Connect to the terminal as a client and return what is wrong with it; None if it greets.

    For probes' threads: the terminal greets only while the main loop turns.
    """
    try:
        with socket.create_connection(address, timeout=PATIENCE) as client:
            greeting = client.recv(1)
    except OSError as error:
        return f"the terminal does not answer: {error}"
    return None if greeting else "the terminal closes the connection"


def unshortened(address: str) -> str:
    """Write an address as UMIP prints it: eight groups, neither padded nor shortened.

    >>> unshortened("2001:db8:99::1")
    '2001:db8:99:0:0:0:0:1'
    """
    value = int(IPv6Address(address))
    return ":".join(f"{value >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


NO_SWITCHES: Mapping[str, Switch] = {}


class Session:
    """One client's settings and dialogue: lines of text in, text out. Pure."""

    def __init__(
        self, listings: Mapping[str, Listing], switches: Mapping[str, Switch] = NO_SWITCHES, local: bool = False
    ) -> None:
        """Take over a client. `listings` are the commands that show entries.

        `switches` are those that change the program's state: there is no password, so only `local` clients may.
        """
        self._listings, self._switches, self._local = listings, switches, local
        self._settings = {"verbose": False, "fancy": True, "prompt": True}
        self.closed = False

    def greeting(self) -> str:
        """Return what a new client is sent first."""
        return PROMPT

    def answer(self, line: str) -> Iterator[str]:
        """Answer one line, in pieces. `quit` sets `closed`."""
        command, *arguments = line.split() or [""]
        if command == "quit":
            self.closed = True
            return iter(())
        body = self._execute(command, arguments)
        return chain(body, [f"{PROMPT if self._settings['prompt'] else ''}\0"])

    def _execute(self, command: str, arguments: list[str]) -> Iterator[str]:
        if command in self._listings:
            if arguments:  # UMIP has `bc add` and `bc del`; here bindings come from mobile nodes only
                return iter(["unknown args\n"])
            return self._listings[command](self._settings["verbose"], self._settings["fancy"])
        if command in self._switches:
            return iter([f"{self._switch(self._switches[command], arguments)}\n"])
        if command in self._settings:
            if arguments in (["yes"], ["no"]):
                self._settings[command] = arguments == ["yes"]
            elif arguments:
                return iter(["unknown args\n"])
            return iter(["yes\n" if self._settings[command] else "no\n"])
        return iter([f'unknown command: "{command}"\n'] if command else [])

    def _switch(self, switch: Switch, arguments: list[str]) -> str:
        if not arguments:
            return switch(None)
        if arguments not in (["yes"], ["no"]):
            return "unknown args"
        return switch(arguments == ["yes"]) if self._local else "only from this host's loopback address"


class _Client:
    """A connection, with the part of an answer that is still to be sent to it."""

    def __init__(self, connection: socket.socket, session: Session) -> None:
        self.connection, self._session = connection, session
        self._received, self._ready = b"", session.greeting().encode()
        self._rest: Iterator[str] = iter(())

    @property
    def waiting(self) -> bool:
        """Whether something is ready to be sent."""
        return bool(self._ready)

    def receive(self) -> None:
        """Read commands. Raises ConnectionError if the client has gone or its line is too long."""
        try:
            data = self.connection.recv(MAX_LINE)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionAbortedError("closed by the client")
        self._received += data
        if len(self._received) > MAX_LINE and b"\n" not in self._received:
            raise ConnectionAbortedError("a line without end")
        self._fill()

    def send(self) -> None:
        """Send one piece; answer the next command once this answer has been sent. Raises OSError."""
        with contextlib.suppress(BlockingIOError):
            self._ready = self._ready[self.connection.send(self._ready) :]
        self._fill()

    def _fill(self) -> None:
        """Prepare bytes to send, if there are none. Raises ConnectionError once all has been sent after `quit`."""
        while not self._ready:
            if piece := "".join(islice(self._rest, ENTRIES_AT_ONCE)):
                self._ready = piece.encode()
                return
            if self._session.closed:
                raise ConnectionAbortedError("quit")
            line, newline, rest = self._received.partition(b"\n")
            if not newline:
                return
            self._received = rest
            self._rest = self._session.answer(line.decode(errors="replace"))


class TerminalServer:
    """The listening socket and its clients, driven by a main loop's selector."""

    def __init__(
        self,
        host: str,
        port: int,
        selector: selectors.BaseSelector,
        listings: Mapping[str, Listing],
        switches: Mapping[str, Switch] = NO_SWITCHES,
    ) -> None:
        """Listen; `listings` and `switches` are as in `Session`. Raises OSError if the address is in use."""
        self._selector, self._listings, self._switches = selector, listings, switches
        self._clients: dict[int, _Client] = {}  # in order of connecting
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=MAX_CLIENTS)
        self._listener.setblocking(False)
        self._listening = True
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which it listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    def suspend(self) -> None:
        """Disconnect all clients, and refuse new ones until `resume`, as if no process were there. Idempotent.

        The port stays ours: shutting a listening socket down makes Linux refuse connections without giving it up.
        """
        for client in list(self._clients.values()):
            self._drop(client)
        if self._listening:
            self._listening = False
            self._selector.unregister(self._listener)
            self._listener.shutdown(socket.SHUT_RD)

    def resume(self) -> None:
        """Listen again after `suspend`. Idempotent."""
        if not self._listening:
            self._listening = True
            self._listener.listen(MAX_CLIENTS)
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Disconnect all clients and stop listening."""
        self.suspend()
        self._listener.close()

    def _accept(self, _events: int) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError as error:  # the client has gone already, or no descriptor is left
            LOG.debug("console-accept-failed", reason=error)
            return
        connection.setblocking(False)
        if len(self._clients) >= MAX_CLIENTS:
            LOG.warning("console-full", clients=MAX_CLIENTS, action="close-oldest", peer=peer[0])
            self._drop(next(iter(self._clients.values())))
        local = ip_address(peer[0].split("%")[0]).is_loopback
        client = _Client(connection, Session(self._listings, self._switches, local))
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_WRITE, lambda events: self._serve(client, events))

    def _serve(self, client: _Client, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                client.receive()
            else:
                client.send()
        except OSError as error:
            LOG.debug("console-client-left", reason=error)
            self._drop(client)
            return
        # A client that has an answer to read is not read from.
        interest = selectors.EVENT_WRITE if client.waiting else selectors.EVENT_READ
        self._selector.modify(client.connection, interest, lambda events: self._serve(client, events))

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.connection.fileno(), None)
        self._selector.unregister(client.connection)
        client.connection.close()
