# SPDX-License-Identifier: Apache-2.0
"""Ryu 4.34 on a current eventlet, and safe from malformed OpenFlow messages. The console script `ryu-manager`.

Two things are wrong with Ryu as it is:

- `ryu.app.wsgi` imports `eventlet.wsgi.ALREADY_HANDLED`, which eventlet no longer has.
- Its parsers walk lists by the lengths that the peer wrote. With a length of zero they never end, and the whole
  controller hangs, REST included, on one message of 12 bytes from any peer of the OpenFlow port. Other messages
  that it cannot parse are logged with a stack trace and skipped.

Here a message that cannot be parsed ends its connection with one line in the log, and nothing else is affected. There
are over a hundred such loops in the parsers of five OpenFlow versions and of the Nicira and ONF extensions. All of
them unpack something in each round, so it is there that they are bounded: what one message may make the parsers unpack
is limited by its length.
"""

import logging
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import eventlet.wsgi

# Read by a response of Ryu's that follows a WebSocket; eventlet itself is told by its WebSocket class.
eventlet.wsgi.ALREADY_HANDLED = []

from oslo_config import cfg
from ryu.cmd import manager
from ryu.controller import controller
from ryu.ofproto import ofproto_common, ofproto_parser

LOG = logging.getLogger(__name__)

# Unpackings that one message is allowed. Per byte: what fills a message most densely in the wire formats that
# Ryu knows makes its parsers unpack once per 2 bytes. The constant is for the small ones, made of a header mostly.
UNPACKINGS_PER_BYTE = 1
UNPACKINGS_PER_MESSAGE = 64


class MalformedMessage(Exception):
    """An OpenFlow message that cannot be parsed. The text names its version, type, length and what is wrong."""


class _BoundedStruct:
    """Takes the place of the module `struct` in Ryu's parsers, and counts what they unpack."""

    def __init__(self) -> None:
        self._left: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(struct, name)

    @contextmanager
    def limit(self, unpackings: int) -> Iterator[None]:
        """Within it, no more than so many unpackings. A message inside another one shares the limit of the outer."""
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
            raise ValueError("it has more parts than its length has room for: some length in it is zero or wrong")


_bounded_struct = _BoundedStruct()


def parse(datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: bytes) -> Any:
    """Parses one OpenFlow message: `ryu.ofproto.ofproto_parser.msg`, but all that can go wrong is MalformedMessage.

    `buf` starts with the message; `msg_len` is what the caller makes of the length field.
    """
    try:
        _, _, length, _ = ofproto_parser.header(buf)
        if length < ofproto_common.OFP_HEADER_SIZE:
            raise ValueError(f"its length field says {length}, the header alone has 8 bytes")
        if len(buf) < msg_len:
            raise ValueError(f"it is cut off after {len(buf)} bytes")
        parser = ofproto_parser._MSG_PARSERS.get(version)
        if parser is None:
            raise ValueError("this OpenFlow version is unknown")
        with _bounded_struct.limit(UNPACKINGS_PER_MESSAGE + UNPACKINGS_PER_BYTE * len(buf)):
            # bytes, for a slice of the whole of a bytearray would be a copy of it.
            return parser(datapath, version, msg_type, msg_len, xid, bytes(buf))
    except MalformedMessage:
        raise  # of a message within this one
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise MalformedMessage(f"version={version} type={msg_type} length={msg_len} reason={reason!r}") from error


def _close_on_malformed(receive: Callable[[Any], None]) -> Callable[[Any], None]:
    """Ryu's receive loop, ended by what its peer sent without a stack trace. The socket is closed on return."""

    def receive_until_malformed(datapath: Any) -> None:
        try:
            receive(datapath)
        except MalformedMessage as error:
            LOG.warning("closing OpenFlow connection: malformed message peer=%s:%s %s", *datapath.address[:2], error)

    return receive_until_malformed


def _parser_modules() -> list[ModuleType]:
    return [
        module
        for name, module in sys.modules.items()
        if name.startswith("ryu.ofproto.") and getattr(module, "struct", None) is struct
    ]


def install() -> None:
    """Puts the guard into Ryu. Idempotent."""
    if ofproto_parser.msg is parse:
        return
    for module in _parser_modules():
        module.struct = _bounded_struct  # type: ignore[attr-defined]
    ofproto_parser.msg = parse
    controller.Datapath._recv_loop = _close_on_malformed(controller.Datapath._recv_loop)


def main(argv: list[str] | None = None) -> int:
    """`ryu-manager`: Ryu's own, after `install`. A wrong setting is told in one line, with exit status 2."""
    install()
    try:
        manager.main(args=argv)
    except cfg.Error as error:
        print(f"ryu-manager: {error}", file=sys.stderr)
        return 2
    return 0
