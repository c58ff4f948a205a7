# SPDX-License-Identifier: Apache-2.0
"""How much one client may ask, under a clock of the test's own."""

import pytest

from controller.access import limits as module
from controller.access.limits import Allowance, Limits, TooManyRequests
from controller.access.log_throttle import MOST_SUBJECTS, LogThrottle
from controller.rest.http.connections import Connection, Connections, TooManyConnections


def test_a_client_has_its_rate_and_others_have_theirs() -> None:
    limits = Limits(Allowance(rate=10, in_flight=100, body_bytes=100))
    for _ in range(10):
        limits.enter("a", 0, now=1000.0)
    with pytest.raises(TooManyRequests, match="10 requests a second") as refused:
        limits.enter("a", 0, now=1000.0)
    assert refused.value.retry_after == pytest.approx(0.1)
    limits.enter("b", 0, now=1000.0)
    limits.enter("a", 0, now=1000.1)
    with pytest.raises(TooManyRequests):
        limits.enter("a", 0, now=1000.1)
    # What it has not used for long does not add up.
    for _ in range(10):
        limits.enter("a", 0, now=2000.0)
    with pytest.raises(TooManyRequests):
        limits.enter("a", 0, now=2000.0)


def test_a_client_has_so_many_requests_and_bytes_under_way() -> None:
    limits = Limits(Allowance(rate=1000, in_flight=3, body_bytes=100))
    limits.enter("a", 90, now=0.0)
    with pytest.raises(TooManyRequests, match="100 bytes of bodies at a time"):
        limits.enter("a", 11, now=0.0)
    limits.enter("a", 10, now=0.0)
    limits.enter("a", 0, now=0.0)
    with pytest.raises(TooManyRequests, match="3 requests at a time"):
        limits.enter("a", 0, now=0.0)
    limits.leave("a", 90)
    limits.enter("a", 90, now=0.0)
    for body in (90, 10, 0):
        limits.leave("a", body)
    limits.enter("a", 1000, now=0.0)  # alone, it is the body's own limit that counts


def test_clients_are_forgotten_but_not_while_they_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CLIENTS", 100)
    limits = Limits(Allowance(rate=1, in_flight=1, body_bytes=0))
    limits.enter("busy", 0, now=0.0)
    for number in range(1000):
        limits.enter(str(number), 0, now=0.0)
        limits.leave(str(number), 0)
    assert len(limits._clients) == 100
    with pytest.raises(TooManyRequests):
        limits.enter("busy", 0, now=10.0)


def test_what_happens_often_is_logged_once_in_a_while() -> None:
    throttle = LogThrottle(60.0)
    assert [throttle.due("a", now) for now in (0.0, 1.0, 59.0, 60.0)] == [0, None, None, 2]
    assert throttle.due("b", 1.0) == 0
    for number in range(2 * MOST_SUBJECTS):
        throttle.due(str(number), 100.0)
    assert len(throttle._logged) <= MOST_SUBJECTS


class Opened:
    """Connections whose ends are recorded."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self.connections = Connections(most, most_of_one)
        self.ended: list[str] = []

    def open(self, address: str) -> Connection:
        connection = self.connections.add(address)

        def end() -> None:
            self.ended.append(address)
            connection.close()

        connection.end = end
        return connection


def test_one_address_has_so_many_connections() -> None:
    opened = Opened(100, 2)
    first = opened.open("a")
    opened.open("a")
    with pytest.raises(TooManyConnections, match="a has 2 connections"):
        opened.open("a")
    opened.open("b")
    first.close()
    opened.open("a")


def test_strangers_make_room_the_oldest_first_and_who_was_let_in_stays() -> None:
    opened = Opened(3, 100)
    opened.open("known").set_admitted()
    opened.open("old")
    opened.open("young")
    opened.open("new")
    assert opened.ended == ["old"]
    opened.open("newer").set_admitted()
    assert opened.ended == ["old", "young"]
    opened.open("newest").set_admitted()
    assert opened.ended == ["old", "young", "new"]
    with pytest.raises(TooManyConnections, match="3 connections are open"):
        opened.open("late")
