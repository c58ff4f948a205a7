# SPDX-License-Identifier: Apache-2.0
"""Parse what the terminals of Proxy Mobile IPv6 anchors show, as bytes: OAI PMIPv6's `pmip`, MAD-PMIPv6's `dmm`.

Both are forks of UMIP, with its terminal. Every byte has to match, so that no entry is dropped unseen.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ha_bridge.model import CacheEntry
from ha_bridge.terminal_answers import UnreadableAnswer
from hoaflow.addresses import canonical_address

# States of entries whose packets go to another gateway, and of others.
PROXIED, REMOTE = "PMIP", "Registered for DMM - Remotely"
# The flag of a Proxy Binding Update (RFC 5213 section 8.1), which these terminals do not show.
PROXY_FLAG = "P"

# `lifetime` is the registration's, but `seq` is the program's own outgoing counter.
_PMIP = re.compile(
    rb"peer_addr (\S+) status ([!-~]+)\n"
    rb" (Serv_MAG|LMA)_addr (\S+) local (\S+)\n"
    rb" lifetime (-?\d{1,20}) / (-?\d{1,20}) seq \d+\n"
)
_DMM = re.compile(
    rb"MN-ID \S+ Status: ([ -~]+)\n"
    rb"((?:Local HNP [^\n]+\n)*)"
    rb"(?:Other registrations:\n(?:Remote NHP [^\n]+\n)*)?"
    rb" lifetime -?\d+ / -?\d+ seq \d+\n"
)
_LOCAL_PREFIX = re.compile(rb"Local HNP (\S+) on (?:link \S+|tunnel \d+ - \S+ Serving MAR (\S+))")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an anchor's terminal is asked, how its answer is read, and how long the prefixes are that it shows."""

    command: str
    parse: Callable[[bytes], list[CacheEntry]]
    prefix_length: int


def parse_pmip(answer: bytes) -> list[CacheEntry]:
    """Parse the plain, complete answer to `pmip` of an LMA. Raises UnreadableAnswer, also for that of a MAG."""
    return [_proxied(match) for match in _matches(_PMIP, answer)]


def parse_dmm(answer: bytes) -> list[CacheEntry]:
    """Parse the plain, complete answer to `dmm` of an anchor. Raises UnreadableAnswer.

    It shows neither the anchor's own address nor, of nodes that have left it, lifetimes.
    """
    return [
        entry for match in _matches(_DMM, answer) for line in match[2].splitlines() for entry in _anchored(match, line)
    ]


DIALECTS = {
    each.command: each
    for each in (
        # OAI PMIPv6 shows, and routes, the one address that the mobile node makes of its prefix.
        Dialect("pmip", parse_pmip, 128),
        Dialect("dmm", parse_dmm, 64),
    )
}


def _matches(pattern: re.Pattern[bytes], answer: bytes) -> list[re.Match[bytes]]:
    found, position = [], 0
    while position < len(answer):
        match = pattern.match(answer, position)
        if match is None:
            line = answer[position:].split(b"\n", 1)[0][:200]
            raise UnreadableAnswer(f"expected a registration at byte {position}, found {line!r}")
        found.append(match)
        position = match.end()
    return found


def _proxied(match: re.Match[bytes]) -> CacheEntry:
    peer, status, whose, gateway, local, left, total = match.groups()
    if whose != b"Serv_MAG":
        raise UnreadableAnswer("expected an LMA's registrations, found those of a MAG: run the bridge beside the LMA")
    return CacheEntry(
        home_address=_address(peer),
        status=status.decode(),
        care_of_address=_address(gateway),
        flags=PROXY_FLAG,
        local=_address(local),
        left=int(left),
        overdue=left.startswith(b"-"),
        total=int(total),
        sequence=0,
    )


def _anchored(match: re.Match[bytes], line: bytes) -> list[CacheEntry]:
    found = _LOCAL_PREFIX.fullmatch(line)
    if found is None:
        raise UnreadableAnswer(f"expected the prefix of an anchor, on a link or in a tunnel, found {line[:200]!r}")
    prefix, serving = found.groups()
    if serving is None:
        return []  # the mobile node is at home
    return [
        CacheEntry(
            home_address=_address(prefix),
            status=match[1].decode(),
            care_of_address=_address(serving),
            flags=PROXY_FLAG,
            local=None,
            left=None,
            overdue=False,
            total=0,
            sequence=0,
        )
    ]


def _address(text: bytes) -> str:
    try:
        return canonical_address(text.decode())
    except ValueError as error:
        raise UnreadableAnswer(f"expected an address, found {text[:60]!r}: {error}") from error
