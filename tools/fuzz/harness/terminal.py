# SPDX-License-Identifier: Apache-2.0
"""Read what a home agent's terminal says, and what a client of ours says to one."""

from collections.abc import Callable

from ha_bridge.model import CacheEntry, decided, offloadable
from ha_bridge.proxy_answers import parse_dmm, parse_pmip
from ha_bridge.terminal_answers import AnswerReader, is_unknown_command, parse_binding_cache
from hoaflow.addresses import parse_prefix
from hoaflow.mobility.terminal_server import Session

HOME_AGENT = "2001:db8:99::1"


def umip(data: bytes) -> None:
    """Read UMIP's answers: the same in whatever segments, no entry lost, and addresses that the controller takes."""
    whole, pieces = AnswerReader(), AnswerReader()
    whole.feed(data)
    for at in range(0, len(data), 7):
        pieces.feed(data[at : at + 7])
    while (answer := whole.take()) is not None:
        assert pieces.take() == answer, "the answer depends on the segments"
        if is_unknown_command(answer):
            continue
        entries = parse_binding_cache(answer)
        lines = answer.split(b"\n")
        assert len(entries) == sum(line.startswith(b"hoa ") for line in lines), "an entry is lost or made up"
        assert sum(len(each.prefixes) for each in entries) == sum(line.startswith(b" MNP: ") for line in lines)
        decided(entries, HOME_AGENT)
        for binding in offloadable(entries, HOME_AGENT):
            parse_prefix(binding.home_address)
            parse_prefix(binding.care_of_address)
    assert pieces.take() is None, "the answers depend on the segments"


def pmip(data: bytes) -> None:
    """Read an LMA's registrations as OAI PMIPv6 shows them: none lost, and addresses that the controller takes."""
    _proxies(parse_pmip, data, b"peer_addr ")


def dmm(data: bytes) -> None:
    """Read an anchor's registrations as MAD-PMIPv6 shows them."""
    _proxies(parse_dmm, data, None)


def _proxies(parse: Callable[[bytes], list[CacheEntry]], data: bytes, begins: bytes | None) -> None:
    reader = AnswerReader()
    reader.feed(data)
    while (answer := reader.take()) is not None:
        if is_unknown_command(answer):
            continue
        entries = parse(answer)
        if begins is not None:
            assert len(entries) == sum(line.startswith(begins) for line in answer.split(b"\n")), "an entry is lost"
        for entry in entries:
            parse_prefix(entry.home_address)
            parse_prefix(entry.care_of_address)


def home_agent(data: bytes) -> None:
    """Answer a client's lines: each with one answer that ends in NUL."""
    listings = {"bc": lambda _verbose, _fancy: iter(["hoa\n"])}
    session = Session(listings, {"drain": lambda wanted: "yes" if wanted else "no"}, local=True)
    for line in data.split(b"\n"):
        answer = "".join(session.answer(line.decode(errors="replace")))
        if session.closed:
            assert answer == ""
            return
        assert answer.endswith("\0")
        assert line.count(b"\0") or answer.count("\0") == 1, "the end of an answer within one"
