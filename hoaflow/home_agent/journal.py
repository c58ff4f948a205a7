# SPDX-License-Identifier: Apache-2.0
"""Keep bindings, and sequence numbers against replays, in an append-only file.

Each line is a record: a CRC-32 in hexadecimal, then JSON. The last record of a home address counts. A line that was cut
short by a crash or damaged on the disk fails its checksum; it is skipped and reported, and the others count.
"""

import fcntl
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from hoaflow.addresses import canonical_ipv6_address, canonical_prefix
from hoaflow.errors import HoaflowError
from hoaflow.home_agent.timestamp import Timestamp
from hoaflow.mobility.messages import MAX_LIFETIME, BindingUpdate

HEADER = b"hoaflow-ha journal 1\n"
SLACK = 1024
"""The file is rewritten once it has this many records more than twice those it began with."""


class JournalError(HoaflowError, ValueError):
    """The file is not one of our journals. The text says what to do."""


NEVER = Timestamp(0.0)
# What reading a record raises that is not one of ours.
UNUSABLE = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a home address.

    `sequence` is its last authenticated sequence number, if any. If it has a binding: the Binding Update (without its
    authentication option), the granted `lifetime` in seconds, and when it expires.
    """

    home_address: str
    sequence: int | None
    update: BindingUpdate | None = None
    lifetime: int = 0
    expiry: Timestamp = NEVER

    @property
    def empty(self) -> bool:
        """Whether it says nothing that must survive a restart."""
        return self.sequence is None and self.update is None


@dataclass(frozen=True, slots=True)
class Damage:
    """A line of the file that is unusable."""

    line: int
    reason: str


class Journal:
    """The journal at `path`, locked while it is open: its reader replaces it, and another would write to nowhere."""

    def __init__(self, path: Path) -> None:
        """Read the file; create it if there is none. Raises JournalError, also if somebody has it open, and OSError.

        `records` holds what was found, by home address, for the caller to take; `damages` holds unusable lines. A
        damaged file is kept beside the new one, with `.damaged` appended to its name.
        """
        self._path = path
        self.records: dict[str, Record] = {}
        self.damages: list[Damage] = []
        self._unwritten: dict[str, Record] = {}
        self._whole = True
        self._lines = self._most_lines = self._size = 0
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb") as found:
            self._lock(found.fileno())
            if not self._stands(found.fileno()):
                raise JournalError(f"{path}: replaced while it was opened: does another hoaflow-ha use it?")
            self._read(found.read())
            if self.damages:
                path.replace(path.with_name(path.name + ".damaged"))
            self._file = self._rewrite(self.records.values())

    def record(self, record: Record) -> None:
        """Replace what is known of a home address; `commit` writes it to the disk."""
        self._unwritten[record.home_address] = record

    @property
    def unwritten(self) -> int:
        """Number of home addresses whose last record is not on the disk."""
        return len(self._unwritten)

    def commit(self, everything: Callable[[], list[Record]]) -> bool:
        """Write all new records to the disk and wait for it. Raises OSError: then the next commit writes everything.

        `everything` returns the records of all home addresses, for when the file is rewritten. Returns False if
        somebody had moved, removed or changed the file: then it has been rewritten, too.
        """
        if not self._unwritten:
            return True
        whole, self._whole = self._whole, False
        stood = self._stands(self._file) and (not whole or os.fstat(self._file).st_size == self._size)
        if not stood or not whole or self._lines > self._most_lines:
            # After a failure, the last line may be incomplete, so nothing may be appended to it.
            former, self._file = self._file, self._rewrite(everything())
            os.close(former)
        else:
            lines = b"".join(map(_line, self._unwritten.values()))
            _write(self._file, lines)
            os.fsync(self._file)
            self._lines += len(self._unwritten)
            self._size += len(lines)
        self._unwritten.clear()
        self._whole = True
        return stood

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"{self._path}: another hoaflow-ha uses it: stop that one, or name another file"
            ) from error

    def _stands(self, descriptor: int) -> bool:
        """Tell whether the open file is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _read(self, content: bytes) -> None:
        if not content.strip(b"\0"):  # some file systems leave this after a power failure
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
            except UNUSABLE as error:
                self.damages.append(Damage(number, str(error)))
            else:
                self.records[record.home_address] = record
        if not HEADER.startswith(content) and lines[0] + b"\n" != HEADER and not self.records:
            raise JournalError(f"{self._path}: not a journal of hoaflow-ha: move it away, or name another file")

    def _rewrite(self, records: Iterable[Record]) -> int:
        """Replace the file atomically and return the new one's descriptor. Raises OSError."""
        lines = [_line(record) for record in records if not record.empty]
        scratch = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        content = HEADER + b"".join(lines)
        try:
            self._lock(descriptor)
            _write(descriptor, content)
            os.fsync(descriptor)
            scratch.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            os.close(descriptor)
            scratch.unlink(missing_ok=True)  # it would only fill a full disk
            raise
        self._lines, self._most_lines, self._size = len(lines), 2 * len(lines) + SLACK, len(content)
        return descriptor


def encoded(record: Record) -> str:
    """Return a record as JSON."""
    content: dict[str, Any] = {"home_address": record.home_address}
    if record.sequence is not None:
        content["sequence"] = record.sequence
    if record.update is not None:
        update = asdict(record.update)
        del update["authentication"], update["home_address"]
        # So that versions read it, too, that know no mobile routers or no IPv4 home addresses.
        if not record.update.mobile_router:
            del update["mobile_router"], update["mobile_networks"]
        if record.update.ipv4_home_address is None:
            del update["ipv4_home_address"], update["ipv4_prefix"]
        content |= {"update": update, "lifetime": record.lifetime, "expires": round(record.expiry.epoch, 3)}
        content |= {"boot": record.expiry.boot, "boottime": round(record.expiry.boottime, 3)}
    return json.dumps(content, separators=(",", ":"))


def decoded(text: bytes | str) -> Record:
    """Return the record of what `encoded` has made. Raises one of UNUSABLE for anything else, as after a downgrade."""
    content: dict[str, Any] = json.loads(text)
    home_address, sequence = canonical_ipv6_address(content["home_address"]), content.get("sequence")
    if sequence is not None:
        sequence = _number(sequence, 0xFFFF)
    if "update" not in content:
        return Record(home_address, sequence)
    update = BindingUpdate(home_address=home_address, **content["update"])
    update = replace(
        update,
        source=canonical_ipv6_address(update.source),
        destination=canonical_ipv6_address(update.destination),
        care_of_address=canonical_ipv6_address(update.care_of_address),
        sequence=_number(update.sequence, 0xFFFF),
        lifetime=_number(update.lifetime, MAX_LIFETIME),
        mobile_networks=tuple(canonical_prefix(each) for each in update.mobile_networks),
        ipv4_home_address=update.ipv4_home_address and str(IPv4Address(update.ipv4_home_address)),
        authentication=None,
    )
    expiry = Timestamp(_time(content["expires"]), _time(content.get("boottime", 0.0)), str(content.get("boot", "")))
    return Record(home_address, sequence, update, _number(content["lifetime"], MAX_LIFETIME), expiry)


def _line(record: Record) -> bytes:
    text = encoded(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> Record:
    """Parse a line. Raises one of UNUSABLE if it is not one of ours."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError(f"wrong checksum, {len(line)} bytes")
    return decoded(text)


def _number(value: object, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"expected a number of up to {most}, got {value!r}")
    return value


def _time(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a time, got {value!r}")
    return float(value)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
