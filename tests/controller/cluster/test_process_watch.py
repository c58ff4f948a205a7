# SPDX-License-Identifier: Apache-2.0
"""A process that has ended is noticed at once, by what its kernel refuses; other refusals do no harm."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Member
from tests.support.etcd import Etcd
from tests.support.ovs import Ovs
from tests.support.played_cluster import connect
from tests.support.waiting import wait_for

SETTINGS = "member_lease = 12"  # seconds; a third of it passes until etcd has which switches a member reaches
ROUTER = f"{1:016x}"


@pytest.fixture
def members(ovs: Ovs, tmp_path: Path) -> Iterator[list[Member]]:
    """Provide two controllers, each to be started, and their etcd; a switch is connected to both."""
    ovs.add_bridge("br1", 1)
    with Etcd(tmp_path / "etcd", members=1, ovs=ovs) as etcd, contextlib.ExitStack() as ending:
        made = [Member(ovs, tmp_path, number, etcd.endpoints, SETTINGS) for number in (1, 2)]
        for member in made:
            ending.callback(member.kill)
        connect(ovs, "br1", *(member.openflow for member in made))
        yield made
    for member in made:
        member.assert_log_clean()


def master(member: Member) -> str | None:
    """Return the router's master by a member's word."""
    return {each["dpid"]: each["master"] for each in member.get("/v1/cluster")["routers"]}.get(ROUTER)


def nft(ovs: Ovs, rules: str) -> None:
    """Have the namespace's firewall do something."""
    ovs.run("nft", rules)


def test_the_routers_of_a_killed_member_do_not_wait_for_its_lease(members: list[Member]) -> None:
    first, second = members
    first.start()
    wait_for("it is master", lambda: master(first) == "c1")
    second.start()
    wait_for("it watches the other", lambda: second.events("member-watched"))
    first.kill()
    wait_for("the other is master", lambda: master(second) == "c2")
    assert len(second.events("member-gone")) == 1
    first.start()
    wait_for("it is watched again", lambda: len(second.events("member-watched")) == 2)


def test_a_member_that_lives_and_is_refused_by_a_firewall_is_believed_to_be_gone_once(
    ovs: Ovs, members: list[Member]
) -> None:
    first, second = members
    first.start()
    wait_for("it is master", lambda: master(first) == "c1")
    second.start()
    wait_for("it watches the other", lambda: second.events("member-watched"))
    reset = f"ip daddr {first.address} tcp dport 8080 reject with tcp reset"
    nft(ovs, f"add table ip t; add chain ip t c {{ type filter hook input priority 0; }}; add rule ip t c {reset}")
    wait_for("it is found to live", lambda: second.events("member-not-gone"))
    wait_for("it has noticed", lambda: first.events("lease-lost"))
    wait_for("the router has a master", lambda: master(second) is not None)
    nft(ovs, "delete table ip t")
    assert len(second.events("member-gone")) == 1
    assert not [*first.events("router-taken-by-stranger"), *second.events("router-taken-by-stranger")]


def test_behind_translated_addresses_nobody_is_watched(ovs: Ovs, members: list[Member]) -> None:
    first, second = members
    elsewhere = "127.0.0.9"
    first.say_url(f"http://{elsewhere}:8080")
    translation = f"ip daddr {elsewhere} tcp dport 8080 dnat to {first.address}"
    nft(ovs, f"add table ip t; add chain ip t c {{ type nat hook output priority 0; }}; add rule ip t c {translation}")
    for member in members:
        member.start()
    wait_for("it says so", lambda: second.events("member-not-watched"))
    assert not second.events("member-watched")
