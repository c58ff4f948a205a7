# SPDX-License-Identifier: Apache-2.0
"""What outlives the process: bindings, and the sequence numbers against replays, in an append-only file.

One record a line, the last one of a home address counts: CRC-32 of what follows it, in hexadecimal, and JSON. A line
that a crash cut short or that a disk spoilt says so by its checksum; it is left out and reported, the others count.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoaflow.errors import HoaflowError
from hoaflow.home_agent.messages import BindingUpdate
from hoaflow.home_agent.moment import Moment

HEADER = b"hoaflow-ha journal 1\n"
SLACK = 1024
"""The file is written anew when it has so many records more than twice what it began with."""


class JournalError(HoaflowError, ValueError):
    """The file is no journal of ours; the text says what to do."""


NEVER = Moment(0.0)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a home address.

    `sequence` is its last authenticated number, if any. With a binding: the Binding Update that made it (without its
    authentication option), the `lifetime` granted in seconds, and when it ends.
    """

    home_address: str
    sequence: int | None
    update: BindingUpdate | None = None
    lifetime: int = 0
    expiry: Moment = NEVER

    @property
    def empty(self) -> bool:
        """Whether it says nothing that a restart would have to know."""
        return self.sequence is None and self.update is None


@dataclass(frozen=True, slots=True)
class Damage:
    """A line of the file that could not be used."""

    line: int
    reason: str


class Journal:
    """The file at `path`. Whoever opens it is its only writer."""

    def __init__(self, path: Path) -> None:
        """Reads the file; one that is not there yet is empty. Raises JournalError, OSError.

        `records` is what was found by home address, to be taken over by whoever opened it; `damages` what could not
        be read. A damaged file is kept beside the new one, its name ending in `.damaged`.
        """
        self._path = path
        self.records: dict[str, Record] = {}
        self.damages: list[Damage] = []
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        self._read(content)
        if self.damages:
            path.replace(path.with_name(path.name + ".damaged"))
        self._unwritten: dict[str, Record] = {}
        self._whole = True
        self._lines = self._most_lines = 0
        self._file = self._rewrite(self.records.values())

    def record(self, record: Record) -> None:
        """Notes what is known of a home address now, instead of what was; `commit` brings it to the disk."""
        self._unwritten[record.home_address] = record

    @property
    def unwritten(self) -> int:
        """Home addresses of which the disk has yet to be told."""
        return len(self._unwritten)

    def commit(self, everything: Callable[[], list[Record]]) -> None:
        """Returns when all that was noted is on the disk. Raises OSError: then the next commit writes all of it.

        `everything` gives what is known of all home addresses; it is asked when the file is written anew.
        """
        if not self._unwritten:
            return
        whole, self._whole = self._whole, False
        if not whole or self._lines > self._most_lines:
            # After a failure a line may have been cut short: nothing may be appended to that.
            former, self._file = self._file, self._rewrite(everything())
            os.close(former)
        else:
            _write(self._file, b"".join(map(_line, self._unwritten.values())))
            os.fsync(self._file)
            self._lines += len(self._unwritten)
        self._unwritten.clear()
        self._whole = True

    def close(self) -> None:
        os.close(self._file)

    def _read(self, content: bytes) -> None:
        if not content.strip(b"\0"):  # as some file systems leave a new file after a power failure
            if content:
                self.damages.append(Damage(1, f"{len(content)} zero bytes instead of a journal"))
            return
        lines = content.split(b"\n")
        if lines[0] + b"\n" != HEADER:
            self.damages.append(Damage(1, f"expected {HEADER.decode().strip()!r}"))
        for number, line in enumerate(lines[1:], start=2):
            if not line and number == len(lines):
                break
            try:
                record = _parse(line)
            except (ValueError, TypeError, KeyError) as error:
                self.damages.append(Damage(number, str(error)))
            else:
                self.records[record.home_address] = record
        if lines[0] + b"\n" != HEADER and not self.records:
            raise JournalError(f"{self._path}: no journal of hoaflow-ha: move it away, or name another file")

    def _rewrite(self, records: Iterable[Record]) -> int:
        """Puts a new file in the place of the old one, all or nothing, and returns its descriptor. Raises OSError."""
        lines = [_line(record) for record in records if not record.empty]
        scratch = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, HEADER + b"".join(lines))
            os.fsync(descriptor)
            scratch.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            os.close(descriptor)
            scratch.unlink(missing_ok=True)  # what fills a full disk is not to be this
            raise
        self._lines, self._most_lines = len(lines), 2 * len(lines) + SLACK
        return descriptor


def _line(record: Record) -> bytes:
    content: dict[str, Any] = {"home_address": record.home_address}
    if record.sequence is not None:
        content["sequence"] = record.sequence
    if record.update is not None:
        update = asdict(record.update)
        del update["authentication"], update["home_address"]
        content |= {"update": update, "lifetime": record.lifetime, "expires": round(record.expiry.epoch, 3)}
        content |= {"boot": record.expiry.boot, "boottime": round(record.expiry.boottime, 3)}
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> Record:
    """Raises ValueError, TypeError, KeyError: not one of our lines."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError(f"wrong checksum, {len(line)} bytes")
    content: dict[str, Any] = json.loads(text)
    home_address, sequence = content["home_address"], content.get("sequence")
    if "update" not in content:
        return Record(home_address, sequence)
    update = BindingUpdate(home_address=home_address, **content["update"])
    expiry = Moment(content["expires"], content.get("boottime", 0.0), content.get("boot", ""))
    return Record(home_address, sequence, update, content["lifetime"], expiry)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
