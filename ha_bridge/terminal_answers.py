# SPDX-License-Identifier: Apache-2.0
"""Parse the answers of UMIP's virtual terminal, as bytes: no socket, no clock.

The terminal reads one command per TCP segment: it takes two that arrive together for one command with arguments, and
answers `unknown command: "(null)"`. It ends every answer with the prompt, unless that is switched off, and a NUL byte.
Only the NUL distinguishes a complete answer from a truncated one, so nothing counts before it: a truncated answer would
look like a smaller cache, and valid bindings would be withdrawn.
"""

import re

from ha_bridge.model import CacheEntry
from hoaflow.addresses import canonical_address, canonical_prefix
from hoaflow.errors import HoaflowError

# UMIP's and OAI PMIPv6's, and MAD-PMIPv6's.
PROMPTS = (b"mip6d> ", b"mad-pmip6d> ")

_ESCAPE = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
# Verbose output adds nonces, tunnel and link. The pattern is strict where another line could hide an entry or a prefix.
_ENTRY = re.compile(
    rb"hoa (\S+)(?: nonce \d+)? status (\S+)\n"
    rb" coa (\S+)(?: nonce \d+)? flags (\S+)[^\n]*\n"
    rb" local (\S+)[^\n]*\n"
    rb" lifetime (\S+) / (-?\d+) seq (\d+)(?:(?!hoa |MNP:|IPv4-HoA:)[^\n])*\n"
    rb"((?: (?:MNP|IPv4-HoA): \S+\n)*)"
)
_PREFIX = re.compile(rb" (?:MNP|IPv4-HoA): (\S+)")
_LEFT = re.compile(rb"-?\d+")
_LEFT_UNKNOWN = (b"-", b"(error)", b"(broken)")


class UnreadableAnswer(HoaflowError, ValueError):
    """The terminal gave an unexpected answer."""


class AnswerReader:
    """Split the terminal's byte stream into complete answers, whatever its segments."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._answers: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        *ended, rest = data.split(b"\0")
        for part in ended:
            self._answers.append(b"".join([*self._parts, part]))
            self._parts.clear()
        if rest:
            self._parts.append(rest)

    def take(self) -> bytes | None:
        """Return the next complete answer, without escapes and prompts; None if there is none yet."""
        return plain(self._answers.pop(0)) if self._answers else None


def plain(answer: bytes) -> bytes:
    """Strip escape sequences, and prompts before and after the answer."""
    text = _ESCAPE.sub(b"", answer) if b"\x1b" in answer else answer
    while prompt := next((each for each in PROMPTS if text.startswith(each)), b""):
        text = text.removeprefix(prompt)
    for prompt in reversed(PROMPTS):  # the longer one first, which ends in the other
        text = text.removesuffix(prompt)
    return text


def is_unknown_command(answer: bytes) -> bool:
    """Tell whether a plain answer says that the command is unknown."""
    return answer.startswith(b"unknown command")


def parse_binding_cache(answer: bytes) -> list[CacheEntry]:
    """Parse the plain, complete answer to `bc`.

    Every byte must match. Raises UnreadableAnswer, with the line in question, rather than drop an entry.
    """
    entries = []
    position = 0
    while position < len(answer):
        match = _ENTRY.match(answer, position)
        if match is None:
            line = answer[position:].split(b"\n", 1)[0][:200]
            raise UnreadableAnswer(f"expected a binding cache entry at byte {position}, found {line!r}")
        try:
            entries.append(_entry(match))
        except ValueError as error:
            raise UnreadableAnswer(f"binding cache entry {match[0]!r}: {error}") from error
        position = match.end()
    return entries


def _entry(match: re.Match[bytes]) -> CacheEntry:
    hoa, status, coa, flags, local, left, total, sequence, more = match.groups()
    seconds: int | None = None
    if _LEFT.fullmatch(left):
        seconds = int(left)
    elif left not in _LEFT_UNKNOWN:
        raise ValueError(f"expected seconds left, '-', '(error)' or '(broken)', found {left!r}")
    return CacheEntry(
        home_address=canonical_address(hoa.decode()),
        status=status.decode(),
        care_of_address=canonical_address(coa.decode()),
        flags=flags.decode(),
        local=canonical_address(local.decode()),
        left=seconds,
        # "-0" is past the end by less than a second: the sign counts, not the number.
        overdue=seconds is not None and left.startswith(b"-"),
        total=int(total),
        sequence=int(sequence),
        prefixes=tuple(canonical_prefix(prefix.decode(), strict=False) for prefix in _PREFIX.findall(more)),
    )
