# SPDX-License-Identifier: Apache-2.0
"""Clients that say little, nothing, too much or nonsense, over real sockets: they get their due, and stall nobody."""

import contextlib
import ctypes
import json
import os
import resource
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controller import OPENFLOW_PORT, REST_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.pki import Authority
from tests.support.tokens import TOKENS, write_tokens
from tests.support.waiting import wait_for
from topologies.waiting import patient

TIMEOUT = patient(30.0)
PIDFD_GETFD = 438  # a system call that Python has no function for; the number is the same on all architectures
OPEN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
BEARER = f"Authorization: Bearer {TOKENS['bridge']}\r\n".encode()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ovs]:
    """Return where the controllers of these tests run."""
    with Ovs(tmp_path_factory.mktemp("ovs")) as running:
        yield running


@pytest.fixture(scope="module")
def controller(host: Ovs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """Provide a controller with tokens, which lets one address have 60 connections."""
    directory = tmp_path_factory.mktemp("controller")
    settings = f"tokens_file = {write_tokens(directory)}\nconnections_per_client = 60\nlargest_body = 2000000\n"
    with Controller(host, directory, settings, token=TOKENS["admin"]) as running:
        yield running
    running.assert_log_clean()


def connect(host: Ovs, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection to the REST API, from one of this host's many loopback addresses."""
    with host.inside():
        return socket.create_connection(("127.0.0.1", REST_PORT), timeout=TIMEOUT, source_address=(source, 0))


def rest_of(connection: socket.socket) -> bytes:
    """Return what still comes, until the controller closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def close_all(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def test_heads_that_come_slowly_stall_nobody_and_come_to_an_end(host: Ovs, controller: Controller) -> None:
    slow = [connect(host, "127.0.0.2") for _ in range(50)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(OPEN if number % 2 else OPEN[:7])
        ended = 0
        deadline = time.monotonic() + TIMEOUT
        while ended < len(slow) and time.monotonic() < deadline:
            # A header more, now and then, keeps any time-out between two pieces from passing.
            for number, connection in enumerate(slow):
                connection.setblocking(False)
                try:
                    connection.sendall(b"X: y\r\n" if number % 2 else b"x")
                    if connection.recv(1) == b"":
                        slow[number] = connect(host)
                        ended += 1
                except BlockingIOError:
                    pass
                except OSError:
                    connection.close()
                    slow[number] = connect(host, "127.0.0.3")
                    ended += 1
            assert controller.get("/healthz")
        assert ended >= 50
    finally:
        close_all(slow)


def test_a_body_that_comes_slowly_stalls_nobody(ovs: Ovs, tmp_path: Path) -> None:
    settings = f"tokens_file = {write_tokens(tmp_path)}\nrequest_timeout = 2\n"
    with Controller(ovs, tmp_path, settings, token=TOKENS["admin"]) as controller, connect(ovs) as slow:
        slow.sendall(b"POST /v1/bindings HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n" + BEARER + b"\r\n")
        slow.settimeout(0.1)
        received = b""
        deadline = time.monotonic() + TIMEOUT
        while not received and time.monotonic() < deadline:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                slow.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                received = slow.recv(65536)
            assert controller.get("/healthz")
        assert received.startswith(b"HTTP/1.1 408")
        assert b"Connection: close" in received


def test_one_address_has_its_connections_and_leaves_others_theirs(host: Ovs, controller: Controller) -> None:
    mine = [connect(host, "127.0.0.2") for _ in range(60)]
    try:
        # All of them are open: the last one is answered.
        mine[-1].sendall(OPEN + b"\r\n")
        assert mine[-1].recv(100).startswith(b"HTTP/1.1 200")
        with connect(host, "127.0.0.2") as one_more:
            assert rest_of(one_more) == b""
        assert controller.get("/healthz")
        wait_for("it is told", lambda: "event=connection-refused peer=127.0.0.2" in controller.log)
        mine.pop().close()

        def room() -> bool:
            with connect(host, "127.0.0.2") as another:
                another.sendall(OPEN + b"Connection: close\r\n\r\n")
                return rest_of(another).startswith(b"HTTP/1.1 200")

        wait_for("there is room again", room)
    finally:
        close_all(mine)


@pytest.mark.parametrize("how", ["length", "chunked", "expect"])
def test_a_strangers_body_is_refused_before_it_is_read(host: Ovs, controller: Controller, how: str) -> None:
    head = b"PUT /v1/home-agents/2001:db8:99::1/bindings HTTP/1.1\r\nHost: x\r\n"
    head += {
        "length": b"Content-Length: 1000000000\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "expect": b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n",
    }[how]
    with connect(host) as connection:
        connection.sendall(head + b"\r\n")  # and nothing of the body
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"Connection: close" in answer


def test_a_client_that_sends_its_body_at_once_still_reads_why_it_is_refused(host: Ovs, controller: Controller) -> None:
    body = b" " * 900_000
    head = b"PUT /v1/home-agents/2001:db8:99::1/bindings HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
    with connect(host) as connection:
        connection.sendall(head + body)
        assert rest_of(connection).startswith(b"HTTP/1.1 401")


def test_a_body_beyond_the_limit_is_refused_by_its_length_alone(host: Ovs, controller: Controller) -> None:
    head = b"POST /v1/bindings HTTP/1.1\r\nHost: x\r\nContent-Length: 2000001\r\n" + BEARER
    with connect(host) as connection:
        connection.sendall(head + b"\r\n")
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"largest_body" in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", b"400"),  # TLS, where there is none
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1 \r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (OPEN + b"X: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
        (OPEN + (b"X: " + b"a" * 8000 + b"\r\n") * 9 + b"\r\n", b"431"),
        (OPEN + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (OPEN + b"X y\r\n\r\n", b"400"),
        (OPEN + b"X(: y\r\n\r\n", b"400"),
        (OPEN + b"X: y\rContent-Length: 2\r\n\r\n{}", b"400"),
        (OPEN + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (OPEN + b"X: y\r\r\n\r\n", b"400"),
        (OPEN + b"X: y\0\r\n\r\n", b"400"),
        (OPEN + b"X\0: y\r\n\r\n", b"400"),
        (OPEN + b"X: y\r\n z\r\n\r\n", b"400"),
        (OPEN + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"GET /healthz\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /healthz\r HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (OPEN + b"Content-Length: x\r\n\r\n", b"400"),
        (OPEN + b"Content-Length: -1\r\n\r\n", b"400"),
        (OPEN + b"Content-Length: +1\r\n\r\nx", b"400"),
        (OPEN + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", b"400"),
        (OPEN + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (OPEN + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"400"),
        (OPEN + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (OPEN.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (OPEN + b"X : y\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (OPEN + b"Host: other\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_http_is_refused_and_not_logged(
    host: Ovs, controller: Controller, sent: bytes, status: bytes
) -> None:
    before = controller.log
    with connect(host) as connection:
        connection.sendall(sent + OPEN + b"\r\n")  # and one more, which nobody shall answer
        answer = rest_of(connection)
    assert answer.split(b" ")[1:2] == [status], answer
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == int(status)
    assert controller.get("/healthz")
    assert controller.log == before


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        (b"zz\r\n", True),
        (b"5\r\nab", True),
        (b"2\r\n{}\r\n0\r\n", True),
        (b"2\r\n{}and more\r\n0\r\n\r\n", False),
        # Refused before they end, or they could be of any length.
        (b"-1\r\n", False),
        (b"1" * 2000, False),
        (b"2\r\n{}\r\n0\r\n" + b"X" * 2000, False),
        (b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 2000, False),
    ],
)
def test_a_body_in_wrong_chunks_is_refused(host: Ovs, controller: Controller, body: bytes, ended: bool) -> None:
    head = b"POST /v1/bindings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + BEARER
    with connect(host) as connection:
        connection.sendall(head + b"\r\n" + body)
        if ended:
            connection.shutdown(socket.SHUT_WR)
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"the body can't be read" in answer


def test_requests_one_after_the_other_on_one_connection(host: Ovs, controller: Controller) -> None:
    with connect(host) as connection:
        connection.sendall(OPEN + b"\r\n" + OPEN + b"\r\n" + OPEN + b"Connection: close\r\n\r\n")
        assert rest_of(connection).count(b"HTTP/1.1 200") == 3


def test_each_client_has_its_rate(ovs: Ovs, tmp_path: Path) -> None:
    settings = f"tokens_file = {write_tokens(tmp_path)}\nrequests_per_second = 5\nanonymous_requests_per_second = 3\n"
    with Controller(ovs, tmp_path, settings, token=TOKENS["admin"]) as controller:

        def until_refused(token: str, status: int, method: str = "GET", path: str = "/v1/bindings?limit=1") -> None:
            for _ in range(100):
                answer = controller.call(method, path, token=token)
                if answer.status == 429:
                    assert int(answer.headers["Retry-After"]) >= 1
                    return
                assert answer.status == status
            raise AssertionError("never refused")

        until_refused(TOKENS["reader"], 200)
        until_refused("no-token-of-anybody", 401)
        # What there is no call for counts as well.
        until_refused(TOKENS["bridge"], 404, path="/nowhere")
        until_refused(TOKENS["router"], 405, method="PATCH")
        assert controller.call("GET", "/v1/bindings", token=TOKENS["admin"]).status == 200
        wait_for("it may again", lambda: controller.call("GET", "/v1/bindings", token=TOKENS["reader"]).status == 200)


def test_what_is_under_way_is_limited_and_freed_again(ovs: Ovs, tmp_path: Path) -> None:
    settings = f"tokens_file = {write_tokens(tmp_path)}\nrequests_in_flight = 2\n"
    with Controller(ovs, tmp_path, settings, token=TOKENS["admin"]) as controller:
        controller.put("/v1/routers/1/tunnels/ack", {"revision": 0})
        revision = controller.get("/v1/routers/1/tunnels")["revision"]
        poll = f"GET /v1/routers/1/tunnels?after={revision}&wait=30 HTTP/1.1\r\nHost: x\r\n".encode()
        waiting = [connect(ovs) for _ in range(2)]
        for connection in waiting:
            connection.sendall(poll + f"Authorization: Bearer {TOKENS['router']}\r\n\r\n".encode())
        path = "/v1/routers/1/tunnels"
        wait_for("it is full", lambda: controller.call("GET", path, token=TOKENS["router"]).status == 429)
        assert controller.get("/v1/bindings") == {"bindings": [], "next": None}
        controller.put("/v1/home-agents/2001:db8:99::1", {"home_prefixes": ["2001:db8:99::/64"]})
        controller.put("/v1/home-agents/2001:db8:99::1/bindings", {"bindings": []})  # they have something to tell
        for connection in waiting:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert controller.call("GET", path, token=TOKENS["router"]).status == 200
        close_all(waiting)


def test_handshakes_that_never_end_stall_nobody(ovs: Ovs, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.server("controller", "127.0.0.1")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    settings = f"rest_certificate = {pair.certificate}\nrest_key = {pair.key}\n"
    with Controller(ovs, tmp_path, settings, tls=context) as controller:
        stuck = [connect(ovs, "127.0.0.2") for _ in range(100)]
        for number, connection in enumerate(stuck):
            if number % 3 == 1:
                connection.sendall(b"\x16\x03\x01")
            elif number % 3 == 2:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert controller.get("/healthz")
        for connection in stuck:
            assert b"HTTP" not in rest_of(connection)
        close_all(stuck)
    controller.assert_log_clean()


def test_strangers_keep_nobody_out(host: Ovs, controller: Controller) -> None:
    """Many addresses, as many connections as the server has: its own clients get in all the same, and stay."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with connect(host) as known:
        request = b"GET /v1/home-agents HTTP/1.1\r\nHost: x\r\n" + f"Authorization: Bearer {TOKENS['reader']}".encode()
        known.sendall(request + b"\r\n\r\n")
        assert known.recv(65536).startswith(b"HTTP/1.1 200")
        strangers = [connect(host, f"127.0.{1 + number // 60}.1") for number in range(10_050)]
        try:
            assert controller.get("/v1/bindings") == {"bindings": [], "next": None}
            known.sendall(request + b"\r\n\r\n")
            answer = known.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["home_agents"] == []
            assert rest_of(strangers[0]) == b""
        finally:
            close_all(strangers)


def test_answers_and_flows_go_out_at_once(ovs: Ovs, tmp_path: Path) -> None:
    """No connection that the controller has accepted waits to fill a segment (Nagle's algorithm)."""
    with Controller(ovs, tmp_path) as controller, connect(ovs) as client:
        client.sendall(OPEN + b"\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        ovs.add_bridge("br0", 1, OPENFLOW_PORT)
        wait_for("the switch is connected", lambda: controller.get("/v1/routers?connected=yes")["routers"])
        found = dict(accepted_by(controller.pid))
    assert found == {REST_PORT: True, OPENFLOW_PORT: True}


def accepted_by(pid: int) -> Iterator[tuple[int, bool]]:
    """Yield the TCP connections that a process has accepted: at which port, and whether Nagle's algorithm is off."""
    process = os.pidfd_open(pid)
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            copy = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, process, int(descriptor), 0)
            if copy < 0:
                continue  # closed by now
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                continue
            with socket.socket(fileno=copy) as shared:
                if shared.family != socket.AF_INET or shared.type != socket.SOCK_STREAM:
                    continue
                if not shared.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    nagle_off = shared.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
                    yield shared.getsockname()[1], nagle_off
    finally:
        os.close(process)
