# SPDX-License-Identifier: Apache-2.0
"""Proxies between members and a real etcd, by which requests arrive late."""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Collection

from tests.support.etcd import CLIENT_PORT
from tests.support.ovs import Ovs
from topologies.waiting import patient

OFFSET = 100  # of a proxy's port from its endpoint's
# Calls of etcd's gateway, below `/v3/`: those that etcd's members agree on and write to their disks, and others.
WRITING = {"kv/txn", "lease/grant", "lease/revoke"}
READING = {"kv/range", "watch", "lease/keepalive"}


class LateEtcd:
    """One proxy for each endpoint of an etcd with some members, in the namespace of `ovs`. A context manager."""

    def __init__(self, ovs: Ovs, members: int = 3) -> None:
        self._calls: Collection[str] = ()
        self._seconds = itertools.cycle((0.0,))
        self._ovs = ovs
        self._sockets: list[socket.socket] = []
        with ovs.inside():
            self._servers = {
                CLIENT_PORT + member: socket.create_server(("127.0.0.1", CLIENT_PORT + member + OFFSET))
                for member in range(members)
            }

    @property
    def endpoints(self) -> list[str]:
        """The proxies' URLs."""
        return [f"http://127.0.0.1:{port + OFFSET}" for port in self._servers]

    def be_late(self, calls: Collection[str], *seconds: float) -> None:
        """Have these calls arrive so many seconds late from now on, the first by the first of `seconds`, and so on."""
        self._calls, self._seconds = calls, itertools.cycle(seconds)

    def be_well(self) -> None:
        """Have no call arrive late from now on."""
        self._calls = ()

    def __enter__(self) -> "LateEtcd":
        for port, server in self._servers.items():
            threading.Thread(target=self._serve, args=(server, port), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [*self._servers.values(), *self._sockets]:
            with contextlib.suppress(OSError):  # closed already
                sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept or recv
            sock.close()

    def _serve(self, server: socket.socket, port: int) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            try:
                with self._ovs.inside():
                    etcd = socket.create_connection(("127.0.0.1", port), timeout=patient(20))
            except OSError:
                client.close()
                continue
            etcd.settimeout(None)
            self._sockets += [client, etcd]
            for source, target in ((client, etcd), (etcd, client)):
                threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source, target:  # when one direction ends, so does the other
            while data := source.recv(65536):
                if data.startswith(b"POST /v3/") and data[9:].split(b" ", 1)[0].decode() in self._calls:
                    time.sleep(next(self._seconds))
                target.sendall(data)
