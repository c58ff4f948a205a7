# SPDX-License-Identifier: Apache-2.0
"""Which controllers a client calls: those configured, and those that they tell of."""

import logging

import pytest

from hoaflow.client.directory import FORGET, ClusterView, Directory, MemberAddress

A, B, C = (f"http://192.0.2.{n}:8080" for n in (1, 2, 3))
NAME = "http://controllers.example:8080"
URLS = {"a": A, "b": B, "c": C}


def view(member: str, **urls: str) -> ClusterView:
    return ClusterView("hoaflow", member, urls or URLS)


class Client:
    """A client's directory, and what is logged."""

    def __init__(self, *configured: str) -> None:
        self.log: list[tuple[int, str]] = []
        self.directory = Directory(configured, lambda level, event, **fields: self.log.append((level, event)))

    def calls(self) -> list[str]:
        return [str(address) for address in self.directory.addresses()]

    def answered(self, url: str, said: ClusterView, now: float = 0.0, ip: str | None = None) -> None:
        self.directory.answered(MemberAddress(url, ip), said, now)

    def failed(self, url: str) -> None:
        self.directory.failed(MemberAddress(url))


def test_one_address_is_enough_to_find_the_rest() -> None:
    client = Client(A)
    assert client.calls() == [A]
    client.answered(A, view("a"))
    assert client.calls() == [A, B, C]


def test_a_controller_that_is_alone_or_of_version_0_1_stays_the_only_one() -> None:
    client = Client(A)
    client.answered(A, ClusterView())
    assert client.calls() == [A]


def test_a_member_is_called_once_though_it_is_configured_and_told_of_by_another_address() -> None:
    client = Client(A)
    client.answered(A, view("a", a=B))
    assert client.calls() == [A, B], "it may not answer at the URL that it tells"
    client.answered(B, view("a", a=B))
    assert client.calls() == [B]
    client.failed(B)
    assert client.calls() == [A]
    client.failed(A)
    assert client.calls() == [A], "none of its addresses answers, so the configured one it is"


def test_a_member_that_does_not_answer_where_it_says_is_called_where_it_does() -> None:
    client = Client(A)
    client.answered(A, view("a", a=B))
    client.failed(B)
    assert client.calls() == [A]


def test_a_balancer_leads_to_the_members_behind_it() -> None:
    client = Client(NAME)
    client.directory.resolved({NAME: ["192.0.2.9"]}, 0.0)
    client.answered(NAME, view("b"))
    for member, url in URLS.items():
        client.answered(url, view(member))
    assert client.calls() == [A, B, C]
    client.failed(B)
    assert client.calls() == [NAME, A, C]
    client.answered(NAME, view("c"))
    assert client.calls() == [A, B, C], "B is called where it said, until it is back or dropped"


def test_a_dead_configured_controller_does_not_keep_others_from_being_found() -> None:
    client = Client(A, B)
    client.answered(A, view("a", a=A, c=C))
    client.failed(B)
    assert client.calls() == [A, B, C]


def test_a_member_that_nobody_tells_of_and_that_does_not_answer_is_dropped_after_a_while() -> None:
    client = Client(A)
    client.answered(A, view("a"))
    client.answered(C, view("c"))
    client.failed(B)
    client.answered(A, view("a", a=A), FORGET)
    assert client.calls() == [A, B, C]
    client.answered(A, view("a", a=A), FORGET + 1)
    assert client.calls() == [A, C], "C answers by itself"
    client.failed(C)
    client.answered(A, view("a", a=A), FORGET + 2)
    assert client.calls() == [A]
    assert [event for _, event in client.log] == ["member-found"] * 2 + ["member-dropped"] * 2


def test_nobody_is_dropped_while_nobody_answers_nor_a_configured_one_ever() -> None:
    client = Client(A, B)
    client.answered(A, view("a"))
    for url in (A, B, C):
        client.failed(url)
    assert client.calls() == [A, B, C]
    client.answered(C, view("c", c=C), 10 * FORGET)
    assert client.calls() == [A, B, C]


def test_a_name_with_several_addresses_stands_for_several() -> None:
    client = Client(NAME)
    assert client.calls() == []
    client.directory.resolved({NAME: ["192.0.2.1", "192.0.2.2"]}, 0.0)
    assert client.calls() == [A, B]
    client.answered(NAME, view("a", a="http://a.example", b="http://b.example"), ip="192.0.2.1")
    client.answered(NAME, view("b", a="http://a.example", b="http://b.example"), ip="192.0.2.2")
    own = ["http://a.example", "http://b.example"]
    assert set(client.calls()) == {A, B, *own}
    for url in own:
        client.failed(url)
    assert client.calls() == [A, B]
    client.directory.resolved({NAME: []}, FORGET + 1)
    assert client.calls() == [A, B], "the resolver's failure says nothing of them"
    client.directory.failed(MemberAddress(NAME, "192.0.2.1"))
    client.directory.resolved({NAME: ["192.0.2.2"]}, 2 * FORGET + 2)
    assert client.calls() == [B]


@pytest.mark.parametrize("ips", [[], ["192.0.2.1"], ["2001:db8::1", "192.0.2.1"]], ids=["none", "one", "one of each"])
def test_a_name_with_one_address_is_left_to_the_connection(ips: list[str]) -> None:
    client = Client(NAME)
    client.directory.resolved({NAME: ips}, 0.0)
    assert client.calls() == [NAME]


def test_members_are_not_called_in_clear_where_the_configured_ones_are_encrypted() -> None:
    client = Client("https://192.0.2.1:8443")
    for _ in range(2):
        client.answered("https://192.0.2.1:8443", view("a", b=B, c="https://192.0.2.3:8443"))
    assert client.calls() == ["https://192.0.2.1:8443", "https://192.0.2.3:8443"]
    assert client.log == [(logging.WARNING, "member-in-clear"), (logging.INFO, "member-found")]


def test_what_a_dropped_member_says_later_is_ignored() -> None:
    client = Client(A)
    client.answered(B, view("b"))
    assert client.calls() == [A]


def test_addresses_as_text() -> None:
    assert str(MemberAddress("https://name:8443/below", "2001:db8::1")) == "https://[2001:db8::1]:8443/below"
    assert str(MemberAddress("http://name", "192.0.2.1")) == "http://192.0.2.1"
