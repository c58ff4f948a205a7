# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with etcd, a controller starts and goes on, and says what is wrong."""

import shutil
from pathlib import Path

import pytest
import requests

from hoaflow.etcd import EtcdClient, EtcdRefused
from hoaflow.etcd.messages import put
from tests.support.cluster import Member
from tests.support.etcd import Etcd
from tests.support.ovs import Ovs
from tests.support.pki import Authority
from tests.support.played_cluster import connect
from tests.support.waiting import wait_for

QUOTA = 256 * 1024  # octets


def masters(member: Member) -> dict[str, str]:
    return {each["dpid"]: each["master"] for each in member.get("/v1/cluster")["routers"]}


def test_a_controller_without_etcd_says_so_and_joins_when_it_is_there(ovs: Ovs, tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd", members=1, ovs=ovs)
    ovs.add_bridge("br1", 1)
    with Member(ovs, tmp_path, 1, etcd.endpoints) as member:
        (said,) = wait_for("it says so", lambda: member.events("etcd-unreachable"))
        assert "23790" in said
        assert "ECONNREFUSED" in said
        connect(ovs, "br1", member.openflow)
        with etcd:
            wait_for("it is master", lambda: masters(member) == {f"{1:016x}": "c1"})
            assert member.events("etcd-reachable")
    member.assert_log_clean()


def test_members_of_an_etcd_that_comes_back_empty_have_not_left(ovs: Ovs, tmp_path: Path) -> None:
    ovs.add_bridge("br1", 1)
    with Etcd(tmp_path / "etcd", members=1, ovs=ovs) as etcd, Member(ovs, tmp_path, 1, etcd.endpoints) as member:
        connect(ovs, "br1", member.openflow)
        wait_for("it is master", lambda: masters(member) == {f"{1:016x}": "c1"})
        etcd.kill(0)
        shutil.rmtree(tmp_path / "etcd" / "etcd0")
        etcd.start(0)
        wait_for("it joins again", lambda: len(member.events("member-joined")) == 2, 60)
        wait_for("it is master", lambda: masters(member) == {f"{1:016x}": "c1"})
        (said,) = member.events("lease-lost")
        assert "or has lost its data" in said
        assert not member.events("member-left")
    member.assert_log_clean()


def test_a_second_process_with_a_name_is_not_ready_and_shows_itself(ovs: Ovs, tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd", members=1, ovs=ovs) as etcd, Member(ovs, tmp_path, 1, etcd.endpoints) as first:
        wait_for("it has its name", lambda: first.events("member-joined"))
        with Member(ovs, tmp_path, 2, etcd.endpoints, "member = c1") as second:
            wait_for("it says so", lambda: second.events("member-name-taken"))
            refused = second.call("GET", "/readyz").body
            assert {"field": "member", "reason": "another controller of the cluster has the name c1"} in refused[
                "errors"
            ]
            assert [each["url"] for each in second.get("/v1/cluster")["members"]] == ["http://127.0.0.2:8080"]
            assert "the name c1" not in str(first.call("GET", "/readyz").body)
            first.kill()
            wait_for("it has the name", lambda: "the name c1" not in str(second.call("GET", "/readyz").body))
        second.assert_log_clean()
    first.assert_log_clean()


def test_what_is_not_etcd_is_told_from_it(ovs: Ovs, tmp_path: Path) -> None:
    with Member(ovs, tmp_path, 1, ["http://127.0.0.1:8080"]) as member:  # its own REST API
        (said,) = wait_for("it says so", lambda: member.events("etcd-unreachable"))
        assert "expected an answer of etcd's JSON gateway" in said
        assert member.get("/v1/cluster")["etcd"]["reachable"] is False
    member.assert_log_clean()


def test_a_stranger_is_not_taken_for_etcd(ovs: Ovs, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path / "stranger")
    own = authority.etcd("etcd", "127.0.0.1")
    options = [f"--cert-file={own.certificate}", f"--key-file={own.key}"]
    with Etcd(tmp_path / "etcd", members=1, options=options, ovs=ovs, scheme="https") as etcd:
        settings = f"etcd_ca = {stranger.certificate}"
        with Member(ovs, tmp_path, 1, etcd.endpoints, settings) as member:
            (said,) = wait_for("it says so", lambda: member.events("etcd-unreachable"))
            assert "CERTIFICATE_VERIFY_FAILED" in said
        member.assert_log_clean()


def test_a_full_etcd_keeps_masters_and_is_said_to_be_full(ovs: Ovs, tmp_path: Path) -> None:
    for dpid in (1, 2):
        ovs.add_bridge(f"br{dpid}", dpid)
    options = [f"--quota-backend-bytes={QUOTA}"]
    with (
        Etcd(tmp_path / "etcd", members=1, options=options, ovs=ovs) as etcd,
        Member(ovs, tmp_path, 1, etcd.endpoints) as member,
    ):
        connect(ovs, "br1", member.openflow)
        wait_for("it is master", lambda: masters(member) == {f"{1:016x}": "c1"})
        with ovs.inside(), EtcdClient(etcd.endpoints) as client, pytest.raises(EtcdRefused):
            fill(client)
        connect(ovs, "br2", member.openflow)
        (said,) = wait_for("it says so", lambda: member.events("etcd-unreachable"))
        assert "database space exceeded" in said
        assert "compact" in said
        assert masters(member) == {f"{1:016x}": "c1"}
        assert member.get("/v1/routers/1")["connected"] is True
        with ovs.inside():
            make_room(etcd.endpoints[0])
        wait_for("it is master of both", lambda: len(masters(member)) == 2)
    member.assert_log_clean()


def fill(client: EtcdClient) -> None:
    for number in range(1000):
        client.transact([], [put(f"/a/{number}", "x" * 10_000)])


def make_room(endpoint: str) -> None:
    """Do what an administrator does."""

    def ask(path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        answer = requests.post(f"{endpoint}/v3/{path}", json=body, timeout=60)
        answer.raise_for_status()
        found: dict[str, dict[str, str]] = answer.json()
        return found

    deleted = ask("kv/deleterange", {"key": "L2Ev", "range_end": "L2Ew"})  # /a/
    ask("kv/compaction", {"revision": deleted["header"]["revision"]})
    ask("maintenance/defragment", {})
    ask("maintenance/alarm", {"action": "DEACTIVATE", "memberID": deleted["header"]["member_id"], "alarm": "NOSPACE"})
