# SPDX-License-Identifier: Apache-2.0
"""`ryu-manager` as it is started: a malformed message ends its connection, and REST and the other switches go on."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.logs import assert_log_clean
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for
from topologies.waiting import patient

RYU_MANAGER = Path(sys.executable).with_name("ryu-manager")
TIMEOUT = patient(60)  # seconds, for anything awaited
CLOSING = 'level=warning event=openflow-malformed peer=127.0.0.1:{port} reason="{what}'

APPLICATION = """
import json

from ryu.app.wsgi import ControllerBase, WSGIApplication, route
from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from webob import Response

SWITCHES = []


class Rest(ControllerBase):
    @route("switches", "/switches")
    def switches(self, req, **_):
        return Response(body=json.dumps(SWITCHES).encode(), content_type="application/json")


class Application(RyuApp):
    _CONTEXTS = {"wsgi": WSGIApplication}

    def __init__(self, *args, wsgi, **kwargs):
        super().__init__(*args, **kwargs)
        wsgi.register(Rest)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def changed(self, ev):
        if ev.state == MAIN_DISPATCHER:
            SWITCHES.append(ev.datapath.id)
        elif ev.datapath.id in SWITCHES:
            SWITCHES.remove(ev.datapath.id)
"""

HELLO = bytes.fromhex("04 00 0008 00000001")
FEATURES_REPLY = bytes.fromhex("04 06 0020 00000002 0000000000000009 00000000 0100 0000 0000004f 00000000")
MALFORMED = {
    "hello element of length 0": (
        bytes.fromhex("04 00 000c 00000001 0001 0000"),
        "version 4, type 0, length 12",
    ),
    "length 0 in the header": (bytes.fromhex("04 00 0000 00000001"), "version 4, type 0, length"),
    "length 2 in the header": (bytes.fromhex("04 00 0002 00000001"), "version 4, type 0, length"),
    "OpenFlow 1.1": (bytes.fromhex("02 00 0008 00000001"), "version 2, type 0, length"),
    "no OpenFlow at all": (b"GET / HTTP/1.1\r\n" + bytes(30000), "version 71, type 69, length"),
    "no such type": (HELLO + bytes.fromhex("04 63 0008 00000001"), "version 4, type 99, length"),
    "features cut off": (HELLO + bytes.fromhex("04 06 000c 00000001 00000000"), "version 4, type 6, length"),
    "port of length 0 in OpenFlow 1.4": (
        bytes.fromhex("05 00 0008 00000001")
        + bytes.fromhex("05 13 0058 00000002 000d 0000 00000000 00000001 0000 0000")
        + bytes(64),
        "version 5, type 19, length 88",
    ),
    "instruction of length 0": (
        HELLO
        + bytes.fromhex("04 0e 0040 00000002")
        + bytes(40)
        + bytes.fromhex("0001 0004 00000000 0004 0000 00000000"),
        "version 4, type 14, length 64",
    ),
    "hello failed, and why in no ASCII": (
        bytes.fromhex("04 01 000e 00000001 0000 0000 ffff"),
        "UnicodeDecodeError",
    ),
}


@dataclass
class Controller:
    """A running ryu-manager in the namespace of a switch."""

    ovs: Ovs
    log: Path

    def switches(self) -> list[int]:
        """Return its REST interface's answer. Raises OSError when there is none."""
        with self.ovs.inside(), urllib.request.urlopen("http://127.0.0.1:8080/switches", timeout=TIMEOUT) as answer:
            found: list[int] = json.load(answer)
        return found

    def await_switches(self, wanted: list[int]) -> None:
        """Wait until these are connected, and no others."""
        found = None
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                found = self.switches()
                if found == wanted:
                    return
            time.sleep(0.05)
        raise AssertionError(f"switches {found} instead of {wanted}; the log:\n{self.log.read_text()}")

    def connect(self) -> socket.socket:
        """Return a new connection to its OpenFlow port."""
        with self.ovs.inside():
            return socket.create_connection(("127.0.0.1", 6653), timeout=TIMEOUT)


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """ryu-manager with an application that tells the switches there are, one of which is an Open vSwitch."""
    directory = tmp_path_factory.mktemp("controller")
    application = directory / "application.py"
    application.write_text(APPLICATION)
    log = directory / "ryu-manager.log"
    argv = [str(RYU_MANAGER), "--wsapi-host", "127.0.0.1", "--ofp-tcp-listen-port", "6653", str(application)]
    with Ovs(directory) as ovs, log.open("w") as output:
        running = Controller(ovs, log)
        with subprocess.Popen(ovs.command(*argv), stdout=output, stderr=output) as process:
            try:
                running.await_switches([])
                ovs.add_bridge("br0", dpid=7, controller_port=6653)
                running.await_switches([7])
                yield running
                assert process.poll() is None
            finally:
                process.terminate()
                process.wait(TIMEOUT)
    assert_log_clean(log)


def handshake(connection: socket.socket) -> bytes:
    """Says Hello and answers the features request; returns the controller's next request."""
    connection.sendall(HELLO)
    for expected in (0, 5):
        assert receive(connection)[1] == expected
    connection.sendall(FEATURES_REPLY)
    return receive(connection)


def receive(connection: socket.socket) -> bytes:
    header = connection.recv(8, socket.MSG_WAITALL)
    rest = struct.unpack_from("!H", header, 2)[0] - 8
    return header + (connection.recv(rest, socket.MSG_WAITALL) if rest else b"")


def closed(connection: socket.socket) -> bool:
    """Tell whether the controller closes the connection within TIMEOUT."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:  # it had not read all that was sent
        pass
    return True


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_message_ends_its_connection_and_nothing_else(case: str, controller: Controller) -> None:
    data, what = MALFORMED[case]
    with controller.connect() as other, controller.connect() as connection:
        port = connection.getsockname()[1]
        connection.sendall(data)
        assert closed(connection)
        assert controller.switches() == [7]
        assert handshake(other)[1] == 18  # a new switch gets as far as before
    told = [line for line in controller.log.read_text().splitlines() if f":{port} " in line]
    assert len(told) == 1
    assert CLOSING.format(port=port, what=what) in told[0]


def test_a_setting_that_is_wrong_is_told_in_one_line() -> None:
    done = subprocess.run(
        [str(RYU_MANAGER), "--config-file", "/nonexistent"], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 2
    # Ryu's own modules warn once, when they are compiled.
    said = [line for line in done.stderr.splitlines() if line.startswith("ryu-manager: ")]
    assert said == ["ryu-manager: Failed to find some config files: /nonexistent"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_controller_at_once_and_is_no_failure(number: signal.Signals) -> None:
    with subprocess.Popen(
        [RYU_MANAGER, "controller/app.py"], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("event=openflow-listening" in line for line in process.stderr)
        # While it writes that line, it cannot write another one.
        wait_for("REST is served", _rest_is_served)
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0
        rest = process.stderr.read()
    assert f"event=ended signal={number.name}" in rest
    assert "Traceback" not in rest


def test_a_part_that_fails_ends_the_controller_as_a_failure() -> None:
    program = (
        "import sys; from controller.southbound import manager; manager.repair()\n"
        "from controller import runtime\n"
        "runtime.Runtime._run_clock = lambda self: 1 / 0\n"
        "sys.exit(manager.controller([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(60)
    )
    assert done.returncode == 1
    assert "event=failed" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_what_python_says_of_ryus_source_when_it_compiles_it_does_not_reach_the_log(tmp_path: Path) -> None:
    never_compiled = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    shown = subprocess.run(
        [RYU_MANAGER, "--help"], env=never_compiled, capture_output=True, text=True, timeout=patient(60)
    )
    assert shown.stdout.startswith("hoaflow's controller")
    assert not shown.stderr


def _rest_is_served() -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 8080), TIMEOUT):
        return True
    return False
