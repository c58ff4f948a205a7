# SPDX-License-Identifier: Apache-2.0
"""Send ICMPv6 echo requests and print how many were answered: `echo.py COUNT ADDRESS`. Needs root."""

import os
import select
import socket
import struct
import sys
import time

HEADER = struct.Struct("!BBHHH")  # type, code, checksum (the kernel's), identifier, number (RFC 4443 section 4.1)
REQUEST, REPLY = 128, 129
INTERVAL = 0.02  # seconds between requests, at least
WAIT = 10.0  # seconds for an answer


def answered(count: int, address: str) -> int:
    """Return how many of `count` requests were answered; each is sent when the one before has been, or is given up.

    Two at once would be a test of the nodes' kernels: see `tests.support.ping.echo`.
    """
    identifier, missing = os.getpid() & 0xFFFF, set(range(count))
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:

        def receive(awaited: int) -> None:
            end = time.monotonic() + WAIT
            while awaited in missing and (left := end - time.monotonic()) > 0:
                if select.select([sender], [], [], left)[0]:
                    kind, _, _, whose, number = HEADER.unpack_from(sender.recv(2048))
                    if (kind, whose) == (REPLY, identifier):
                        missing.discard(number)

        for number in range(count):
            sender.sendto(HEADER.pack(REQUEST, 0, 0, identifier, number), (address, 0))
            receive(number)
            time.sleep(INTERVAL)
    return count - len(missing)


if __name__ == "__main__":
    print(answered(int(sys.argv[1]), sys.argv[2]))
