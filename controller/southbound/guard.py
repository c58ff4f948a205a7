# SPDX-License-Identifier: Apache-2.0
"""Bound Ryu's OpenFlow parsers, so that a malformed message ends its connection and nothing else.

Ryu's parsers walk lists by the lengths that the peer wrote. With a length of zero they never end: one message of 12
bytes from any peer of the OpenFlow port hangs the whole controller, REST included. Other messages that Ryu cannot parse
it logs with a stack trace and skips.

There are over a hundred such loops in the parsers of five OpenFlow versions and of the Nicira extensions. Each of them
unpacks something in every round, so unpacking is what is bounded: the length of a message limits how much the parsers
may unpack of it. A message that cannot be parsed closes its connection, with one line in the log.
"""

import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import ModuleType
from typing import Any

# All parsers, for `install` to find them.
from ryu.ofproto import ofproto_common, ofproto_parser, ofproto_protocol  # noqa: F401

from hoaflow.addresses import format_endpoint
from hoaflow.errors import HoaflowError
from hoaflow.logs import Log

LOG = Log("southbound")

# Unpackings that one message is allowed. Open vSwitch's densest messages (table features) take one per 3 bytes; the
# constant is for small ones, which are mostly header.
UNPACKINGS_PER_BYTE = 1
UNPACKINGS_PER_MESSAGE = 64


class MalformedMessage(HoaflowError):
    """An OpenFlow message cannot be parsed; the text gives its version, type and length, and what is wrong."""


class _BoundedStruct:
    """Take the place of the module `struct` in Ryu's parsers, and count what they unpack."""

    def __init__(self) -> None:
        self._left: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(struct, name)

    @contextmanager
    def limit(self, unpackings: int) -> Iterator[None]:
        """Allow so many unpackings in this context. A message within another shares the outer one's limit."""
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
            raise ValueError("it has more parts than fit into its length: a length in it is zero or wrong")


_bounded_struct = _BoundedStruct()


def parse(datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: bytes | bytearray) -> Any:
    """Parse one OpenFlow message as `ryu.ofproto.ofproto_parser.msg` does, in bounded time and memory.

    `buf` starts with the message, and `msg_len` is the length that the caller assumes. Raises MalformedMessage,
    whatever is wrong.
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
    """Return what went wrong and where, in one line; Ryu's exceptions often have no text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {frame.name}, line {frame.lineno})"


def _close_on_malformed(receive: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap a receive loop so that it ends with one line in the log at the first message that it cannot take.

    That is a message that cannot be parsed, or one that Ryu's handlers of the handshake fail on, which run in the same
    loop (those of applications do not). The socket is closed however the loop ends.
    """

    def receive_until_malformed(datapath: Any) -> None:
        try:
            with closing(datapath.socket):
                receive(datapath)
        except Exception as error:
            what = error if isinstance(error, MalformedMessage) else _reason(error)
            LOG.warning("openflow-malformed", peer=_peer(datapath), reason=what, action="close")

    return receive_until_malformed


def _peer(datapath: Any) -> str:
    if not isinstance(datapath.address, tuple):
        return str(datapath.address)  # of a Unix domain socket
    return format_endpoint(*datapath.address[:2])


def _parser_modules() -> list[ModuleType]:
    return [
        module
        for name, module in sys.modules.items()
        if name.startswith("ryu.ofproto.") and getattr(module, "struct", None) is struct
    ]


def _parse_unknown_property(cls: Any, buf: bytes) -> Any:
    """Parse a property as Ryu does, without keeping the rest of the message in it: 270 MB for 64 KiB of small ones."""
    _, length = struct.unpack_from("!HH", buf)
    return cls(buf=buf[:length])


def install() -> None:
    """Put the guard into Ryu, after `controller.southbound.manager.repair`. Idempotent."""
    from ryu.base import app_manager  # noqa: F401  before the next, for the two import each other
    from ryu.controller import controller

    from controller.southbound.receiving import receive
    from controller.southbound.sending import send_queued

    if ofproto_parser.msg is parse:
        return
    for module in _parser_modules():
        module.struct = _bounded_struct  # type: ignore[attr-defined]
        if hasattr(module, "OFPPropUnknown"):
            module.OFPPropUnknown.parser = classmethod(_parse_unknown_property)
    ofproto_parser.msg = parse
    controller.Datapath._recv_loop = _close_on_malformed(receive)
    controller.Datapath._send_loop = send_queued
