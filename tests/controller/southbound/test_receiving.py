# SPDX-License-Identifier: Apache-2.0
"""What a switch sends is taken message by message, and lets others have their turns."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from types import SimpleNamespace

import eventlet
from eventlet.greenio import GreenSocket
from ryu.controller.handler import MAIN_DISPATCHER

from controller.southbound.receiving import TURN, receive

BARRIER_REPLY = 21
MESSAGES = [struct.pack("!BBHI", 4, BARRIER_REPLY, 8, xid) for xid in range(10)]


def take(pieces: list[bytes], deliver: Callable[[int, int, bytes], bool]) -> None:
    """Have the messages delivered that come in these pieces."""
    near, far = map(GreenSocket, socket.socketpair())

    def send() -> None:
        with contextlib.closing(far):
            for piece in pieces:
                far.sendall(piece)
                eventlet.sleep(0)

    eventlet.spawn(send)
    with contextlib.closing(near):
        receive(SimpleNamespace(socket=near, state=MAIN_DISPATCHER, deliver=deliver))


def test_messages_that_come_in_pieces_are_taken_whole_and_in_order() -> None:
    taken: list[tuple[int, int, bytes]] = []

    def deliver(kind: int, xid: int, message: bytes) -> bool:
        taken.append((kind, xid, message))
        return True

    stream = b"".join(MESSAGES)
    take([stream[begin : begin + 3] for begin in range(0, len(stream), 3)], deliver)
    assert taken == [(BARRIER_REPLY, xid, message) for xid, message in enumerate(MESSAGES)]


def test_others_have_turns_between_messages_that_take_long_although_all_have_come_at_once() -> None:
    taken: list[int] = []
    turns: list[int] = []

    def deliver(_kind: int, xid: int, _message: bytes) -> bool:
        taken.append(xid)
        ends = time.monotonic() + TURN
        while time.monotonic() < ends:
            pass
        return True

    def take_turns() -> None:
        while len(taken) < len(MESSAGES):
            turns.append(len(taken))
            eventlet.sleep(0)

    other = eventlet.spawn(take_turns)
    take([b"".join(MESSAGES)], deliver)
    other.wait()
    assert set(range(1, len(MESSAGES))) <= set(turns)
