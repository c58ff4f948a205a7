# SPDX-License-Identifier: Apache-2.0
"""Send to a switch at once while its socket takes it.

Ours because Ryu hands each message to a greenlet, which gets its turn after others: a handover waits for that on each
router. What the socket does not take is queued as ever, and so is all that follows until that is sent.
"""

from typing import Any

from eventlet.greenio import GreenSocket
from ryu.controller.handler import DEAD_DISPATCHER

# The largest message that is sent at once. Larger ones would take time from other greenlets.
AT_ONCE = 1 << 13


def send(datapath: Any, message: bytes) -> bool:
    """Send a message, or queue it; tell whether the connection takes any. Messages keep their order."""
    if len(message) > AT_ONCE or not _is_idle(datapath):
        return bool(datapath.send(message))
    try:
        sent = datapath.socket.fd.send(message)
    except BlockingIOError:
        sent = 0
    except OSError:
        return False
    return sent == len(message) or bool(datapath.send(message[sent:]))


def send_queued(datapath: Any) -> None:
    """Send what is queued until the connection ends: in place of `Datapath._send_loop`."""
    queue, room = datapath.send_q, datapath._send_q_sem
    closes = False
    try:
        while datapath.state != DEAD_DISPATCHER and not closes:
            message, closes = queue.get()
            room.release()
            datapath.is_sending = True
            datapath.socket.sendall(message)
            datapath.is_sending = False
    except OSError:
        pass  # who receives finds that the connection has ended, too
    finally:
        datapath.send_q = None
        while not queue.empty():
            queue.get()
            room.release()  # for those that wait to send, in vain
        datapath._close_write()  # the switch closes the connection then


def _is_idle(datapath: Any) -> bool:
    """Tell whether nothing is being sent, queued, or waiting for room in the queue.

    What waits would come between a message's beginning and its end. A TLS socket has no way around its own buffers.
    """
    if datapath.state == DEAD_DISPATCHER or datapath.send_q is None or type(datapath.socket) is not GreenSocket:
        return False
    room = datapath._send_q_sem
    has_all_room: bool = room.balance == room.original_counter
    return has_all_room and not getattr(datapath, "is_sending", False)
