# SPDX-License-Identifier: Apache-2.0
"""The virtual terminal: UMIP's commands and answers (its captures are the tests' reference), for any number of clients.

A client that does not read, or says nothing, costs a buffer of bounded size and nothing else.
"""

from __future__ import annotations

import logging
import math
import selectors
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address

from home_agent.cache import Binding, State

PROMPT = "mip6d> "
MAX_CLIENTS = 16
MAX_LINE = 1024
"""Bytes; a longer line is no command of ours, the client is closed."""

log = logging.getLogger("home_agent.console")


def unshortened(address: str) -> str:
    """Eight groups, neither padded nor shortened, as UMIP prints addresses.

    >>> unshortened("2001:db8:99::1")
    '2001:db8:99:0:0:0:0:1'
    """
    value = int(IPv6Address(address))
    return ":".join(f"{value >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


def render(binding: Binding, home_agent: str, link: str, tunnel: str, now: float, verbose: bool, fancy: bool) -> str:
    """One entry of the binding cache in UMIP's form."""
    update, nonce = binding.update, " nonce 0" if verbose else ""
    underline, bold, plain = ("\x1b[1;4m", "\x1b[1m", "\x1b[0m") if fancy else ("", "", "")
    flags = "".join(
        letter if flag else "-"
        for letter, flag in zip(
            "AHLK",
            (update.acknowledge, update.home_registration, update.link_local, update.key_management),
            strict=True,
        )
    )
    left = str(math.floor(binding.due - now)) if binding.state is State.REGISTERED else "-"
    extra = f" tunnel {tunnel} link {link}" if verbose else ""
    # No Mobile Prefix Advertisements are sent here: mpa says so as UMIP does before it has sent one.
    return (
        f"{underline}hoa {unshortened(binding.home_address)}{plain}{nonce}{bold} status {binding.state}{plain}\n"
        f" coa {unshortened(binding.care_of_address)}{nonce} flags {flags}\n"
        f" local {unshortened(home_agent)}{extra}\n"
        f" lifetime {left} / {binding.lifetime} seq {update.sequence} unreach 0 mpa - / 0 retry 0\n"
    )


class Session:
    """One client's settings and its side of the dialogue: text lines in, bytes out. Pure."""

    def __init__(self, binding_cache: Callable[[bool, bool], Iterable[str]]) -> None:
        """`binding_cache(verbose, fancy)` renders the entries."""
        self._binding_cache = binding_cache
        self._settings = {"verbose": False, "fancy": True, "prompt": True}
        self.closed = False

    def greeting(self) -> bytes:
        return PROMPT.encode()

    def answer(self, line: str) -> bytes:
        """The answer to one line. Sets `closed` on `quit`."""
        command, *arguments = line.split() or [""]
        if command == "quit":
            self.closed = True
            return b""
        text = self._execute(command, arguments)
        return f"{text}{PROMPT if self._settings['prompt'] else ''}\0".encode()

    def _execute(self, command: str, arguments: list[str]) -> str:
        if command == "bc":
            if arguments:  # UMIP's `bc add` and `bc del`: bindings come from mobile nodes only
                return "unknown args\n"
            return "".join(self._binding_cache(self._settings["verbose"], self._settings["fancy"]))
        if command in self._settings:
            if arguments in (["yes"], ["no"]):
                self._settings[command] = arguments == ["yes"]
            elif arguments:
                return "unknown args\n"
            return "yes\n" if self._settings[command] else "no\n"
        return f'unknown command: "{command}"\n' if command else ""


class _Client:
    def __init__(self, connection: socket.socket, session: Session) -> None:
        self.connection, self.session = connection, session
        self.received, self.pending = b"", session.greeting()


class Console:
    """The listening socket and its clients, driven by the home agent's selector."""

    def __init__(
        self,
        host: str,
        port: int,
        selector: selectors.BaseSelector,
        binding_cache: Callable[[bool, bool], Iterable[str]],
    ) -> None:
        """Raises OSError when the address is taken."""
        self._selector, self._binding_cache = selector, binding_cache
        self._clients: dict[int, _Client] = {}  # in order of connecting
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=MAX_CLIENTS)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return host, port

    def close(self) -> None:
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self, _events: int) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError as error:  # the client went away before it was taken, or no descriptor is left
            log.debug("event=console-accept-failed error=%r", str(error))
            return
        connection.setblocking(False)
        if len(self._clients) >= MAX_CLIENTS:
            log.warning("event=console-full clients=%d action=close-oldest peer=%s", MAX_CLIENTS, peer[0])
            self._drop(next(iter(self._clients.values())))
        client = _Client(connection, Session(self._binding_cache))
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, lambda events: self._serve(client, events))
        self._flush(client)

    def _serve(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_READ:
            try:
                data = client.connection.recv(4096)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                self._drop(client)
                return
            client.received += data or b""
        self._flush(client)

    def _flush(self, client: _Client) -> None:
        """Sends what is pending; the next command is answered only when the client has taken the last answer."""
        while True:
            if client.pending:
                try:
                    sent = client.connection.send(client.pending)
                except BlockingIOError:
                    break
                except OSError:
                    self._drop(client)
                    return
                client.pending = client.pending[sent:]
                continue
            if client.session.closed:
                self._drop(client)
                return
            line, newline, rest = client.received.partition(b"\n")
            if not newline:
                if len(line) > MAX_LINE:
                    self._drop(client)
                    return
                break
            client.received = rest
            client.pending = client.session.answer(line.decode(errors="replace"))
        interest = selectors.EVENT_WRITE if client.pending else selectors.EVENT_READ
        self._selector.modify(client.connection, interest, lambda events: self._serve(client, events))

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.connection.fileno(), None)
        self._selector.unregister(client.connection)
        client.connection.close()
