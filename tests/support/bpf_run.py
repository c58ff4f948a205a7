# SPDX-License-Identifier: Apache-2.0
"""Run a BPF program on one packet, as tc would (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import struct
from typing import cast

from hoaflow.tunnel import bpf
from hoaflow.tunnel.tunnel_program import MARK

TEST_RUN = 10
CONTEXT = 192  # octets of struct __sk_buff
ROOM = 4096


def run(program: bpf.Program, frame: bytes, mark: int = 0) -> tuple[int, bytes]:
    """Return what a program returns for a frame with a mark, and what it has made of the frame."""
    given, made = ctypes.create_string_buffer(frame, len(frame)), ctypes.create_string_buffer(ROOM)
    context = ctypes.create_string_buffer(CONTEXT)
    struct.pack_into("=I", context, MARK, mark)
    asked = struct.pack(
        "=IIIIQQIIIIQQ",
        *(program.descriptor, 0, len(frame), ROOM, ctypes.addressof(given), ctypes.addressof(made)),
        *(0, 0, CONTEXT, 0, ctypes.addressof(context), 0),
    )
    attributes = ctypes.create_string_buffer(asked, bpf.ATTRIBUTES)
    bpf._call(cast("bpf.Command", TEST_RUN), attributes)
    returned, _, length = struct.unpack_from("=III", attributes, 4)
    return returned, made.raw[:length]
