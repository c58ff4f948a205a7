# SPDX-License-Identifier: Apache-2.0
"""Send ICMPv6 or ICMP echo requests and print how many were answered: `echo.py COUNT ADDRESS`. Needs root."""

import os
import select
import socket
import struct
import sys
import time

HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, number (RFC 4443 section 4.1, RFC 792)
REQUEST, REPLY = 128, 129
IPV4_REQUEST, IPV4_REPLY = 8, 0
INTERVAL = 0.02  # seconds between requests, at least
WAIT = 10.0  # seconds for an answer


def answered(count: int, address: str) -> int:
    """Return how many of `count` requests were answered; each is sent when the one before has been, or is given up.

    Two at once would be a test of the nodes' kernels: see `tests.support.ping.echo`.
    """
    identifier, missing = os.getpid() & 0xFFFF, set(range(count))
    ipv6 = ":" in address
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if ipv6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    request, reply = (REQUEST, REPLY) if ipv6 else (IPV4_REQUEST, IPV4_REPLY)
    with socket.socket(family, socket.SOCK_RAW, protocol) as sender:

        def receive(awaited: int) -> None:
            end = time.monotonic() + WAIT
            while awaited in missing and (left := end - time.monotonic()) > 0:
                if select.select([sender], [], [], left)[0]:
                    received = sender.recv(2048)
                    start = 0 if ipv6 else (received[0] & 15) * 4
                    kind, _, _, whose, number = HEADER.unpack_from(received, start)
                    if (kind, whose) == (reply, identifier):
                        missing.discard(number)

        for number in range(count):
            # The kernel fills in the checksum of ICMPv6 alone.
            total = (request << 8) + identifier + number
            checksum = 0 if ipv6 else ~(total % 0xFFFF) & 0xFFFF
            sender.sendto(HEADER.pack(request, 0, checksum, identifier, number), (address, 0))
            receive(number)
            time.sleep(INTERVAL)
    return count - len(missing)


if __name__ == "__main__":
    print(answered(int(sys.argv[1]), sys.argv[2]))
