# SPDX-License-Identifier: Apache-2.0
"""The checks of RFC 5944 §3.7 and RFC 3024 §4, one by one, and the lists' bounds and lifetimes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hoaflow.foreign_agent import visitors as lists
from hoaflow.foreign_agent.checks import Policy, ReverseTunnels, Station, Visit
from hoaflow.foreign_agent.visitors import (
    PENDING_SECONDS,
    Action,
    Deliver,
    Deny,
    Discard,
    Forget,
    Relay,
    Serve,
    Visitors,
)
from hoaflow.mobile_ipv4.messages import FOREVER, FRACTION, Authentication, Code, Flag, RegistrationReply
from hoaflow.mobile_ipv4.messages import RegistrationRequest as Request

HOA, OTHER_HOA, HA, COA, CN = "10.99.0.100", "10.99.0.101", "10.99.0.1", "10.2.0.10", "10.1.0.2"
LINK = "eth1"
STATION, NEIGHBOUR = Station(LINK, b"\x02\0\0\0\0\x01"), Station(LINK, b"\x02\0\0\0\0\x02")
AUTHENTICATION = Authentication(256, b"covered", b"authenticator")
POLICY = Policy(COA, 300, 2, ReverseTunnels.OFFERED)
ID = 7 * FRACTION + 5
D, T, NONE = Flag.DECAPSULATION, Flag.REVERSE_TUNNEL, Flag(0)


def visit(station: Station = STATION, ttl: int = 255, **facts: Any) -> Visit:
    """Return a request by the foreign agent for 60 s with a reverse tunnel, but for these facts."""
    request = Request(HOA, 434, HOA, HA, COA, 60, ID, T, AUTHENTICATION)
    return Visit(replace(request, **facts), station, "10.2.0.1", ttl)


def reply(code: int = 0, lifetime: int = 60, **facts: Any) -> RegistrationReply:
    answer = RegistrationReply(code, lifetime, HOA, HA, ID, AUTHENTICATION)
    return replace(answer, **facts)


def kinds(actions: list[Action]) -> list[type]:
    return [type(action) for action in actions]


def registered(visitors: Visitors, **facts: Any) -> None:
    """Have a visitor accepted."""
    asked = visit(**facts)
    assert kinds(visitors.request(asked, 0.0)) == [Relay]
    request = asked.request
    answer = reply(home_address=request.home_address, identification=request.identification, lifetime=request.lifetime)
    assert kinds(visitors.replied(answer, HA, 0.0)) == [Serve, Deliver]


# What is asked, and the code with which the foreign agent itself refuses it; None: it relays the request.
REQUESTS: dict[str, tuple[dict[str, Any], Code | None]] = {
    "for our care-of address": ({}, None),
    "without a reverse tunnel": ({"flags": NONE, "ttl": 64}, None),
    "co-located": ({"care_of_address": "10.2.0.77", "flags": D | T, "ttl": 64}, None),
    "deregistration": ({"lifetime": 0}, None),
    "deregistration of an address elsewhere": ({"lifetime": 0, "care_of_address": "10.3.0.10"}, None),
    "with simultaneous bindings and broadcasts": ({"flags": T | Flag.SIMULTANEOUS | Flag.BROADCASTS}, None),
    "a reserved bit": ({"flags": Flag(0x04)}, Code.POORLY_FORMED_REQUEST),
    "the other reserved bit": ({"flags": Flag(0x01)}, Code.POORLY_FORMED_REQUEST),
    "without authentication": ({"authentication": None}, Code.POORLY_FORMED_REQUEST),
    "without a home address": ({"home_address": "0.0.0.0"}, Code.POORLY_FORMED_REQUEST),
    "our address as home address": ({"home_address": COA}, Code.POORLY_FORMED_REQUEST),
    "no home agent": ({"home_agent": "255.255.255.255"}, Code.INVALID_HOME_AGENT),
    "us as home agent": ({"home_agent": COA}, Code.INVALID_HOME_AGENT),
    "itself as home agent": ({"home_agent": HOA}, Code.INVALID_HOME_AGENT),
    "nobody's care-of address": ({"care_of_address": "10.2.0.77"}, Code.INVALID_CARE_OF_ADDRESS),
    "ours as its own": ({"flags": D}, Code.INVALID_CARE_OF_ADDRESS),
    "too long": ({"lifetime": 301}, Code.LIFETIME_TOO_LONG),
    "for ever": ({"lifetime": FOREVER}, Code.LIFETIME_TOO_LONG),
    "minimal encapsulation": ({"flags": Flag.MINIMAL}, Code.FOREIGN_AGENT_ENCAPSULATION_UNAVAILABLE),
    "GRE": ({"flags": Flag.GRE}, Code.FOREIGN_AGENT_ENCAPSULATION_UNAVAILABLE),
    "from afar": ({"ttl": 254}, Code.MOBILE_NODE_TOO_DISTANT),
    "encapsulating delivery": ({"encapsulating_delivery": True}, Code.DELIVERY_STYLE_UNSUPPORTED),
}


@pytest.mark.parametrize(("facts", "code"), REQUESTS.values(), ids=REQUESTS)
def test_each_request_is_relayed_or_refused_with_its_code(facts: dict[str, Any], code: Code | None) -> None:
    (action,) = Visitors(POLICY).request(visit(**facts), 0.0)
    asked = visit(**facts)
    longest = 300 if code is Code.LIFETIME_TOO_LONG else 0
    assert action == (Relay(asked) if code is None else Deny(asked, code, longest))


@pytest.mark.parametrize(
    ("tunnels", "flags", "code"),
    [
        (ReverseTunnels.UNAVAILABLE, T, Code.REVERSE_TUNNEL_UNAVAILABLE),
        (ReverseTunnels.UNAVAILABLE, NONE, None),
        (ReverseTunnels.REQUIRED, NONE, Code.REVERSE_TUNNEL_MANDATORY),
        (ReverseTunnels.REQUIRED, T, None),
    ],
)
def test_reverse_tunnels_may_be_required_or_unavailable(
    tunnels: ReverseTunnels, flags: Flag, code: Code | None
) -> None:
    asked = visit(flags=flags)
    (action,) = Visitors(replace(POLICY, reverse_tunnels=tunnels)).request(asked, 0.0)
    assert action == (Relay(asked) if code is None else Deny(asked, code))


def test_a_visitor_is_served_for_what_the_home_agent_grants_and_no_longer_than_it_asked_for() -> None:
    visitors = Visitors(POLICY)
    for granted, lifetime in ((600, 60), (20, 20)):
        asked = visit()
        visitors.request(asked, 0.0)
        answer = reply(lifetime=granted)
        serve, deliver = visitors.replied(answer, HA, 1.0)
        assert isinstance(serve, Serve)
        assert (serve.visitor.lifetime, serve.visitor.due) == (lifetime, 1.0 + lifetime)
        assert deliver == Deliver(asked, answer)
    assert visitors.tick(20.9) == []
    (forget,) = visitors.tick(21.0)
    assert isinstance(forget, Forget)
    assert kinds(visitors.tick(22.0)) == [Forget]  # the kernel has refused
    visitors.forgotten(HOA)
    assert (len(visitors), visitors.tick(100.0)) == (0, [])


# What is no answer to the pending request, and what comes of it.
REPLIES: dict[str, tuple[dict[str, Any], str, list[type]]] = {
    "its upper half is the home agent's": ({"identification": 9 * FRACTION + 5}, HA, [Serve, Deliver]),
    "another identification": ({"identification": ID + 1}, HA, [Discard]),
    "another mobile node": ({"home_address": OTHER_HOA}, HA, [Discard]),
    "of another home agent": ({"home_agent": CN}, HA, [Discard]),
    "from another address": ({}, CN, [Discard]),
    "refused": ({"code": 133}, HA, [Deliver]),
    "without authentication": ({"authentication": None}, HA, [Deny]),
    "granted for no time": ({"lifetime": 0}, HA, [Deliver]),
}


@pytest.mark.parametrize(("facts", "source", "expected"), REPLIES.values(), ids=REPLIES)
def test_each_reply_is_checked(facts: dict[str, Any], source: str, expected: list[type]) -> None:
    visitors = Visitors(POLICY)
    visitors.request(visit(), 0.0)
    actions = visitors.replied(reply(**facts), source, 1.0)
    assert kinds(actions) == expected
    if expected == [Deny]:
        assert actions == [Deny(visit(), Code.POORLY_FORMED_REPLY)]
    still = expected == [Discard]
    assert kinds(visitors.replied(reply(), HA, 1.0)) == ([Serve, Deliver] if still else [Discard])


def test_a_malformed_reply_an_error_and_silence_end_what_is_pending() -> None:
    for code in (Code.POORLY_FORMED_REPLY, Code.HOME_AGENT_PORT_UNREACHABLE, Code.REGISTRATION_TIMEOUT):
        visitors = Visitors(POLICY)
        visitors.request(visit(), 0.0)
        if code is Code.POORLY_FORMED_REPLY:
            assert kinds(visitors.malformed(reply(), CN)) == [Discard]
            actions = visitors.malformed(reply(), HA)
        elif code is Code.REGISTRATION_TIMEOUT:
            assert visitors.tick(PENDING_SECONDS - 0.1) == []
            actions = visitors.tick(PENDING_SECONDS)
        else:
            assert kinds(visitors.unreachable(visit(identification=ID + 1).request, code)) == [Discard]
            actions = visitors.unreachable(visit().request, code)
        assert actions == [Deny(visit(), code)]
        assert kinds(visitors.replied(reply(), HA, 1.0)) == [Discard]


def test_a_refusal_leaves_the_visitor_and_deregistration_or_an_address_of_its_own_ends_it() -> None:
    visitors = Visitors(POLICY)
    registered(visitors)
    visitors.request(visit(identification=ID + 1, lifetime=0, care_of_address="10.3.0.10"), 1.0)
    assert kinds(visitors.replied(reply(identification=ID + 1, lifetime=0), HA, 1.0)) == [Deliver]
    ends: tuple[dict[str, Any], ...] = ({"lifetime": 0}, {"care_of_address": "10.2.0.77", "flags": D})
    for facts in ends:
        visitors = Visitors(POLICY)
        registered(visitors)
        visitors.request(visit(identification=ID + 1), 1.0)
        assert kinds(visitors.replied(reply(133, identification=ID + 1), HA, 1.0)) == [Deliver]
        assert visitors.get(HOA) is not None
        visitors.request(visit(identification=ID + 2, **facts), 2.0)
        answer = reply(identification=ID + 2, lifetime=facts.get("lifetime", 60))
        assert kinds(visitors.replied(answer, HA, 2.0)) == [Forget, Deliver]


def test_a_neighbour_that_repeats_a_pending_request_does_not_get_its_reply() -> None:
    visitors = Visitors(POLICY)
    visitors.request(visit(), 0.0)
    assert kinds(visitors.request(visit(station=NEIGHBOUR), 0.1)) == [Discard]
    serve, _ = visitors.replied(reply(), HA, 0.2)
    assert isinstance(serve, Serve)
    assert serve.visitor.station == STATION


def test_the_lists_are_bounded_and_those_that_are_there_may_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    visitors = Visitors(POLICY)
    registered(visitors)
    assert not visitors.full
    registered(visitors, home_address=OTHER_HOA)
    assert visitors.full
    third = visit(home_address="10.99.0.102")
    assert visitors.request(third, 1.0) == [Deny(third, Code.FOREIGN_AGENT_FULL)]
    assert kinds(visitors.request(visit(identification=ID + 1), 1.0)) == [Relay]
    monkeypatch.setattr(lists, "MOST_PENDING", 1)
    few = Visitors(POLICY)
    few.request(visit(), 0.0)
    assert kinds(few.request(visit(home_address=OTHER_HOA), 0.0)) == [Deny]
