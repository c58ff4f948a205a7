# SPDX-License-Identifier: Apache-2.0
"""The client of etcd gets by with a real etcd cluster in every state, and says what is wrong with it."""

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from hoaflow.etcd import EtcdAccess, EtcdClient, EtcdError, EtcdRefused, EtcdUnavailable, KeyValue, follow
from hoaflow.etcd.messages import delete, encoded, put, unchanged
from tests.support.etcd import METRICS_PORT, Etcd
from tests.support.pki import Authority
from tests.support.waiting import wait_for
from topologies.waiting import patient

ABSENT = 0


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    with Etcd(tmp_path / "etcd") as running:
        yield running


@pytest.fixture
def client(etcd: Etcd) -> Iterator[EtcdClient]:
    with EtcdClient(etcd.endpoints, timeout=4.0) as client:
        yield client


def ask(etcd: Etcd, path: str, body: object, access: EtcdAccess | None = None) -> None:
    """Make a call that only an administrator makes."""
    verify = str(access.ca) if access else True
    requests.post(f"{etcd.endpoints[0]}/v3/{path}", json=body, verify=verify, timeout=60).raise_for_status()


def values(keys: Mapping[str, KeyValue] | Mapping[str, KeyValue | None]) -> dict[str, str | None]:
    return {key: found and found.value for key, found in keys.items()}


def test_a_key_is_won_once_and_goes_with_its_lease(client: EtcdClient) -> None:
    lease = client.grant_lease(60)
    assert client.transact([unchanged("/a/master", ABSENT)], [put("/a/master", "one", lease)])
    assert not client.transact([unchanged("/a/master", ABSENT)], [put("/a/master", "two")])
    found = client.get("/a/master")
    assert found is not None
    assert (found.value, found.lease) == ("one", lease)
    assert client.transact([unchanged("/a/master", found.revision)], [delete("/a/none"), put("/a/other", "three")])
    assert client.keep_alive(lease)
    client.revoke_lease(lease)
    client.revoke_lease(lease)
    assert not client.keep_alive(lease)
    assert values(client.get_all("/a/")[1]) == {"/a/other": "three"}


def test_calls_and_watch_outlive_the_leader(etcd: Etcd, client: EtcdClient) -> None:
    followed = follow(client, "/a/", lambda error: None)
    assert next(followed) == {}
    leader = etcd.leader
    assert leader is not None
    etcd.kill(leader)
    wait_for("a new leader takes a key", lambda: carried_out(client, "/a/key", "value"))
    assert values(next(changes for changes in followed if changes)) == {"/a/key": "value"}


def carried_out(client: EtcdClient, key: str, value: str) -> bool:
    try:
        return client.transact([], [put(key, value)])
    except EtcdError:
        return False


def test_a_watch_knows_of_deletions_and_outlives_compaction(etcd: Etcd, client: EtcdClient) -> None:
    client.transact([], [put("/a/one", "1"), put("/b/other", "")])
    followed = follow(client, "/a/", lambda error: None)
    assert values(next(followed)) == {"/a/one": "1"}
    for number in range(10):
        client.transact([], [put("/a/two", str(number))])
    client.transact([], [delete("/a/one")])
    revision, _ = client.get_all("/a/")
    ask(etcd, "kv/compaction", {"revision": str(revision)})  # what the watch would have to begin with is gone
    assert values(next(changes for changes in followed if changes)) == {"/a/one": None, "/a/two": "9"}
    client.transact([], [put("/a/three", "3")])
    assert values(next(changes for changes in followed if changes)) == {"/a/three": "3"}


def test_without_quorum_calls_fail_and_the_watch_says_so(etcd: Etcd, client: EtcdClient) -> None:
    troubles: list[EtcdError] = []
    followed = follow(client, "/a/", troubles.append)
    next(followed)
    etcd.kill(0)
    etcd.kill(1)
    with pytest.raises(EtcdUnavailable, match="23792"):
        client.transact([], [put("/a/key", "value")])
    waiting = threading.Thread(target=lambda: next(followed), daemon=True)
    waiting.start()
    wait_for("the watch says that it cannot read", lambda: troubles)
    etcd.start(0)
    waiting.join(patient(30))
    assert not waiting.is_alive()


def test_a_paused_endpoint_is_left(etcd: Etcd, client: EtcdClient) -> None:
    assert client.get("/a/key") is None
    etcd.pause(0)
    wait_for("another answers", lambda: carried_out(client, "/a/key", "value"))
    etcd.resume(0)


def test_a_full_etcd_says_what_to_do(tmp_path: Path) -> None:
    with (
        Etcd(tmp_path / "etcd", members=1, options=[f"--quota-backend-bytes={256 * 1024}"]) as etcd,
        EtcdClient(etcd.endpoints) as client,
        pytest.raises(EtcdRefused, match=r"database space exceeded.*compact"),
    ):
        fill(client)


def fill(client: EtcdClient) -> None:
    for number in range(1000):
        client.transact([], [put(f"/a/{number}", "x" * 10_000)])


def test_certificates_are_checked(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path / "stranger")
    own = authority.client("hoaflow")
    options = [*over_tls(authority), "--client-cert-auth", f"--trusted-ca-file={authority.certificate}"]
    with Etcd(tmp_path / "etcd", members=1, options=options, scheme="https") as etcd:
        for wrong in (EtcdAccess(stranger.certificate), EtcdAccess(authority.certificate)):
            with EtcdClient(etcd.endpoints, wrong) as client, pytest.raises(EtcdUnavailable):
                client.get("/a/key")
        with EtcdClient(etcd.endpoints, EtcdAccess(authority.certificate, own.certificate, own.key)) as client:
            assert client.transact([], [put("/a/key", "value")])


def test_users_are_checked(tmp_path: Path) -> None:
    authority, password = Authority(tmp_path), tmp_path / "password"
    password.write_text("secret\n")
    named = EtcdAccess(authority.certificate, user="hoaflow", password_file=password)
    with Etcd(tmp_path / "etcd", members=1, options=over_tls(authority), scheme="https") as etcd:
        for path, body in (
            ("auth/user/add", {"name": "root", "password": "secret"}),
            ("auth/user/grant", {"user": "root", "role": "root"}),
            ("auth/user/add", {"name": "hoaflow", "password": "secret"}),
            ("auth/role/add", {"name": "hoaflow"}),
            ("auth/role/grant", {"name": "hoaflow", "perm": permission("/a/")}),
            ("auth/user/grant", {"user": "hoaflow", "role": "hoaflow"}),
            ("auth/enable", {}),
        ):
            ask(etcd, path, body, named)
        with EtcdClient(etcd.endpoints, EtcdAccess(authority.certificate)) as client, pytest.raises(EtcdRefused):
            client.get("/a/key")
        with EtcdClient(etcd.endpoints, named) as client:
            assert client.transact([], [put("/a/key", "value")])
            with pytest.raises(EtcdRefused, match="grant-permission"):
                client.get("/b/key")
            etcd.kill(0)
            etcd.start(0)  # it knows no token of before
            wait_for("etcd answers", lambda: carried_out(client, "/a/key", "other"))
        password.write_text("wrong\n")
        before = logins(etcd)
        with EtcdClient(etcd.endpoints, named) as client:
            for _ in range(20):
                with pytest.raises(EtcdRefused, match="password"):
                    client.get("/a/key")
            assert logins(etcd) - before < 20, "not each call logs in, which would keep etcd from all else"
            password.write_text("secret\n")
            wait_for("etcd answers", lambda: carried_out(client, "/a/key", "again"))


def logins(etcd: Etcd) -> float:
    """Return how many logins the first member has answered."""
    metrics = requests.get(f"http://127.0.0.1:{METRICS_PORT + etcd.members[0]}/metrics", timeout=patient(10)).text
    lines = metrics.splitlines()
    counted = [line for line in lines if line.startswith("grpc_server_handled_total") and '"Authenticate"' in line]
    return sum(float(line.split()[-1]) for line in counted)


def over_tls(authority: Authority) -> list[str]:
    own = authority.etcd("etcd", "127.0.0.1")
    return [f"--cert-file={own.certificate}", f"--key-file={own.key}"]


def permission(prefix: str) -> dict[str, object]:
    return {"permType": "READWRITE", "key": encoded(prefix), "range_end": encoded(prefix[:-1] + "0")}


@pytest.mark.parametrize("answer", [b"<html>welcome</html>", b"[]", b"{}", b"\xff", b'{"header": {"revision": "x"}}'])
def test_nonsense_is_no_answer(answer: bytes) -> None:
    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Server)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        with EtcdClient([f"http://127.0.0.1:{server.server_port}"]) as client:
            for call in (lambda: client.get_all("/a/"), lambda: client.grant_lease(5), lambda: client.keep_alive(5)):
                with pytest.raises(EtcdUnavailable, match="expected"):
                    call()
    finally:
        server.shutdown()
        server.server_close()
