# SPDX-License-Identifier: Apache-2.0
"""Ask a home agent's virtual terminal for its binding cache.

The terminal serves one client at a time, so the connection is open only during a query. A second client is connected
but never answered, or cut off in other versions: every wait has a timeout.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ha_bridge.model import CacheEntry
from ha_bridge.process_sockets import Listener, is_loopback, listeners, terminal_sockets
from ha_bridge.restoration import Refusal, add_command, refusal
from ha_bridge.terminal_answers import AnswerReader, UnreadableAnswer, is_unknown_command, parse_binding_cache
from hoaflow.errors import HoaflowError

CHUNK = 1 << 18
SILENCE, WHOLE = 2.0, 60.0  # seconds to wait for the next bytes, and for the whole cache
ASK_AGAIN = 3  # times: the first command after the home agent's start may be answered as unknown
FAREWELL = 0.5  # seconds to wait for the terminal to hang up after `quit`


class TerminalError(HoaflowError):
    """The binding cache could not be read from the terminal; the message says why."""


class TerminalRefused(TerminalError):
    """Nobody listens, or somebody who is not the home agent: its process is gone."""


class TerminalUnreadable(TerminalError):
    """The terminal gave no complete answer: it is busy with another client, hangs, or cut the connection."""


class TerminalClient:
    """Talk to the virtual terminal at `host`:`port`.

    `silence` limits the wait for the next bytes and `whole` that for the entire cache, in seconds. `command` asks for
    the cache, and `parse` reads the plain answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        silence: float = SILENCE,
        whole: float = WHOLE,
        command: str = "bc",
        parse: Callable[[bytes], list[CacheEntry]] = parse_binding_cache,
    ) -> None:
        self._address = (host, port)
        self._command = command
        self._parse = parse
        self._silence = silence
        self._whole = whole

    def read(self) -> list[CacheEntry]:
        """Return the whole binding cache. Raises TerminalRefused or TerminalUnreadable."""
        with self._session() as dialogue:
            return self._read(dialogue)

    def add(self, entries: list[CacheEntry]) -> tuple[list[str], dict[str, Refusal]]:
        """Add entries to the binding cache, each for the lifetime in `left`; return those added and those refused.

        If the first entry is refused for a reason that may pass, the others are not tried. Raises the errors of `read`,
        possibly with some entries added.
        """
        added: list[str] = []
        refused: dict[str, Refusal] = {}
        with self._session() as dialogue:
            for entry in entries:
                found = refusal(dialogue.ask(add_command(entry)))
                if found is None:
                    added.append(entry.home_address)
                    continue
                refused[entry.home_address] = found
                if found.passing and not added:
                    break
        return added, refused

    def sockets(self) -> frozenset[int]:
        """Return the inodes of the terminal's listening sockets, as far as this process sees them."""
        return terminal_sockets(*self._address)

    @property
    def _name(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def _read(self, dialogue: "_Dialogue") -> list[CacheEntry]:
        for _ in range(ASK_AGAIN):
            answer = dialogue.ask(self._command)
            if not is_unknown_command(answer):
                return self._parse(answer)
        raise UnreadableAnswer(f"expected the answer to `{self._command}`, found {answer[:200]!r} {ASK_AGAIN} times")

    @contextmanager
    def _session(self) -> Iterator["_Dialogue"]:
        try:
            before = listeners(self._address[1])
            with socket.create_connection(self._address, timeout=self._silence) as connection:
                if is_loopback(self._address[0]):
                    _check_owner(connection, before)
                dialogue = _Dialogue(connection, time.monotonic() + self._whole)
                # Plain output is shorter. A terminal that does not know the words gives the other form, which is
                # understood too.
                for command in ("fancy no", "prompt no"):
                    answer = dialogue.ask(command) or dialogue.answer()
                    if answer.strip() != b"no" and not is_unknown_command(answer):
                        raise UnreadableAnswer(f"expected 'no' as answer to '{command}', found {answer[:200]!r}")
                yield dialogue
                dialogue.quit()
        except ConnectionRefusedError as error:
            raise TerminalRefused(f"nobody listens at {self._name}: {error}") from error
        except (OSError, UnreadableAnswer) as error:
            raise TerminalUnreadable(f"no binding cache from {self._name}: {error}") from error


def _check_owner(connection: socket.socket, before: frozenset[Listener]) -> None:
    """Check that no other user of this host plays the home agent, at its port while it does not run.

    `before`: who listened before the connection was made. Only somebody who listened then and does still has certainly
    accepted it. Raises TerminalRefused, ConnectionError.
    """
    address, port = connection.getpeername()[:2]
    accepting = [listener for listener in listeners(port) if listener.takes(address)]
    if strangers := {listener.user for listener in accepting} - {0, os.geteuid()}:
        raise TerminalRefused(
            f"user {min(strangers)} listens at {address}:{port}, expected root or user {os.geteuid()}: end that program"
        )
    if not accepting or not before.issuperset(accepting):
        raise ConnectionError("the terminal began to listen only now")


class _Dialogue:
    """Exchange commands and answers on one connection, one command at a time."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._reader = AnswerReader()

    def ask(self, command: str) -> bytes:
        self._connection.sendall(command.encode() + b"\n")
        return self.answer()

    def answer(self) -> bytes:
        while (answer := self._reader.take()) is None:
            if time.monotonic() > self._deadline:
                raise TimeoutError("the answer took too long")
            data = self._connection.recv(CHUNK)
            if not data:
                raise ConnectionError("the terminal hung up before the answer was complete")
            self._reader.feed(data)
        return answer

    def quit(self) -> None:
        """Send `quit` and wait for the terminal to hang up: until then it is busy for the next client."""
        self._connection.sendall(b"quit\n")
        self._connection.settimeout(FAREWELL)
        try:
            while self._connection.recv(CHUNK):
                if time.monotonic() > self._deadline:
                    return
        except OSError:
            return  # the cache has been read; closing this end frees the terminal as well
