# SPDX-License-Identifier: Apache-2.0
"""What is sent to a switch arrives whole and in order, however little its socket takes at a time."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import eventlet
import pytest
from eventlet.greenio import GreenSocket
from ryu.controller.handler import MAIN_DISPATCHER
from ryu.lib import hub

from controller.southbound import guard, manager
from controller.southbound.sending import AT_ONCE, send, send_queued

ROOM = 16  # messages that Ryu queues for a connection


@pytest.fixture
def ends() -> Iterator[tuple[Any, GreenSocket]]:
    """Provide both ends of a connection that takes a few kilobytes: Ryu's, without its greenlets, and the switch's."""
    manager.repair()
    guard.install()
    from ryu.controller.controller import Datapath  # can't be imported before

    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel makes it the least that there is
    datapath = Datapath.__new__(Datapath)
    datapath.socket, datapath.address, datapath.state = GreenSocket(near), "", MAIN_DISPATCHER
    datapath.send_q, datapath._send_q_sem = hub.Queue(ROOM), hub.BoundedSemaphore(ROOM)
    with contextlib.closing(near), contextlib.closing(far):
        yield datapath, GreenSocket(far)


def messages(count: int) -> list[bytes]:
    """Return messages that can be told from each other, as large as what is sent at once."""
    return [bytes([number]) * AT_ONCE for number in range(1, count + 1)]


def received(far: GreenSocket, length: int) -> bytes:
    """Return what arrives at the switch's end, so many bytes."""
    found = b""
    with eventlet.Timeout(30):
        while len(found) < length:
            found += far.recv(1000)
    return found


def test_what_the_socket_does_not_take_at_once_follows_in_order(ends: tuple[Any, GreenSocket]) -> None:
    datapath, far = ends
    loop, sent = eventlet.spawn(send_queued, datapath), messages(2 * ROOM)
    sender = eventlet.spawn(lambda: [send(datapath, message) for message in sent])
    assert received(far, len(b"".join(sent))) == b"".join(sent)
    assert all(sender.wait())
    loop.kill()


def test_what_waits_for_room_in_the_queue_never_comes_in_the_midst_of_a_message(ends: tuple[Any, GreenSocket]) -> None:
    datapath, far = ends
    for _ in range(ROOM):
        assert datapath.send(b"queued")
    waits, message = messages(2)
    eventlet.spawn(send, datapath, waits)
    eventlet.sleep(0)
    for _ in range(ROOM):  # as `send_queued` does where the socket takes all: nobody else gets a turn meanwhile
        datapath.send_q.get()
        datapath._send_q_sem.release()
    assert send(datapath, message)
    loop = eventlet.spawn(send_queued, datapath)
    assert received(far, 2 * AT_ONCE) == waits + message
    loop.kill()


def test_a_connection_that_has_ended_takes_nothing(ends: tuple[Any, GreenSocket]) -> None:
    datapath, far = ends
    far.close()
    assert not send(datapath, b"message")
