# SPDX-License-Identifier: Apache-2.0
"""Who may call what, over TLS, of a real controller: each call with each token, and what a token is not for."""

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.rest.api import OPERATIONS
from tests.support.controller import REST_PORT, TIMEOUT, Controller
from tests.support.ovs import Ovs
from tests.support.pki import Authority, CertifiedKey
from tests.support.tokens import (
    DPID,
    HOME_AGENT,
    HOME_PREFIX,
    OTHER_DPID,
    OTHER_HOME_AGENT,
    OTHER_PREFIX,
    TABLES,
    TOKENS,
    write_tokens,
)
from tests.support.waiting import wait_for

HOME_ADDRESS, OTHER_ADDRESS = "2001:db8:99::100", "2001:db8:98::100"
ENDPOINTS = {"revision": 0, "endpoints": [{"home_agent": HOME_AGENT, "port": "tin", "mac": "02:00:00:00:00:0a"}]}
ANYBODY = frozenset({"", "wrong", *TOKENS})
READERS = frozenset({"reader", "admin"})
OWN_BRIDGE = READERS | {"bridge"}
ADMIN = frozenset({"admin"})
OPERATORS = ADMIN | {"member"}  # which passes on what operators ask for

# Written down here once more, and by hand: who may make each call. Paths are those of the first home agent and router.
MAY = {
    ("POST", "/v1/bindings"): OPERATORS | {"bridge"},
    ("GET", "/v1/bindings"): READERS | {"bridge", "other-bridge", "member"},
    ("GET", "/v1/bindings/{home_address}"): OWN_BRIDGE | {"member"},
    ("GET", "/v1/bindings/{home_address}/explain"): OWN_BRIDGE | {"member"},
    ("DELETE", "/v1/bindings/{home_address}"): OPERATORS,
    ("GET", "/v1/home-agents"): READERS | {"bridge", "other-bridge"},
    ("PUT", "/v1/home-agents/{address}"): ADMIN | {"bridge"},
    ("PUT", "/v1/home-agents/{address}/bindings"): ADMIN | {"bridge"},
    ("POST", "/v1/home-agents/{address}/bindings"): OPERATORS | {"bridge"},
    ("GET", "/v1/routers"): READERS | {"member"},
    ("GET", "/v1/routers/{dpid}"): READERS | {"member"},
    ("GET", "/v1/routers/{dpid}/flows"): READERS | {"member"},
    ("GET", "/v1/routers/{dpid}/diff"): READERS | {"member"},
    ("PUT", "/v1/routers/{dpid}/drain"): OPERATORS,
    ("DELETE", "/v1/routers/{dpid}/drain"): OPERATORS,
    ("GET", "/v1/routers/{dpid}/tunnels"): ADMIN | {"router"},
    ("PUT", "/v1/routers/{dpid}/tunnels/ack"): ADMIN | {"router"},
    ("GET", "/v1/cluster"): READERS | {"bridge", "other-bridge", "router", "other-router", "member"},
    ("GET", "/v1/events"): READERS,
    ("GET", "/v1/traffic"): READERS,
    ("GET", "/metrics"): READERS,
    ("GET", "/healthz"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/openapi.json"): ANYBODY,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/docs/{file}"): ANYBODY,
    ("GET", "/"): ANYBODY,
    ("GET", "/dashboard/{file}"): ANYBODY,
}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/bindings"): {
        "home_address": HOME_ADDRESS,
        "care_of_address": "2001:db8:2::2",
        "home_agent": HOME_AGENT,
    },
    ("PUT", "/v1/home-agents/{address}"): {"home_prefixes": [HOME_PREFIX]},
    ("PUT", "/v1/home-agents/{address}/bindings"): {"bindings": []},
    ("POST", "/v1/home-agents/{address}/bindings"): {"care_of_address": "2001:db8:2::2", "lifetime": 60},
    ("PUT", "/v1/routers/{dpid}/tunnels/ack"): ENDPOINTS,
}


class Secured:
    """A controller with tokens and TLS."""

    def __init__(self, ovs: Ovs, directory: Path, settings: str = "") -> None:
        self.authority = Authority(directory / "ca")
        self.pair = self.authority.server("controller", "127.0.0.1")
        self.tokens = write_tokens(directory)
        lines = [f"tokens_file = {self.tokens}", f"rest_certificate = {self.pair.certificate}"]
        lines += [f"rest_key = {self.pair.key}", settings]
        self.controller = Controller(ovs, directory, "\n".join(lines), tls=self.client(), token=TOKENS["admin"])

    def client(self, pair: CertifiedKey | None = None) -> ssl.SSLContext:
        """Return a client's side of TLS."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    (directory / "ovs").mkdir()
    with Ovs(directory / "ovs") as ovs:
        made = Secured(ovs, directory)
        with made.controller:
            yield made
        made.controller.assert_log_clean()


@pytest.fixture
def controller(secured: Secured) -> Controller:
    """Provide the secured controller, to which both home agents are announced, with a binding each."""
    running = secured.controller
    for home_agent, prefix, home_address in (
        (HOME_AGENT, HOME_PREFIX, HOME_ADDRESS),
        (OTHER_HOME_AGENT, OTHER_PREFIX, OTHER_ADDRESS),
    ):
        running.put(f"/v1/home-agents/{home_agent}", {"home_prefixes": [prefix], "lease": 60})
        held = {"home_address": home_address, "care_of_address": "2001:db8:2::2"}
        running.put(f"/v1/home-agents/{home_agent}/bindings", {"bindings": [held]})
    running.put(f"/v1/routers/{DPID}/tunnels/ack", ENDPOINTS)
    return running


def test_every_call_is_in_the_table() -> None:
    assert {(operation.method, operation.path) for operation in OPERATIONS} == MAY.keys()


@pytest.mark.parametrize("call", MAY, ids=lambda call: " ".join(call))
def test_each_call_with_each_token(controller: Controller, call: tuple[str, str]) -> None:
    method, path = call
    target = path.format(home_address=HOME_ADDRESS, address=HOME_AGENT, dpid=DPID, file="start.js")
    if path == "/v1/events":
        target += "?follow=no"
    body = BODIES.get(call)
    for name in sorted(ANYBODY):
        token = TOKENS.get(name, "not-a-token-that-is-known" if name == "wrong" else "")
        answer = controller.call(method, target, body, token=token)
        if name in MAY[call]:
            assert answer.status not in (401, 403, 429), (name, answer)
            assert answer.status < 500 or answer.status == 503, (name, answer)
        elif name in ("", "wrong"):
            assert answer.status == 401, (name, answer)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        else:
            assert answer.status == 403, (name, answer)


@pytest.mark.parametrize(("scheme", "status"), [("bearer", 200), ("BEARER ", 200), ("Basic", 401), ("Token", 401)])
def test_a_token_is_taken_as_a_bearers_only(controller: Controller, scheme: str, status: int) -> None:
    header = {"Authorization": f"{scheme} {TOKENS['reader']}"}
    assert controller.call("GET", "/v1/bindings", token="", headers=header).status == status


def binding(home_address: str, home_agent: str, care_of_address: str = "2001:db8:66::66") -> dict[str, object]:
    """Return what an attacker would like to have held."""
    return {"home_address": home_address, "care_of_address": care_of_address, "home_agent": home_agent}


def held(controller: Controller) -> dict[str, str]:
    """Return what is held: care-of address by home address."""
    return {item["home_address"]: item["care_of_address"] for item in controller.get("/v1/bindings")["bindings"]}


@pytest.mark.parametrize(
    ("name", "method", "path", "body", "field"),
    [
        ("bridge", "POST", "/v1/bindings", binding(OTHER_ADDRESS, OTHER_HOME_AGENT), "home_agent"),
        ("bridge", "POST", "/v1/bindings", binding(OTHER_ADDRESS, HOME_AGENT), "home_address"),
        ("bridge", "POST", "/v1/bindings", binding("2001:db8::/32", HOME_AGENT), "home_address"),
        ("bridge", "POST", "/v1/bindings", {**binding(OTHER_ADDRESS, HOME_AGENT), "lifetime": 0}, "home_address"),
        ("bridge", "PUT", f"/v1/home-agents/{OTHER_HOME_AGENT}", {"home_prefixes": [OTHER_PREFIX]}, "address"),
        ("bridge", "PUT", f"/v1/home-agents/{OTHER_HOME_AGENT}/bindings", {"bindings": []}, "address"),
        ("bridge", "PUT", f"/v1/home-agents/{HOME_AGENT}", {"home_prefixes": [OTHER_PREFIX]}, "home_prefixes[0]"),
        (
            "bridge",
            "PUT",
            f"/v1/home-agents/{HOME_AGENT}",
            {"home_prefixes": [HOME_PREFIX, "2001:db8::/32"]},
            "home_prefixes[1]",
        ),
        ("bridge", "GET", f"/v1/bindings?home_agent={OTHER_HOME_AGENT}", None, "home_agent"),
        ("bridge", "GET", f"/v1/bindings/{OTHER_ADDRESS}", None, "home_address"),
        ("bridge", "GET", f"/v1/bindings/{OTHER_ADDRESS}/explain", None, "home_address"),
        ("bridge", "DELETE", f"/v1/bindings/{HOME_ADDRESS}", None, None),
        ("router", "PUT", f"/v1/routers/{OTHER_DPID}/tunnels/ack", ENDPOINTS, "dpid"),
        ("router", "PUT", "/v1/routers/2/tunnels/ack", ENDPOINTS, "dpid"),
        ("router", "GET", f"/v1/routers/{OTHER_DPID}/tunnels", None, "dpid"),
    ],
)
def test_what_a_token_is_not_for_is_refused_and_changes_nothing(
    controller: Controller, name: str, method: str, path: str, body: Any, field: str | None
) -> None:
    before = held(controller), controller.get("/v1/routers"), len(controller.get("/v1/home-agents")["home_agents"])
    answer = controller.call(method, path, body, token=TOKENS[name])
    assert answer.status == 403, answer
    if field is not None:
        assert [error["field"] for error in answer.body["errors"]] == [field]
    now = held(controller), controller.get("/v1/routers"), len(controller.get("/v1/home-agents")["home_agents"])
    assert now == before


def test_what_is_anothers_in_a_batch_or_a_snapshot_is_left_out_alone(controller: Controller) -> None:
    items = [
        binding(HOME_ADDRESS, HOME_AGENT, "2001:db8:3::3"),
        binding(OTHER_ADDRESS, OTHER_HOME_AGENT),
        binding(OTHER_ADDRESS, HOME_AGENT),
        binding("2001:db8:99::101", HOME_AGENT, "2001:db8:3::4"),
    ]
    wanted = {HOME_ADDRESS: "2001:db8:3::3", "2001:db8:99::101": "2001:db8:3::4", OTHER_ADDRESS: "2001:db8:2::2"}
    batch = controller.call("POST", "/v1/bindings", {"bindings": items}, token=TOKENS["bridge"])
    assert [result["status"] for result in batch.body["results"]] == [200, 403, 403, 201]
    assert held(controller) == wanted
    path = f"/v1/home-agents/{HOME_AGENT}/bindings"
    snapshot = controller.call("PUT", path, {"bindings": items}, token=TOKENS["bridge"])
    assert snapshot.status == 200
    assert [(item["index"], item["status"]) for item in snapshot.body["refused"]] == [(1, 403), (2, 403)]
    assert held(controller) == wanted


def test_a_bridge_sees_its_own_and_nobody_elses(controller: Controller) -> None:
    for name, home_agent, home_address in (
        ("bridge", HOME_AGENT, HOME_ADDRESS),
        ("other-bridge", OTHER_HOME_AGENT, OTHER_ADDRESS),
    ):
        bindings = controller.call("GET", "/v1/bindings", token=TOKENS[name]).body["bindings"]
        assert [item["home_address"] for item in bindings] == [home_address]
        agents = controller.call("GET", "/v1/home-agents", token=TOKENS[name]).body["home_agents"]
        assert [item["home_agent"] for item in agents] == [home_agent]


def test_who_did_what_is_written_down_and_no_token(controller: Controller) -> None:
    before = len(controller.log)
    moved = binding(HOME_ADDRESS, HOME_AGENT, "2001:db8:3::9")
    controller.call("POST", "/v1/bindings", moved, token=TOKENS["bridge"])
    controller.call("POST", "/v1/bindings", moved, token=TOKENS["bridge"])  # a sign of life
    moved_on = binding(HOME_ADDRESS, HOME_AGENT, "2001:db8:3::a")
    controller.call("POST", "/v1/bindings", {"bindings": [moved_on]}, token=TOKENS["bridge"])  # as a bridge does
    controller.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}", token=TOKENS["reader"])
    controller.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}", token="guessed-" + "x" * 30)
    controller.call("DELETE", f"/v1/bindings/{HOME_ADDRESS}")
    log = controller.log
    assert log.count("event=audit who=anonymous client=127.0.0.1 ") == 1  # of an address, once in a while
    assert not any(token in log for token in (*TOKENS.values(), "guessed-"))
    lines = [line for line in log[before:].splitlines() if "event=audit" in line and "who=anonymous" not in line]
    expected = [
        ("who=bridge client=127.0.0.1 method=POST path=/v1/bindings ", "change=changed", "result=200"),
        ("who=bridge ", "path=/v1/bindings ", f"subject={HOME_ADDRESS} ", "changed=1", "result=200"),
        ("who=reader ", "method=DELETE", "result=403"),
        ("who=admin ", "method=DELETE", "result=204"),
    ]
    assert len(lines) == len(expected), lines
    for line, parts in zip(lines, expected, strict=True):
        assert all(part in line for part in parts), line


def test_the_audit_names_the_home_agent_also_where_addresses_are_hidden(ovs: Ovs, tmp_path: Path) -> None:
    settings = f"log_addresses = false\ntokens_file = {write_tokens(tmp_path)}"
    with Controller(ovs, tmp_path, settings, token=TOKENS["admin"]) as controller:
        for token, status in ((TOKENS["bridge"], 200), (TOKENS["reader"], 403)):
            answer = controller.call(
                "PUT", f"/v1/home-agents/{HOME_AGENT}", {"home_prefixes": ["2001:db8:99::/64"]}, token=token
            )
            assert answer.status == status
        lines = [line for line in controller.log.splitlines() if "event=audit" in line]
    assert len(lines) == 2
    assert all(f" home_agent={HOME_AGENT} " in line for line in lines), lines


def test_pages_get_nothing_from_and_give_nothing_to_other_hosts(controller: Controller) -> None:
    for path in ("/openapi.json", "/v1/bindings", "/nowhere"):
        headers = controller.call("GET", path, headers={"Origin": "https://evil.example"}).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not any(name.lower().startswith("access-control") for name in headers)


def test_tokens_are_read_again_on_sighup_and_a_broken_file_keeps_the_former(ovs: Ovs, tmp_path: Path) -> None:
    made = Secured(ovs, tmp_path)
    new = "a-new-token-for-the-reader-of-it-all"

    def status(token: str) -> int:
        return made.controller.call("GET", "/v1/bindings", token=token).status

    def fail_to_reload(text: str) -> None:
        failed = "event=reload-failed what=tokens kept=former"
        before = made.controller.log.count(failed)
        made.tokens.write_text(text)
        made.controller.hang_up()
        wait_for("it is told", lambda: made.controller.log.count(failed) > before)

    with made.controller as controller:
        assert (status(TOKENS["reader"]), status(new)) == (200, 401)
        made.tokens.write_text(TABLES.replace(TOKENS["reader"], new))
        assert (status(TOKENS["reader"]), status(new)) == (200, 401)
        controller.hang_up()
        wait_for("the tokens are read", lambda: "event=reloaded what=tokens" in controller.log)
        assert (status(TOKENS["reader"]), status(new)) == (401, 200)
        for text in (f'[reader]\ntoken = "{new}', "a = " + "[" * 100_000, "a = " + "1" * 5000):
            fail_to_reload(text)
            assert (status(TOKENS["reader"]), status(new)) == (401, 200)
        assert new not in controller.log
    controller.assert_log_clean([r"event=reload-failed what=tokens"])


def test_a_stream_of_events_ends_with_its_token(ovs: Ovs, tmp_path: Path) -> None:
    made = Secured(ovs, tmp_path, "event_heartbeat = 0.5")
    with made.controller as controller:
        with ovs.inside():
            connection = socket.create_connection(("127.0.0.1", REST_PORT), timeout=TIMEOUT)
        with made.client().wrap_socket(connection, server_hostname="127.0.0.1") as stream:
            request = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS['reader']}\r\n\r\n"
            stream.sendall(request.encode())
            assert stream.recv(65536).startswith(b"HTTP/1.1 200")
            made.tokens.write_text(TABLES.replace(TOKENS["reader"], "a-new-token-for-the-reader-of-it-all"))
            controller.hang_up()
            deadline = time.monotonic() + TIMEOUT
            while stream.recv(65536):
                assert time.monotonic() < deadline, "it goes on"
        wait_for("it is told", lambda: "event=event-stream-ended" in controller.log)


def test_certificates_are_read_again_on_sighup(ovs: Ovs, tmp_path: Path) -> None:
    made = Secured(ovs, tmp_path)
    with made.controller as controller:
        former = made.authority.certificate.read_bytes()
        for name in ("ca.key", "ca.crt"):
            (made.authority.directory / name).unlink()
        made.authority = Authority(made.authority.directory)
        made.authority.server("controller", "127.0.0.1")
        controller.hang_up()
        wait_for("they are read", lambda: "event=reloaded what=rest-certificates" in controller.log)
        with pytest.raises(ssl.SSLCertVerificationError):
            controller.call("GET", "/healthz")
        assert made.authority.certificate.read_bytes() != former
        controller.tls = made.client()
        assert controller.get("/healthz")


def test_a_client_without_a_certificate_is_refused_where_one_is_wanted(ovs: Ovs, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "clients")
    made = Secured(ovs, tmp_path, f"rest_client_ca = {authority.certificate}")
    bare = made.controller.tls
    made.controller.tls = made.client(authority.client("bridge"))
    with made.controller as controller:
        assert controller.get("/v1/bindings") == {"bindings": [], "next": None}
        assert controller.call("GET", "/v1/bindings", token="").status == 401  # a certificate alone lets nobody in
        for context in (bare, made.client(Authority(tmp_path / "stranger").client("bridge"))):
            controller.tls = context
            with pytest.raises(OSError, match=r"(?i)alert|reset|closed|EOF"):
                controller.call("GET", "/healthz")
        wait_for("it is told", lambda: "event=client-refused peer=127.0.0.1" in controller.log)


def test_less_than_tls_1_2_is_refused(controller: Controller, secured: Secured) -> None:
    old = secured.client()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    present, controller.tls = controller.tls, old
    try:
        with pytest.raises(OSError, match=r"(?i)protocol|alert|version"):
            controller.call("GET", "/healthz")
    finally:
        controller.tls = present
