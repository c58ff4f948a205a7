# SPDX-License-Identifier: Apache-2.0
"""No message of any peer makes a parser of Ryu's run on, whatever its version and type."""

import ast
import contextlib
import importlib
import inspect
import random
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from ryu.ofproto import ofproto_parser, ofproto_protocol

from controller.southbound import guard, manager
from tests.support.openflow import VERSIONS, message, prepare, record, record_controller
from tests.support.ovs import Ovs

HEADER = struct.Struct("!BBHI")  # version, type, length, xid
PARSE_SECONDS = 10  # for one message; the largest take a fraction of a second
MAX_MEMORY = 128 << 20  # bytes, for one message of 64 KiB, which a refusal frees again
RESET_PEAK = Path("/proc/self/clear_refs")  # takes 5: proc_pid_clear_refs(5)
MAX_MUTATED = 600  # bytes; longer messages repeat the same structures

PARSER_MODULES = [f"ofproto_v1_{minor}_parser" for minor in (0, 2, 3, 4, 5)]
PARSER_MODULES += ["nx_actions", "nx_match", "oxx_fields"]
UNPACKING = ("unpack_from", ".parser", ".parse", ".oxm_parse", ".oxs_parse")


class RanOn(BaseException):
    """Not an Exception, which a parser or the guard could take for its own."""


@contextlib.contextmanager
def bounded(what: bytes) -> Iterator[None]:
    """Fail when a parser takes more than PARSE_SECONDS of the processor's time."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        raise RanOn(f"the parser ran on with {what[:200].hex()}")

    before = signal.signal(signal.SIGPROF, fail)
    signal.setitimer(signal.ITIMER_PROF, PARSE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def parses(version: int, data: bytes) -> Any:
    """Return the parsed message, or None when it is refused; nothing else may come out."""
    datapath = ofproto_protocol.ProtocolDesc(version=version)
    sent_version, msg_type, length, xid = HEADER.unpack_from(data)
    with bounded(data), contextlib.suppress(guard.MalformedMessage):
        return guard.parse(datapath, sent_version, msg_type, length, xid, data)
    return None


def cut(data: bytes, length: int) -> bytes:
    """Return the first bytes of a message, with a header that says so."""
    return data[:2] + struct.pack("!H", length) + data[4:length]


def mutations(data: bytes) -> Iterator[bytes]:
    """Yield the message with each 2 bytes zero, one or all ones, and cut off everywhere, with either length."""
    data = cut(data, min(len(data), MAX_MUTATED))
    for offset in range(8, len(data) - 1, 2):
        for value in (b"\0\0", b"\0\1", b"\xff\xff"):
            yield data[:offset] + value + data[offset + 2 :]
    for length in range(8, len(data)):
        yield cut(data, length)
        yield data[:length]
    yield data[:8] + bytes(len(data) - 8)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Install the guard as `ryu-manager` does."""
    manager.repair()
    guard.install()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[bytes]]:
    """Provide what a real switch and a real controller say, by version."""
    with Ovs(tmp_path_factory.mktemp("recorded")) as ovs:
        prepare(ovs)
        return {version: record(ovs, version) + record_controller(ovs, version) for version in VERSIONS}


def kind(data: bytes) -> tuple[int, ...]:
    """Type of a message, and of the statistics in it."""
    return (data[1], *struct.unpack_from("!H", data, 8)) if data[1] in (17, 19) and len(data) > 8 else (data[1],)


def test_what_a_switch_sends_is_parsed_as_without_the_guard(recorded: dict[int, list[bytes]]) -> None:
    datapath = ofproto_protocol.ProtocolDesc(version=4)
    parsed = set()
    for data in recorded[4]:
        found = parses(4, data)
        if found is not None:
            parsed.add(kind(data))
        if found is not None and len(data) < 4096:  # the text of long ones takes seconds
            assert str(found) == str(ofproto_parser._MSG_PARSERS[4](datapath, *HEADER.unpack_from(data), data))
    statistics = {(19, number) for number in (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)}
    assert parsed >= statistics | {(number,) for number in (0, 1, 3, 4, 6, 8, 10, 11, 12, 14, 21, 23, 25, 27)}


@pytest.mark.parametrize("version", VERSIONS)
def test_no_mutation_of_a_real_message_makes_a_parser_run_on(version: int, recorded: dict[int, list[bytes]]) -> None:
    seen: dict[tuple[int, ...], int] = {}
    tried = refused = 0
    for data in recorded[version]:
        seen[kind(data)] = seen.get(kind(data), 0) + 1
        if seen[kind(data)] > 8:  # further ones are alike
            continue
        for mutated in mutations(data):
            tried += 1
            refused += parses(version, mutated) is None
    assert tried > 10_000
    assert 0 < refused < tried


def repetitive(version: int, length: int, count: int) -> Iterator[bytes]:
    """Messages of all types, made of one type-length-value element over and over, with all sorts of lengths in it."""
    chosen = random.Random(version)
    for msg_type in range(36):
        for statistics in range(20) if msg_type in (16, 17, 18, 19) else (0,):
            for _ in range(count):
                size = chosen.choice((4, 8, 8, 8, 16, 24))
                number = chosen.choice((*range(24), 0x8000, 0xFFFF))
                element = struct.pack("!HH", number, chosen.choice((0, 0, 4, 8, 16, size, 0xFFFF)))
                element = (element + bytes(chosen.choice((0, 1, 8)) for _ in range(size)))[:size]
                front = bytes(chosen.randrange(0, 64, 4))
                body = front + element * (length // size)
                if msg_type in (16, 17, 18, 19):
                    body = struct.pack("!HH", statistics, 0) + (b"" if version == 1 else bytes(4)) + body
                yield message(version, msg_type, body[: length - 8])


@pytest.mark.parametrize("version", VERSIONS)
def test_no_list_of_equal_elements_makes_a_parser_run_on(version: int) -> None:
    refused = sum(parses(version, data) is None for data in repetitive(version, length=256, count=60))
    assert refused > 1000


def peak_memory() -> int:
    """Return the most resident memory that this process has had since `RESET_PEAK`, in bytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) << 10


@pytest.mark.parametrize("version", VERSIONS)
def test_the_largest_messages_take_bounded_memory(version: int) -> None:
    for data in repetitive(version, length=65528, count=1):
        RESET_PEAK.write_text("5")
        before = peak_memory()
        parses(version, data)
        taken = peak_memory() - before
        assert taken < MAX_MEMORY, f"{taken} bytes for {data[:64].hex()}"


def test_every_loop_of_the_parsers_unpacks() -> None:
    """The guard's premise. A loop unpacks itself, or calls the parser of a part, which unpacks that part's header."""
    loops = 0
    for name in PARSER_MODULES:
        module = importlib.import_module(f"ryu.ofproto.{name}")
        assert module.struct is guard._bounded_struct
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.While):
                loops += 1
                calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
                assert any(call.endswith(UNPACKING) for call in calls), f"{name}, line {node.lineno}"
    assert loops > 100


def test_a_length_below_the_header_is_refused() -> None:
    datapath = ofproto_protocol.ProtocolDesc(version=4)
    with pytest.raises(guard.MalformedMessage, match="says 2 bytes, the header alone has 8"):
        guard.parse(datapath, 4, 0, 8, 1, bytes.fromhex("0400000200000001"))
