# SPDX-License-Identifier: Apache-2.0
"""What a switch that refuses lets through, and how it refuses the rest."""

import struct

import pytest

from tools.chaos.refusal import is_change, refusal

HELLO, ECHO, FLOW_MOD, BARRIER = 0, 2, 14, 20


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBHI", 4, kind, 8 + len(body), 7) + body


def bundle(kind: int, step: int) -> bytes:
    return message(4, struct.pack("!IIIHH", 0x4F4E4600, kind, 1, step, 0))


@pytest.mark.parametrize("passed", [message(HELLO), message(ECHO), message(BARRIER), bundle(2300, 0), bundle(2301, 4)])
def test_all_but_changes_pass(passed: bytes) -> None:
    assert not is_change(passed)


@pytest.mark.parametrize("change", [message(FLOW_MOD, bytes(48)), bundle(2300, 4)])
def test_changes_are_answered_by_an_error(change: bytes) -> None:
    assert is_change(change)
    answer = refusal(change)
    assert struct.unpack_from("!BBHIHH", answer) == (4, 1, len(answer), 7, 5, 5)
    assert answer.endswith(change[:64])
