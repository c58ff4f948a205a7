# SPDX-License-Identifier: Apache-2.0
"""Load BPF programs and fill their maps with bpf(2), without a compiler, libbpf or a BPF file system.

The kernel keeps a program as long as something refers to it, and its maps as long as the program: what is attached
(`hoaflow.tunnel.tunnel_program`) goes on working without the process that loaded it, and any later one finds both by
the number that the attachment shows. Nothing is pinned: a BPF file system may be missing, and `ip netns exec` mounts
another one. Needs CAP_SYS_ADMIN, as entering network namespaces does. Formats: linux/bpf.h.
"""

import ctypes
import errno
import functools
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from hoaflow.addresses import Prefix
from hoaflow.closing import Closing
from hoaflow.tunnel.errors import TunnelError

# The number of bpf(2) on little-endian machines: newer kinds of these have it in common (asm-generic/unistd.h).
SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280}
ATTRIBUTES = 144  # octets of union bpf_attr that are passed, the rest of which is 0
BATCH = 4096  # entries read or written per call
SCHED_CLS = 3  # BPF_PROG_TYPE_SCHED_CLS
LPM_TRIE, NO_PREALLOC = 11, 1
LICENCE = b"GPL"  # some helpers ask for it
LOG_BYTES = 1 << 16
SHOWN = 400  # characters of the verifier's log in an error, its end

PROGRAM_INFO = struct.Struct("=II8sIIQQQIIQ16s")  # up to the name
MAP_INFO = struct.Struct("=IIIIII16s")


class Command(IntEnum):
    """Commands of bpf(2)."""

    MAP_CREATE = 0
    MAP_UPDATE = 2
    MAP_DELETE = 3
    PROGRAM_LOAD = 5
    PROGRAM_BY_NUMBER = 13
    MAP_BY_NUMBER = 14
    INFO = 15
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26


class BpfError(TunnelError):
    """The kernel refused a BPF program or map; the message ends with the verifier's words, if it said any."""


class Descriptor(Closing):
    """A BPF object that is kept by an open file. A context manager."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Let go of the object, which goes if nothing else refers to it."""
        os.close(self.descriptor)


class ProgramInfo(NamedTuple):
    """What the kernel says of a program. `tag`: its hash of the instructions. `maps`: the numbers of its maps."""

    kind: int
    number: int
    tag: bytes
    maps: tuple[int, ...]


class Program(Descriptor):
    """A loaded program."""

    @classmethod
    def load(cls, name: str, code: bytes, kind: int = SCHED_CLS) -> "Program":
        """Have the kernel verify and load a program. Raises BpfError with the verifier's words."""
        text, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(LICENCE)
        log = ctypes.create_string_buffer(LOG_BYTES)
        count = len(code) // 8

        def attributes(level: int) -> bytes:
            said = (level, LOG_BYTES, ctypes.addressof(log)) if level else (0, 0, 0)
            pointers = ctypes.addressof(text), ctypes.addressof(licence)
            return struct.pack("=IIQQIIQII16s", kind, count, *pointers, *said, 0, 0, name.encode()[:15])

        try:
            return cls(_bpf(Command.PROGRAM_LOAD, attributes(0)))
        except OSError:
            pass  # once more, for the verifier's words: asking for them costs time, and may fail by itself
        try:
            return cls(_bpf(Command.PROGRAM_LOAD, attributes(1)))
        except OSError as error:
            words = " ".join(log.value.decode(errors="replace").split())[-SHOWN:]
            raise BpfError(f"the kernel refused the BPF program {name}: {_explain(error)}: {words or '-'}") from error

    @classmethod
    def of_number(cls, number: int) -> "Program":
        """Open the program of this number. Raises BpfError if there is none."""
        return cls(_opened(Command.PROGRAM_BY_NUMBER, number, "program"))

    def info(self) -> ProgramInfo:
        """Return what the kernel says of the program."""
        numbers = (ctypes.c_uint32 * 16)()
        asked = PROGRAM_INFO.pack(0, 0, bytes(8), 0, 0, 0, 0, 0, 0, len(numbers), ctypes.addressof(numbers), bytes(16))
        kind, number, tag, *_, count, _, _ = PROGRAM_INFO.unpack(_info(self.descriptor, asked))
        return ProgramInfo(kind, number, tag, tuple(numbers[: min(count, len(numbers))]))


class MapInfo(NamedTuple):
    """What the kernel says of a map; sizes in octets."""

    kind: int
    number: int
    key_size: int
    value_size: int
    entries: int
    flags: int


class PrefixMap(Descriptor):
    """A map from prefixes to values, in which the longest prefix that covers an address wins (an LPM trie)."""

    ENTRIES = 1 << 20
    """The most that it takes. It grows as it is filled, so this costs nothing."""

    @classmethod
    def create(cls, name: str, address_size: int, value_size: int) -> "PrefixMap":
        """Make an empty map for addresses and values of these sizes in octets. Raises BpfError."""
        sizes = (4 + address_size, value_size, cls.ENTRIES)
        asked = struct.pack("=IIIIIII16s", LPM_TRIE, *sizes, NO_PREALLOC, 0, 0, name.encode()[:15])
        try:
            return cls(_bpf(Command.MAP_CREATE, asked))
        except OSError as error:
            raise BpfError(f"the kernel refused the BPF map {name}: {_explain(error)}") from error

    @classmethod
    def of_number(cls, number: int) -> "PrefixMap":
        """Open the map of this number. Raises BpfError if there is none."""
        return cls(_opened(Command.MAP_BY_NUMBER, number, "map"))

    def info(self) -> MapInfo:
        """Return what the kernel says of the map."""
        return MapInfo(*MAP_INFO.unpack(_info(self.descriptor, bytes(MAP_INFO.size)))[:6])

    def fits(self, address_size: int, value_size: int) -> bool:
        """Tell whether `create` with these sizes would have made such a map."""
        found = self.info()
        return found._replace(number=0) == (LPM_TRIE, 0, 4 + address_size, value_size, self.ENTRIES, NO_PREALLOC)

    def put(self, entries: Mapping[Prefix, bytes]) -> None:
        """Set these entries, in place of others with the same key, many per call. Raises BpfError if one fails."""
        keys = list(map(_key, entries))
        values = list(entries.values())
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            packed_keys = ctypes.create_string_buffer(b"".join(part), len(part) * len(part[0]))
            packed = b"".join(values[start : start + BATCH])
            packed_values = ctypes.create_string_buffer(packed, len(packed))
            pointers = (0, 0, ctypes.addressof(packed_keys), ctypes.addressof(packed_values))
            try:
                _bpf(Command.MAP_UPDATE_BATCH, struct.pack("=QQQQIIQQ", *pointers, len(part), self.descriptor, 0, 0))
            except OSError as error:
                raise BpfError(f"the kernel refused entries of a BPF map: {_explain(error)}") from error

    def remove(self, prefixes: Iterable[Prefix]) -> None:
        """Remove these entries; those that are not there are fine. Raises BpfError."""
        for prefix in prefixes:
            packed = ctypes.create_string_buffer(_key(prefix))
            try:
                _bpf(Command.MAP_DELETE, struct.pack("=IIQ", self.descriptor, 0, ctypes.addressof(packed)))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise BpfError(f"the kernel kept an entry of a BPF map: {_explain(error)}") from error

    def entries(self) -> Iterator[tuple[Prefix, bytes]]:
        """Yield all entries, many read per call. Raises BpfError."""
        _, _, key_size, value_size, _, _ = self.info()
        keys, values = (ctypes.create_string_buffer(BATCH * size) for size in (key_size, value_size))
        cursor, following, first = ctypes.create_string_buffer(key_size), ctypes.create_string_buffer(key_size), True
        while True:
            attributes = ctypes.create_string_buffer(
                struct.pack(
                    "=QQQQIIQQ",
                    0 if first else ctypes.addressof(cursor),
                    *(ctypes.addressof(each) for each in (following, keys, values)),
                    BATCH,
                    self.descriptor,
                    0,
                    0,
                ),
                ATTRIBUTES,
            )
            ended = False
            try:
                _call(Command.MAP_LOOKUP_BATCH, attributes)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise BpfError(f"a BPF map cannot be read: {_explain(error)}") from error
                ended = True
            (count,) = struct.unpack_from("=I", attributes, 32)
            found_keys = struct.iter_unpack(f"=I{key_size - 4}s", keys.raw[: count * key_size])
            found_values = struct.iter_unpack(f"{value_size}s", values.raw[: count * value_size])
            for (length, address), (value,) in zip(found_keys, found_values, strict=True):
                yield Prefix(address, length), value
            if ended:
                return
            ctypes.memmove(cursor, following, key_size)
            first = False


def _key(prefix: Prefix) -> bytes:
    return struct.pack("=I", prefix.length) + prefix.packed


def _opened(command: Command, number: int, what: str) -> int:
    try:
        return _bpf(command, struct.pack("=III", number, 0, 0))
    except OSError as error:
        raise BpfError(f"BPF {what} {number} cannot be opened: {_explain(error)}") from error


def _info(descriptor: int, asked: bytes) -> bytes:
    found = ctypes.create_string_buffer(asked, len(asked))
    try:
        _bpf(Command.INFO, struct.pack("=IIQ", descriptor, len(asked), ctypes.addressof(found)))
    except OSError as error:
        raise BpfError(f"a BPF object cannot be read: {_explain(error)}") from error
    return found.raw


def _bpf(command: Command, attributes: bytes) -> int:
    return _call(command, ctypes.create_string_buffer(attributes, ATTRIBUTES))


def _call(command: Command, attributes: "ctypes.Array[ctypes.c_char]") -> int:
    if (number := SYSCALL.get(platform.machine())) is None:
        raise BpfError(f"BPF programs are loaded on {', '.join(SYSCALL)} only, and this is {platform.machine()}")
    result: int = _libc().syscall(number, int(command), attributes, ATTRIBUTES)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _explain(error: OSError) -> str:
    hints = {
        errno.EPERM: "root is needed (CAP_SYS_ADMIN, CAP_NET_ADMIN), and a system call filter that lets bpf(2) pass",
        errno.ENOSYS: "the kernel needs CONFIG_BPF_SYSCALL",
        errno.ENOSPC: f"it holds {PrefixMap.ENTRIES} entries",
        524: "Linux >= 5.13 is needed",  # ENOTSUPP, which has no name outside the kernel
    }
    hint = f" ({hints[error.errno]})" if error.errno in hints else ""
    return f"{os.strerror(error.errno or 0)}{hint}"
