# SPDX-License-Identifier: Apache-2.0
"""Answer every HTTP request with the same bytes at once, to measure what the load generator itself costs.

`python -m tools.benchmarks.null_server PORT`: serves 127.0.0.1 until it is ended.
"""

import selectors
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def serve(port: int) -> None:
    """Serve 127.0.0.1:`port` until killed; a request must arrive in one piece, as the generator's do on loopback."""
    selector = selectors.DefaultSelector()
    with socket.create_server(("127.0.0.1", port)) as server:
        selector.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is server:
                    connection, _ = server.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(connection, selectors.EVENT_READ, connection)
                elif key.data.recv(65536):
                    key.data.sendall(ANSWER)
                else:
                    selector.unregister(key.data)
                    key.data.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
