# SPDX-License-Identifier: Apache-2.0
"""The virtual terminal against what UMIP's showed, byte for byte, and against clients that do not behave."""

import contextlib
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat

import pytest

from ha_bridge.terminal_answers import AnswerReader, parse_binding_cache
from hoaflow.home_agent.cache import Binding, State
from hoaflow.home_agent.terminal import render
from hoaflow.mobility import terminal_server
from hoaflow.mobility.messages import BindingUpdate
from hoaflow.mobility.terminal_server import MAX_CLIENTS, Session, TerminalServer, silence
from tests.support.bridge import DATA, HOME_AGENT
from topologies.waiting import patient

CARE_OF = "2001:db8:2:0:f4a9:63ff:fe44:404e"
UPDATE = BindingUpdate(CARE_OF, HOME_AGENT, "2001:db8:99::100", CARE_OF, 52723, 60)
REGISTERED = Binding(UPDATE, State.REGISTERED, 60, due=60.0)
# What we do not have: the time to the next Mobile Prefix Advertisement.
PREFIX_ADVERTISEMENT = re.compile(rb"mpa \S+ / \d+")
# Of these, an answer fits into no socket buffer of Linux for what is sent (4 MiB at most, by default).
ENTRIES = 40_000
RECEIVE_BUFFER = 1 << 16  # octets


def cache(binding: Binding, now: float) -> Callable[[bool, bool], Iterator[str]]:
    """Return a source of a binding cache with one entry, at a time."""
    return lambda verbose, fancy: iter([render(binding, HOME_AGENT, "hl", "ip6tnl1", now, verbose, fancy)])


def dialogue(session: Session, *lines: str) -> bytes:
    """Return what a client sees that sends these lines."""
    return session.greeting().encode() + b"".join(said(session, line) for line in lines)


def said(session: Session, line: str) -> bytes:
    """Return the whole answer to a line."""
    return "".join(session.answer(line)).encode()


@pytest.mark.parametrize(
    ("capture", "left", "lines"),
    [
        ("vt-registered.bin", 53, ["bc"]),
        ("vt-registered-verbose.bin", 52, ["verbose yes", "bc"]),
        ("vt-registered-plain.bin", 51, ["fancy no", "prompt no", "bc"]),
    ],
)
def test_the_answers_are_umips(capture: str, left: int, lines: list[str]) -> None:
    seen = dialogue(Session({"bc": cache(REGISTERED, 60.0 - left)}), *lines)
    captured = (DATA / "mipv6" / capture).read_bytes()
    same = PREFIX_ADVERTISEMENT.sub(b"mpa", seen)
    assert same == PREFIX_ADVERTISEMENT.sub(b"mpa", captured)


def test_mobile_networks_are_shown_as_umip_does() -> None:
    care_of, networks = "2001:db8:2:0:4cd1:4fff:fe22:ae63", ("2001:db8:aa:1::/64", "2001:db8:aa:2::/64")
    update = replace(UPDATE, source=care_of, care_of_address=care_of, sequence=32619, mobile_router=True)
    binding = Binding(update, State.REGISTERED, 60, 60.0, networks)
    seen = dialogue(Session({"bc": cache(binding, 7.0)}), "bc")
    captured = (DATA / "nemo" / "vt-registered-nemo.bin").read_bytes()
    assert PREFIX_ADVERTISEMENT.sub(b"mpa", seen) == PREFIX_ADVERTISEMENT.sub(b"mpa", captured)


def test_the_empty_cache_is_umips() -> None:
    seen = dialogue(Session({"bc": lambda verbose, fancy: iter(())}), "bc")
    assert seen == (DATA / "mipv6" / "vt-after-home.bin").read_bytes()


def test_an_unknown_command_is_answered_as_umip_does() -> None:
    seen = dialogue(Session({"bc": lambda verbose, fancy: iter(())}), "(null)")
    assert seen == (DATA / "mipv6" / "vt-empty.bin").read_bytes()


@pytest.mark.parametrize("line", ["bc add", "bc del 2001:db8:99::100", "verbose maybe", "prompt yes no"])
def test_nothing_can_be_written_and_nothing_else_set(line: str) -> None:
    session = Session({"bc": cache(REGISTERED, 0.0)})
    before = said(session, "bc")
    assert said(session, line) == b"unknown args\nmip6d> \0"
    assert said(session, "bc") == before


def test_an_entry_in_detection_has_no_lifetime_left_to_tell() -> None:
    (text,) = cache(Binding(UPDATE, State.DAD, 60, due=1.0), 0.0)(False, False)
    assert " status dad\n" in text
    assert " lifetime - / 60 " in text


def test_flags() -> None:
    update = BindingUpdate(
        CARE_OF, HOME_AGENT, "2001:db8:99::100", CARE_OF, 1, 60, acknowledge=False, link_local=True, key_management=True
    )
    (text,) = cache(Binding(update, State.REGISTERED, 60, 60.0), 0.0)(False, False)
    assert " flags -HLK\n" in text


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("fancy", [False, True])
def test_the_bridge_reads_it(verbose: bool, fancy: bool) -> None:
    (text,) = cache(REGISTERED, 7.5)(verbose, fancy)
    reader = AnswerReader()
    reader.feed(f"mip6d> {text}mip6d> \0".encode())
    (entry,) = parse_binding_cache(reader.take() or b"")
    assert (entry.home_address, entry.care_of_address, entry.local) == ("2001:db8:99::100", CARE_OF, HOME_AGENT)
    assert (entry.left, entry.total, entry.sequence, entry.flags) == (52, 60, 52723, "AH--")


class Served:
    """A terminal that is served by a thread, as the home agent's loop would."""

    def __init__(self, entries: Callable[[bool, bool], Iterator[str]]) -> None:
        self.selector = selectors.DefaultSelector()
        self.terminal = TerminalServer("127.0.0.1", 0, self.selector, {"bc": entries})
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while not self.stopped.is_set():
            for key, events in self.selector.select(0.02):
                key.data(events)

    def connect(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        client.settimeout(10)
        client.connect(self.terminal.address)
        return client

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(patient(30))
        self.terminal.close()
        self.selector.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """Provide a terminal with a large binding cache."""
    (entry,) = cache(REGISTERED, 0.0)(False, False)
    running = Served(lambda verbose, fancy: repeat(entry, ENTRIES))
    yield running
    running.stop()


def read(connection: socket.socket, ending: bytes) -> bytes:
    """Read until the stream ends so."""
    data = bytearray()
    while not data.endswith(ending):
        part = connection.recv(1 << 16)
        if not part:
            break
        data += part
    return bytes(data)


def test_a_probe_asks_the_loop(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert silence(served.terminal.address) is None
    served.stopped.set()  # the loop hangs, while the kernel still takes connections
    served.thread.join(patient(30))
    monkeypatch.setattr(terminal_server, "PATIENCE", 0.2)
    assert silence(served.terminal.address) == "the terminal does not answer: timed out"


def test_a_client_that_does_not_read_keeps_nobody_waiting(served: Served) -> None:
    with served.connect() as slow, served.connect() as silent, served.connect() as other:
        slow.sendall(b"bc\n" * 50)
        assert read(silent, b"mip6d> ") == b"mip6d> "
        read(other, b"mip6d> ")
        other.sendall(b"prompt no\n")
        assert read(other, b"\0") == b"no\n\0"
        # And what the slow one did not read at once is all there when it does.
        answers = read(slow, b"mip6d> \0")
        assert answers.count(b"hoa ") == ENTRIES * answers.count(b"\0") > 0


def test_commands_may_come_in_any_pieces(served: Served) -> None:
    with served.connect() as client:
        for byte in b"fancy no\r\nprompt no\nquit\n":
            client.sendall(bytes([byte]))
        assert read(client, b"never") == b"mip6d> no\nmip6d> \0no\n\0"


def test_a_line_without_end_is_no_command(served: Served) -> None:
    with served.connect() as client:
        read(client, b"mip6d> ")
        client.sendall(b"x" * 5000)
        with contextlib.suppress(ConnectionResetError):  # reset, because there are bytes it did not read
            assert client.recv(100) == b""


def test_the_oldest_client_gives_way(served: Served) -> None:
    clients = [served.connect() for _ in range(MAX_CLIENTS)]
    for client in clients:
        read(client, b"mip6d> ")
    with served.connect() as newest:
        assert read(newest, b"mip6d> ") == b"mip6d> "
        assert clients[0].recv(10) == b""
    for client in clients:
        client.close()


def test_only_clients_of_this_host_switch_anything() -> None:
    states = [False]

    def switch(wanted: bool | None) -> str:
        states.append(states[-1] if wanted is None else wanted)
        return "yes" if states[-1] else "no"

    def answers(local: bool) -> bytes:
        return dialogue(Session({}, {"drain": switch}, local), "prompt no", "drain yes", "drain", "drain maybe")

    assert answers(local=False).endswith(b"only from this host's loopback address\n\0no\n\0unknown args\n\0")
    assert answers(local=True).endswith(b"yes\n\0yes\n\0unknown args\n\0")
