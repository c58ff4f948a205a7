# SPDX-License-Identifier: Apache-2.0
"""Notice changes of the Open vSwitch database that concern tunnels, with an OVSDB monitor (RFC 7047 §4.1.5).

What has changed is read from the database afterwards (`hoaflow.router.ovsdb`). The monitor asks for no initial content,
so after its answer there come only changes, inactivity probes (`echo`), and the end of the connection.
"""

import json
import os
import socket
from typing import Any

from hoaflow.router.errors import RouterError

TIMEOUT = 3.0  # seconds, for the connection and for each answer to it
RUNDIR = "/var/run/openvswitch"  # ovs-vsctl(8)
MONITOR = "hoaflow-router"
DATABASE = "Open_vSwitch"
# Not all columns: statistics change all the time.
COLUMNS = {
    "Open_vSwitch": ["bridges", "external_ids"],
    "Bridge": ["name", "ports", "datapath_id", "datapath_type", "other_config"],
    "Port": ["name", "interfaces", "tag", "external_ids"],
    "Interface": ["name", "type", "options", "ofport", "error"],
}


class DatabaseChanges:
    """The changes of one database. `db` as in `ovs-vsctl --db`, None for its default. Not thread safe."""

    def __init__(self, db: str | None = None) -> None:
        self._db = db or "unix:db.sock"
        self._given_up = False
        self._socket: socket.socket | None = None
        self._rest = ""

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Sockets that are readable when there are changes to `drain`."""
        return () if self._socket is None else (self._socket,)

    def follow(self) -> None:
        """Connect and start to listen, unless connected. Raises RouterError when the database does not answer."""
        if self._socket is not None or self._given_up:
            return
        try:
            self._socket = self._connected()
            requests = {table: {"columns": columns, "select": {"initial": False}} for table, columns in COLUMNS.items()}
            self._send({"method": "monitor", "params": [DATABASE, MONITOR, requests], "id": MONITOR})
            self._await_answer()
            self._socket.setblocking(False)
        except (OSError, ValueError) as error:
            self.close()
            raise RouterError(f"{self._db}: {error} (is ovsdb-server running?)") from error

    def give_up(self) -> None:
        """Never listen: ovs-vsctl reaches the database in a way that `follow` cannot."""
        self._given_up = True

    def drain(self) -> bool:
        """Return whether something has changed since the last call; the end of the connection counts as a change."""
        changed = False
        while self._socket is not None:
            try:
                received = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                received = b""
            try:
                for message in self._messages(received):
                    changed = self._is_change(message) or changed
            except (OSError, ValueError):
                received = b""
            if not received:
                self.close()
                return True
        return changed

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, ""

    def _connected(self) -> socket.socket:
        kind, _, address = self._db.partition(":")
        if kind == "unix":
            opened = socket.socket(socket.AF_UNIX)
            opened.settimeout(TIMEOUT)
            try:
                opened.connect(os.path.join(os.environ.get("OVS_RUNDIR", RUNDIR), address))
            except OSError:
                opened.close()
                raise
            return opened
        if kind == "tcp":
            host, _, port = address.rpartition(":")
            return socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), TIMEOUT)
        raise ValueError(f"changes can be followed at unix:FILE and tcp:ADDRESS:PORT, not at {kind}:")

    def _await_answer(self) -> None:
        assert self._socket is not None
        while True:
            received = self._socket.recv(1 << 16)
            if not received:
                raise OSError("the connection was closed")
            for message in self._messages(received):
                if message.get("id") == MONITOR:
                    if message.get("error"):
                        raise OSError(f"the monitor was refused: {message['error']}")
                    return
                self._is_change(message)

    def _is_change(self, message: dict[str, Any]) -> bool:
        if message.get("method") == "echo":
            self._send({"result": message["params"], "error": None, "id": message["id"]})
            return False
        return True

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        self._socket.sendall(json.dumps(message).encode())

    def _messages(self, received: bytes) -> list[dict[str, Any]]:
        """Split off the complete messages received so far: JSON objects with nothing between them."""
        self._rest = (self._rest + received.decode("utf-8", "replace")).lstrip()
        found = []
        while self._rest:
            try:
                message, end = json.JSONDecoder().raw_decode(self._rest)
            except json.JSONDecodeError:
                break  # incomplete
            found.append(message)
            self._rest = self._rest[end:].lstrip()
        return found
