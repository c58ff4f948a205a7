# SPDX-License-Identifier: Apache-2.0
"""Read what a switch sends, message by message.

Ours because Ryu's loop reads each message in two pieces, makes an event of it, and has another greenlet take that, for
each of the five messages with which a switch answers a handover. What a channel awaits is handed to it directly; all
else goes the way of Ryu's events, as the handshake does.
"""

import time
from typing import Any

import eventlet
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER
from ryu.ofproto import ofproto_common, ofproto_parser

# Bytes that are read at a time.
MOST_BYTES = 1 << 15
# Seconds of work on what one switch tells before other greenlets run: as long as they take, or the many megabytes of
# its flows would take as many turns, and all that it answers waits behind them.
TURN = 0.005
HEADER = ofproto_common.OFP_HEADER_SIZE


def receive(datapath: Any) -> None:
    """Take messages until the connection ends: in place of `Datapath._recv_loop`. Raises MalformedMessage.

    ``datapath.deliver``, where a channel has set it, gets type, xid and bytes of each message and tells whether it was
    the channel's.
    """
    buffer, worked = bytearray(), 0.0
    while datapath.state != DEAD_DISPATCHER:
        try:
            data = datapath.socket.recv(MOST_BYTES)
        except TimeoutError:
            continue
        except OSError:  # also what is no TLS: asked again it would be raised again, for ever
            return
        if not data:
            return
        buffer += data
        begin, end = 0, len(buffer)
        while end - begin >= HEADER:
            version, kind, length, xid = ofproto_parser.header(buffer[begin : begin + HEADER])
            length = max(length, HEADER)  # a shorter one is found to be malformed
            if end - begin < length:
                break
            message = bytes(buffer[begin : begin + length])
            begin += length
            started = time.monotonic()
            deliver = getattr(datapath, "deliver", None)
            if deliver is None or not deliver(kind, xid, message):
                _hand_to_ryu(datapath, ofproto_parser.msg(datapath, version, kind, length, xid, message))
            worked += time.monotonic() - started
            if worked >= TURN:  # a socket that has data does not let others run by itself
                worked = 0.0
                eventlet.sleep(0)
        del buffer[:begin]


def _hand_to_ryu(datapath: Any, message: Any) -> None:
    """Make an event of a message and have Ryu's handlers and the application take it, as Ryu's own loop does."""
    event = ofp_event.ofp_msg_to_ev(message)
    datapath.ofp_brick.send_event_to_observers(event, datapath.state)
    for handler in datapath.ofp_brick.get_handlers(event):
        if datapath.state in handler.callers[event.__class__].dispatchers:
            handler(event)
