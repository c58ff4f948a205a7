# SPDX-License-Identifier: Apache-2.0
"""Become a switch's MASTER although one is there: `python -m tools.chaos.usurper SOCKET`.

SOCKET is the Unix socket by which `ovs-ofctl` reaches a bridge. It takes the newest generation that the switch knows
and the next (OpenFlow 1.3, section 6.3.6), prints `event=master`, and answers the switch until SIGTERM.
"""

import signal
import socket
import struct
import sys

HEADER, ROLE = struct.Struct("!BBHI"), struct.Struct("!IxxxxQ")
VERSION, HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, ROLE_REQUEST, ROLE_REPLY = 4, 0, 1, 2, 3, 24, 25
NO_CHANGE, MASTER = 0, 2
UNKNOWN_GENERATION = (1 << 64) - 1


def _send(switch: socket.socket, kind: int, body: bytes = b"", xid: int = 1) -> None:
    switch.sendall(HEADER.pack(VERSION, kind, HEADER.size + len(body), xid) + body)


def _receive(switch: socket.socket) -> tuple[int, int, bytes]:
    _version, kind, length, xid = HEADER.unpack(_exactly(switch, HEADER.size))
    return kind, xid, _exactly(switch, length - HEADER.size)


def _exactly(switch: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = switch.recv(count - len(data))
        if not more:
            raise SystemExit("the switch has ended the connection")
        data += more
    return data


def main() -> int:
    """Stay MASTER until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_UNIX) as switch:
        switch.connect(sys.argv[1])
        _send(switch, HELLO)
        _send(switch, ROLE_REQUEST, ROLE.pack(NO_CHANGE, 0))
        while True:
            kind, xid, body = _receive(switch)
            if kind == ERROR:
                raise SystemExit(f"the switch has refused: {body.hex()}")
            if kind == ECHO_REQUEST:
                _send(switch, ECHO_REPLY, body, xid)
            if kind != ROLE_REPLY:
                continue
            role, generation = ROLE.unpack(body)
            if role == MASTER:
                print("event=master", flush=True)
                continue
            following = 0 if generation == UNKNOWN_GENERATION else generation + 1
            _send(switch, ROLE_REQUEST, ROLE.pack(MASTER, following))


if __name__ == "__main__":
    sys.exit(main())
