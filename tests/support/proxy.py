# SPDX-License-Identifier: Apache-2.0
"""A proxy between a real switch and the controller, which sees the bundles and can make the switch worse.

It takes away its bundles, or makes it silent, deaf (it reads nothing any more), or slow to tell its flows.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from tests.support.ovs import Ovs
from topologies.waiting import patient

HEADER = struct.Struct("!BBHI")
OFPT_ERROR, OFPT_EXPERIMENTER, OFPT_FLOW_MOD, OFPT_MULTIPART_REPLY = 1, 4, 14, 19
MULTIPART = struct.Struct("!H")  # after the header of a multipart message: its type
OFPMP_FLOW = 1
# After the header of an experimenter message (EXT-230): experimenter, type, bundle and, in a control message, its type.
BUNDLE = struct.Struct("!IIIH")
BUNDLE_CONTROL, BUNDLE_ADD, COMMIT_REQUEST = 2300, 2301, 4
ROLE_STATUS = 1911  # EXT-191: the type of the notice of another role
INNER = HEADER.size + 16  # where the message begins that is put into a bundle
COMMAND, DELETE_STRICT = 25, 4  # of a flow message: where its command stands, and one of them
TCP_CLOSE_WAIT = 8  # a state in TCP_INFO: the peer has ended its side (Linux, include/net/tcp_states.h)
EPERM = struct.pack("!HH", 5, 5)  # OFPET_FLOW_MOD_FAILED, OFPFMFC_EPERM
BAD_EXPERIMENTER = struct.pack("!HH", 1, 3)  # OFPET_BAD_REQUEST, OFPBRC_BAD_EXPERIMENTER


class Proxy:
    """Takes the switch's connection on `port` and makes its own to the controller. A context manager.

    `committed`: the messages of each bundle that the controller has committed; `plain`: flow messages outside of any.
    `deletes`: whether bundles that delete flows are let through; else the deletion is refused, and with it the bundle.
    `notices`: whether the switch's notices that it has another master are let through.
    `late`: seconds that each part of what the switch tells of its flows takes.
    """

    def __init__(self, ovs: Ovs, port: int, controller_port: int, controller: str = "127.0.0.1") -> None:
        self.bundles = True
        self.notices = True
        self.silent = threading.Event()
        self.hearing = threading.Event()
        self.late = 0.0
        self.refused = 0
        self.deletes = True
        self.committed: list[list[bytes]] = []
        self.plain: list[bytes] = []
        self._bundles: dict[int, list[bytes]] = {}
        self._ovs = ovs
        self._controller = controller, controller_port
        self._sockets: list[socket.socket] = []
        with ovs.inside():
            self._server = socket.create_server(("127.0.0.1", port))

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self._server, *self._sockets]:
            with contextlib.suppress(OSError):  # closed already
                sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept or recv
            sock.close()
        self.hearing.set()

    def _serve(self) -> None:
        while True:
            try:
                switch, _ = self._server.accept()
            except OSError:
                return
            try:
                with self._ovs.inside():
                    controller = socket.create_connection(self._controller, timeout=patient(20))
            except OSError:
                switch.close()
                continue
            controller.settimeout(None)
            controller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)  # little is on its way to a deaf switch
            self._sockets += [switch, controller]
            self.silent.clear()
            self.hearing.set()
            for source, target, handle in (
                (controller, switch, self._from_controller),
                (switch, controller, self._from_switch),
            ):
                threading.Thread(target=self._forward, args=(source, target, handle), daemon=True).start()

    def _forward(
        self, source: socket.socket, target: socket.socket, handle: Callable[[bytes, socket.socket], bytes]
    ) -> None:
        buffer = b""
        with contextlib.suppress(OSError), source, target:  # when one direction ends, so does the other
            while self._is_read(handle, source) and (data := source.recv(65536)):
                buffer += data
                while len(buffer) >= HEADER.size and len(buffer) >= (length := HEADER.unpack_from(buffer)[2]):
                    message, buffer = buffer[:length], buffer[length:]
                    target.sendall(handle(message, source))

    def _is_read(self, handle: Callable[[bytes, socket.socket], bytes], source: socket.socket) -> bool:
        """Wait until this direction is read; tell whether it still is.

        A connection that the controller has ended meanwhile is over, with all that was on its way.
        """
        if handle != self._from_controller or self.hearing.is_set():
            return True
        self.hearing.wait()
        return source.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_CLOSE_WAIT

    def _from_controller(self, message: bytes, controller: socket.socket) -> bytes:
        kind = HEADER.unpack_from(message)[1]
        if kind == OFPT_FLOW_MOD:
            self.plain.append(message)
        if kind != OFPT_EXPERIMENTER:
            return message
        if not self.bundles:
            self._refuse(message, BAD_EXPERIMENTER, controller)
            return b""
        deletion = self._follow_bundle(message)
        if deletion is None or self.deletes:
            return message
        self._refuse(deletion, EPERM, controller)
        return b""

    def _refuse(self, message: bytes, why: bytes, controller: socket.socket) -> None:
        self.refused += 1
        version, _, _, xid = HEADER.unpack_from(message)
        body = why + message[:64]
        controller.sendall(HEADER.pack(version, OFPT_ERROR, HEADER.size + len(body), xid) + body)

    def _follow_bundle(self, message: bytes) -> bytes | None:
        """Take down what a bundle consists of; return a deletion in it when it is committed."""
        _, kind, bundle, step = BUNDLE.unpack_from(message, HEADER.size)
        if kind == BUNDLE_ADD:
            self._bundles.setdefault(bundle, []).append(message)
        elif kind == BUNDLE_CONTROL and step == COMMIT_REQUEST:
            self.committed.append(self._bundles.pop(bundle, []))
            return next((each for each in self.committed[-1] if each[INNER + COMMAND] == DELETE_STRICT), None)
        return None

    def _from_switch(self, message: bytes, switch: socket.socket) -> bytes:
        if self.late and HEADER.unpack_from(message)[1] == OFPT_MULTIPART_REPLY:
            (kind,) = MULTIPART.unpack_from(message, HEADER.size)
            if kind == OFPMP_FLOW:
                time.sleep(self.late)
        silent = self.silent.is_set() or (not self.notices and _is_role_status(message))
        return b"" if silent else message


def _is_role_status(message: bytes) -> bool:
    return message[1] == OFPT_EXPERIMENTER and BUNDLE.unpack_from(message, HEADER.size)[1] == ROLE_STATUS
