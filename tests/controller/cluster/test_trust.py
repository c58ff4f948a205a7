# SPDX-License-Identifier: Apache-2.0
"""Members trust each other by tokens and certificates of their own, over TLS: real members, and an etcd."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from hoaflow.scope import THIS_MEMBER
from tests.support.bench import FIRST, HOME_ADDRESS, HOME_AGENT, HOME_PREFIX, binding
from tests.support.cluster import Member
from tests.support.etcd import Etcd
from tests.support.ovs import Ovs
from tests.support.pki import Authority
from tests.support.tokens import TOKENS, write_token, write_tokens
from tests.support.waiting import wait_for

BINDING = f"/v1/bindings/{HOME_ADDRESS}"


class SafeMember(Member):
    """A member that others reach over TLS, with a certificate and a token."""

    def __init__(self, ovs: Ovs, directory: Path, number: int, endpoints: list[str], authority: Authority) -> None:
        files = directory / f"files-{number}"
        files.mkdir()
        server, client = authority.server(f"c{number}", f"127.0.0.{number}"), authority.client(f"member-{number}")
        self.token_file, self.authority = write_token(files, "member"), files / "ca.pem"
        self.authority.write_bytes(authority.certificate.read_bytes())
        settings = {
            "tokens_file": write_tokens(files),
            "rest_certificate": server.certificate,
            "rest_key": server.key,
            "rest_client_ca": authority.certificate,
            "member_url": f"https://127.0.0.{number}:8080",
            "member_token_file": self.token_file,
            "member_ca": self.authority,
            "member_certificate": client.certificate,
            "member_key": client.key,
            "longest_lease": 3600,  # the bridge is not played on
        }
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        super().__init__(ovs, directory, number, endpoints, lines)
        self.token = TOKENS["admin"]
        self.tls = ssl.create_default_context(cafile=str(authority.certificate))
        self.tls.load_cert_chain(client.certificate, client.key)

    def has_binding(self) -> bool:
        """Tell whether this member itself holds the binding."""
        return self.call("GET", BINDING, headers=THIS_MEMBER).status == 200


@pytest.fixture
def members(ovs: Ovs, tmp_path: Path) -> Iterator[list[SafeMember]]:
    """Provide two members that know of each other, each told of a home agent by its bridge."""
    authority = Authority(tmp_path)
    with Etcd(tmp_path / "etcd", members=1, ovs=ovs) as etcd:
        one, two = (SafeMember(ovs, tmp_path, number, etcd.endpoints, authority) for number in (1, 2))
        with one, two:
            for each in (one, two):
                each.put(f"/v1/home-agents/{HOME_AGENT}", {"home_prefixes": [HOME_PREFIX], "lease": 3600})
                each.put(f"/v1/home-agents/{HOME_AGENT}/bindings", {"bindings": []})
                wait_for("it knows both", lambda: len(each.get("/v1/cluster")["members"]) == 2)  # noqa: B023
            yield [one, two]
    for each in (one, two):
        each.assert_log_clean()


def test_a_change_passes_by_token_and_certificate_and_without_either_it_is_said_who_lacks_it(
    members: list[SafeMember],
) -> None:
    one, two = members
    assert one.call("POST", "/v1/bindings", binding(FIRST, 1)).status == 201
    assert one.has_binding()
    assert two.has_binding(), "the other member has taken it by the member's token"
    token, authority = one.token_file.read_text(), one.authority.read_bytes()

    one.token_file.write_text("x" * 40)
    refused = one.call("DELETE", BINDING)
    assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (503, ["c2"])
    assert "401" in refused.body["errors"][0]["reason"]
    assert two.has_binding()

    one.token_file.write_text(token)
    stranger = one.authority.parent / "stranger"
    stranger.mkdir()
    one.authority.write_bytes(Authority(stranger).certificate.read_bytes())
    refused = one.call("DELETE", BINDING)
    assert (refused.status, [error["field"] for error in refused.body["errors"]]) == (503, ["c2"])
    assert "CERTIFICATE_VERIFY_FAILED" in refused.body["errors"][0]["reason"]
    assert two.has_binding()

    one.authority.write_bytes(authority)
    assert one.call("DELETE", BINDING).status in (200, 204)
    assert not two.has_binding()
