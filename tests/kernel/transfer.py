# SPDX-License-Identifier: Apache-2.0
"""Send or receive one TCP stream or UDP datagrams, in a node of a test network. Standard library only.

    transfer.py tcp-receive ADDRESS              transfer.py tcp-send SOURCE ADDRESS BYTES
    transfer.py udp-receive ADDRESS              transfer.py udp-send SOURCE ADDRESS BYTES

A receiver prints `ready`, then what it got: of TCP the bytes and the seconds that took, of UDP the first one's bytes.
"""

import socket
import sys
import time
from collections.abc import Callable

PORT = 5201
TIMEOUT = 120.0  # seconds
CHUNK = 1 << 20


def tcp_receive(address: str) -> None:
    """Take one stream to its end."""
    with socket.create_server((address, PORT), family=_family(address)) as server:
        server.settimeout(TIMEOUT)
        print("ready", flush=True)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(TIMEOUT)
            begin, received = time.monotonic(), 0
            while data := connection.recv(CHUNK):
                received += len(data)
            print(received, time.monotonic() - begin, flush=True)


def tcp_send(source: str, address: str, length: str) -> None:
    """Send that many bytes and wait until they were taken."""
    with socket.create_connection((address, PORT), TIMEOUT, (source, 0)) as connection:
        left, chunk = int(length), bytes(CHUNK)
        while left:
            connection.sendall(chunk[:left])
            left -= min(left, CHUNK)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def udp_receive(address: str) -> None:
    """Take one datagram."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(TIMEOUT)
        receiver.bind((address, PORT))
        print("ready", flush=True)
        print(len(receiver.recv(65535)), flush=True)


def udp_send(source: str, address: str, length: str) -> None:
    """Send one datagram."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        sender.sendto(bytes(int(length)), (address, PORT))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


if __name__ == "__main__":
    functions: dict[str, Callable[..., None]] = {
        "tcp-receive": tcp_receive,
        "tcp-send": tcp_send,
        "udp-receive": udp_receive,
        "udp-send": udp_send,
    }
    functions[sys.argv[1]](*sys.argv[2:])
