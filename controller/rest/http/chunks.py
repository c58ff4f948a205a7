# SPDX-License-Identifier: Apache-2.0
"""Check the framing of a chunked body (RFC 9112 section 7.1).

Ours because eventlet accepts lines of any length between chunks, and almost anything as a chunk.
"""

import re
from typing import BinaryIO

import eventlet

LONGEST_LINE = 1024  # bytes, of a chunk's size with its extensions, or of one trailer
LONGEST_TRAILERS = 8 * 1024  # bytes, all together
# Lines after which other greenlets run: a fast client would otherwise keep the controller to itself.
LINES_PER_TURN = 256

_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")


class ChunkFraming:
    """Check a chunked body while eventlet's input reads it. Raises ValueError for wrong framing."""

    def __init__(self, received: BinaryIO) -> None:
        self._received = received
        self._within_chunk = False
        self._trailers: int | None = None  # their bytes so far, None before the last chunk
        self._lines = 0
        # Whether all of the body has been read.
        self.complete = False

    def read(self, size: int) -> bytes:
        """Return data of a chunk, at most `size` bytes."""
        self._within_chunk = True
        return self._received.read(size)

    def readline(self) -> bytes:
        """Return the next line: the end or the size of a chunk, or a trailer."""
        self._lines += 1
        if self._lines % LINES_PER_TURN == 0:
            eventlet.sleep(0)
        line = self._received.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ValueError(f"expected a line of less than {LONGEST_LINE} bytes between chunks, got {line[:40]!r}")
        if self._within_chunk:
            self._within_chunk = False
            if line != b"\r\n":
                raise ValueError(f"expected the end of a chunk, got {line[:40]!r}")
        elif self._trailers is None:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise ValueError(f"expected the size of a chunk, got {line[:40]!r}")
            if int(size[1], 16) == 0:
                self._trailers = 0
        else:
            self._trailers += len(line)
            if self._trailers > LONGEST_TRAILERS:
                raise ValueError(f"expected at most {LONGEST_TRAILERS} bytes of trailers")
            self.complete = line in (b"\r\n", b"\n")  # what ends them for eventlet
        return line
