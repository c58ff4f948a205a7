# SPDX-License-Identifier: Apache-2.0
"""Bounds Ryu's OpenFlow parsers: a malformed message ends its connection, and nothing else.

Ryu's parsers walk lists by the lengths that the peer wrote. With a length of zero they never end, and the whole
controller hangs, REST included, on one message of 12 bytes from any peer of the OpenFlow port. Other messages that
it cannot parse Ryu logs with a stack trace and skips.

There are over a hundred such loops in the parsers of five OpenFlow versions and of the Nicira extensions. All of
them unpack something in each round, so it is there that they are bounded: the length of a message limits how much
it can make the parsers unpack. A message that cannot be parsed then closes its connection, with one line in the log.

Who sends much, as a switch that tells all its flows, also gets no more than a turn at a time: Ryu parses 2048 messages
before it lets anybody else go on, which may take seconds.
"""

import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import eventlet

# All parsers, for `install` to find them.
from ryu.ofproto import ofproto_common, ofproto_parser, ofproto_protocol  # noqa: F401

from hoaflow.errors import HoaflowError
from hoaflow.logs import Log

LOG = Log("southbound")

# The unpackings that one message is allowed. Open vSwitch's densest ones (table features) take one per 3 bytes; the
# constant is for small ones, which are mostly header.
UNPACKINGS_PER_BYTE = 1
UNPACKINGS_PER_MESSAGE = 64
# What is parsed of one connection until others may go on, in bytes: a millisecond's or two.
BYTES_PER_TURN = 1 << 15


class MalformedMessage(HoaflowError):
    """An OpenFlow message that cannot be parsed. The text tells its version, type, length and what is wrong."""


class _BoundedStruct:
    """Takes the place of the module `struct` in Ryu's parsers, and counts what they unpack."""

    def __init__(self) -> None:
        self._left: int | None = None

    @property
    def in_message(self) -> bool:
        """Whether a message is being parsed."""
        return self._left is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(struct, name)

    @contextmanager
    def limit(self, unpackings: int) -> Iterator[None]:
        """Allows so many unpackings while in it. A message within another one shares the limit of the outer."""
        if self._left is not None:
            yield
            return
        self._left = unpackings
        try:
            yield
        finally:
            self._left = None

    def unpack_from(self, *args: Any) -> tuple[Any, ...]:
        self._count()
        return struct.unpack_from(*args)

    def unpack(self, *args: Any) -> tuple[Any, ...]:
        self._count()
        return struct.unpack(*args)

    def _count(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            raise ValueError("more parts than it has room for: some length in it is zero or wrong")


_bounded_struct = _BoundedStruct()


def parse(datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: bytes | bytearray) -> Any:
    """Parses one OpenFlow message as `ryu.ofproto.ofproto_parser.msg` does, in bounded time and memory.

    `buf` starts with the message, and `msg_len` is how long the caller takes it to be. Whatever is wrong with it,
    MalformedMessage is raised.
    """
    try:
        _, _, length, _ = ofproto_parser.header(buf)
        if length < ofproto_common.OFP_HEADER_SIZE:
            raise ValueError(f"its header says {length} bytes, the header alone has 8")
        if len(buf) < msg_len:
            raise ValueError(f"it is cut off after {len(buf)} bytes")
        parser = ofproto_parser._MSG_PARSERS.get(version)
        if parser is None:
            raise ValueError("unknown OpenFlow version")
        with _bounded_struct.limit(UNPACKINGS_PER_MESSAGE + UNPACKINGS_PER_BYTE * len(buf)):
            # As bytes: slicing off nothing, as a length of zero does, would copy all of a bytearray.
            return parser(datapath, version, msg_type, msg_len, xid, bytes(buf))
    except MalformedMessage:
        raise  # of a message within this one
    except Exception as error:
        raise MalformedMessage(f"version {version}, type {msg_type}, length {msg_len}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong and where, in one line: Ryu's own exceptions often have no text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {frame.name}, line {frame.lineno})"


def _parse_by_turns(datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: bytearray) -> Any:
    """What Ryu calls for each message: `parse`, with others' turns in between."""
    if not _bounded_struct.in_message:
        parsed = getattr(datapath, "parsed_bytes", 0) + msg_len
        if parsed > BYTES_PER_TURN:
            parsed = 0
            eventlet.sleep(0)
        datapath.parsed_bytes = parsed
    return parse(datapath, version, msg_type, msg_len, xid, buf)


def _close_on_malformed(receive: Callable[[Any], None]) -> Callable[[Any], None]:
    """Makes Ryu's receive loop end, and with it the connection, when its peer has sent what it cannot take.

    That is a message that cannot be parsed, or one that Ryu's handlers of the handshake fail on, which run in the
    same loop (those of applications do not). The loop closes the socket however it ends.
    """

    def receive_until_malformed(datapath: Any) -> None:
        try:
            receive(datapath)
        except Exception as error:
            what = error if isinstance(error, MalformedMessage) else _reason(error)
            LOG.warning("openflow-malformed", peer=_peer(datapath), reason=what, action="close")

    return receive_until_malformed


def _peer(datapath: Any) -> str:
    if not isinstance(datapath.address, tuple):
        return str(datapath.address)  # of a Unix domain socket
    host, port = datapath.address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parser_modules() -> list[ModuleType]:
    return [
        module
        for name, module in sys.modules.items()
        if name.startswith("ryu.ofproto.") and getattr(module, "struct", None) is struct
    ]


def _parse_unknown_property(cls: Any, buf: bytes) -> Any:
    """Ryu's keeps all of the message behind the property: of 64 KiB of small ones, 270 MB."""
    _, length = struct.unpack_from("!HH", buf)
    return cls(buf=buf[:length])


def install() -> None:
    """Put the guard into Ryu. Idempotent. `controller.southbound.manager.repair` comes before."""
    from ryu.base import app_manager  # noqa: F401  before the next, for the two import each other
    from ryu.controller import controller

    if ofproto_parser.msg is _parse_by_turns:
        return
    for module in _parser_modules():
        module.struct = _bounded_struct  # type: ignore[attr-defined]
        if hasattr(module, "OFPPropUnknown"):
            module.OFPPropUnknown.parser = classmethod(_parse_unknown_property)
    ofproto_parser.msg = _parse_by_turns
    controller.Datapath._recv_loop = _close_on_malformed(controller.Datapath._recv_loop)
