# SPDX-License-Identifier: Apache-2.0
"""What clients share: the token they show, whom they believe, and what they say when they are not let in."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoaflow.client.access import Access, controller_url, warn_of_clear_token
from hoaflow.client.client import Northbound
from hoaflow.client.errors import AccessError, Denied, TooBusy, Unreachable
from tests.support.pki import Authority, CertifiedKey

TIMEOUT = (5.0, 20.0)
SECRET = "secret-token-of-the-bridge"
OTHER = "another-token-of-the-bridge"


class Server:
    """An HTTP server that answers every request as it is told, and keeps who asked with which token."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: Any = {}
        self.tokens: list[str | None] = []
        self.paths: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.tokens.append(self.headers["Authorization"])
                server.paths.append(self.path)
                content = server.body if isinstance(server.body, bytes) else json.dumps(server.body).encode()
                self.send_response(server.status)
                for name, value in ({"Content-Length": str(len(content))} | server.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # Handshakes that fail on purpose are not to be reported.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def token_file(directory: Path, text: str = f"{SECRET}\n", mode: int = 0o600) -> Path:
    path = directory / "token"
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return path


def call(client: Northbound) -> Any:
    return client.request("GET", "/v1/routers", TIMEOUT).json()


def test_the_token_is_read_again_when_its_file_has_changed(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = token_file(tmp_path)
    with Northbound(server.url, Access(path)) as client:
        call(client)
        path.write_text(f"{OTHER}\n")
        call(client)
        # As Kubernetes and careful people do it: another file takes its place.
        new = tmp_path / "new"
        new.touch(mode=0o600)
        new.write_text(SECRET)
        new.rename(path)
        call(client)
        path.write_text("")  # somebody is just writing it
        call(client)
        path.unlink()
        call(client)
    bearers = [f"Bearer {token}" for token in (SECRET, OTHER, SECRET, SECRET, SECRET)]
    assert server.tokens == bearers
    assert "event=token-kept" in caplog.text
    assert SECRET not in caplog.text
    assert OTHER not in caplog.text


@pytest.mark.parametrize(
    ("text", "mode", "named"),
    [
        (SECRET, 0o604, "chmod 600"),
        (SECRET, 0o602, "chmod 600"),
        ("", 0o600, "alone on one line"),
        (f"token = {SECRET}", 0o600, "alone on one line"),
        (f"{SECRET}\n{OTHER}\n", 0o600, "alone on one line"),
        (f"{SECRET}\r\nX-Evil: 1", 0o600, "alone on one line"),
        (f"{SECRET}ß", 0o600, "alone on one line"),
        ("a" * 5000, 0o600, "alone on one line"),
    ],
)
def test_a_token_file_that_is_of_no_use_is_refused_without_showing_it(
    tmp_path: Path, text: str, mode: int, named: str
) -> None:
    path = token_file(tmp_path, text, mode)
    with pytest.raises(AccessError, match=named) as refused:
        Access(path).check()
    assert str(path) in str(refused.value)
    assert SECRET not in str(refused.value)


def test_files_that_are_not_there_or_do_not_fit_are_named(tmp_path: Path, authority: Authority) -> None:
    nowhere = tmp_path / "nowhere"
    junk = tmp_path / "junk"
    junk.write_text("no certificate")
    one, two = authority.client("one"), authority.client("two")
    for access, named in (
        (Access(nowhere), "nowhere"),
        (Access(ca=nowhere), "--ca"),
        (Access(ca=junk), "--ca"),
        (Access(certificate=one.certificate), "go together"),
        (Access(certificate=one.certificate, key=two.key), "--key"),
        (Access(certificate=junk, key=one.key), "--certificate"),
    ):
        with pytest.raises(AccessError, match=named):
            access.check()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://a:b@c", "http://x:99999", "http://x?y", "http://x#y"]
)
def test_what_is_no_url_of_a_controller_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://HOST"):
        controller_url(url)


def test_being_denied_says_why_and_what_to_do(server: Server, tmp_path: Path) -> None:
    server.body = {"title": "Unauthorized", "status": 401, "detail": "not a token that is known here"}
    server.status = 401
    with Northbound(server.url) as client, pytest.raises(Denied, match="--token-file") as denied:
        call(client)
    assert "not a token that is known here" in str(denied.value)
    with (
        Northbound(server.url, Access(token_file(tmp_path))) as client,
        pytest.raises(Denied, match="does not know the token in") as denied,
    ):
        call(client)
    assert SECRET not in str(denied.value)
    server.status = 403
    server.body = {"detail": "this token may read", "errors": [{"field": "home_address", "reason": "outside"}]}
    with Northbound(server.url) as client, pytest.raises(Denied, match="this token may read") as denied:
        call(client)
    assert (denied.value.status, denied.value.errors) == (403, [{"field": "home_address", "reason": "outside"}])


def test_a_busy_controller_says_when_to_come_again(server: Server) -> None:
    server.status, server.headers, server.body = 429, {"Retry-After": "7"}, b"<html>\nslow down"
    with Northbound(server.url) as client, pytest.raises(TooBusy, match="429 <html> slow down") as busy:
        call(client)
    assert busy.value.retry_after == 7.0


def test_the_token_follows_no_redirect(server: Server, tmp_path: Path) -> None:
    server.status, server.headers = 307, {"Location": f"{server.url}/elsewhere"}
    with Northbound(server.url, Access(token_file(tmp_path))) as client:
        assert client.request("GET", "/v1/routers", TIMEOUT).status_code == 307
    assert server.paths == ["/v1/routers"]


def test_a_token_in_clear_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access = Access(token_file(tmp_path))
    for url in ("https://192.0.2.1", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"):
        warn_of_clear_token(url, access)
    assert caplog.text == ""
    warn_of_clear_token("http://192.0.2.1:8080", access)
    assert "event=token-in-clear" in caplog.text


def tls(pair: CertifiedKey, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return a server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_only_the_authoritys_controller_at_its_address_is_believed(authority: Authority, stranger: Authority) -> None:
    good = authority.server("controller", "127.0.0.1", "localhost")
    elsewhere = authority.server("elsewhere", "192.0.2.1", "controller.example")
    posing = authority.client("posing")
    expired = authority.server("expired", "127.0.0.1", days=-1)
    access = Access(ca=authority.certificate)
    for pair, why in (
        (good, None),
        (elsewhere, "not valid for.*for another address than --controller"),
        (posing, "certificate purpose.*not a server's"),
        (expired, r"\(a certificate has expired"),
        (stranger.server("controller", "127.0.0.1"), r"not signed by --ca"),
    ):
        server = Server(tls(pair))
        try:
            with Northbound(server.url, access) as client:
                if why is None:
                    assert call(client) == {}
                    continue
                with pytest.raises(Unreachable, match=why) as refused:
                    call(client)
                assert ("not signed by --ca" in str(refused.value)) == ("not signed" in why), "each has its own advice"
        finally:
            server.stop()


def test_without_an_authority_of_ones_own_the_public_ones_are_asked(authority: Authority) -> None:
    server = Server(tls(authority.server("controller", "127.0.0.1")))
    with Northbound(server.url) as client, pytest.raises(Unreachable, match="give --ca"):
        call(client)
    server.stop()


def test_the_client_shows_its_certificate_also_a_new_one(authority: Authority, stranger: Authority) -> None:
    server = Server(tls(authority.server("controller", "127.0.0.1"), authority.certificate))
    server.headers = {"Connection": "close"}
    pair = authority.client("bridge")
    access = Access(ca=authority.certificate, certificate=pair.certificate, key=pair.key)
    with Northbound(server.url, Access(ca=authority.certificate)) as client, pytest.raises(Unreachable):
        call(client)
    with Northbound(server.url, access) as client:
        assert call(client) == {}
        for content, source in zip(pair, stranger.client("bridge"), strict=True):
            content.write_bytes(source.read_bytes())
        with pytest.raises(Unreachable):
            call(client)
        authority.client("bridge")
        assert call(client) == {}
    server.stop()
