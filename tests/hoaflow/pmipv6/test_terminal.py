# SPDX-License-Identifier: Apache-2.0
"""The console against what OAI PMIPv6's showed, byte for byte."""

from hoaflow.mobility.terminal_server import Session
from hoaflow.pmipv6.terminal import ACCESS_GATEWAY, ANCHOR, render
from tests.support.proxy_mobility import ADDRESS, DATA


def shown(role: str, peer: str, local: str, left: float, lifetime: int) -> bytes:
    """Return what a client sees that asks for the only entry."""
    session = Session(
        {"pmip": lambda _, fancy: iter([render(ADDRESS, True, role, peer, local, left, lifetime, 1, fancy)])}
    )
    return (session.greeting() + "".join(session.answer("pmip"))).encode()


def test_an_anchors_entries_look_as_oais() -> None:
    captured = (DATA / "vt-lma-reg1.bin").read_bytes()
    assert shown(ACCESS_GATEWAY, "2001:100::2", "2001:100::1", 37.9, 40) == captured


def test_a_gateways_entries_look_as_oais() -> None:
    captured = (DATA / "vt-mag1-reg1.bin").read_bytes()
    assert shown(ANCHOR, "2001:100::1", "2001:100::2", 11.2, 32) == captured


def test_an_entry_that_is_not_registered_does_not_say_so() -> None:
    assert " status TEMP\n" in render(ADDRESS, False, ACCESS_GATEWAY, "::1", "::1", -3.0, 40, 1, fancy=False)
    assert " lifetime 0 / 40 " in render(ADDRESS, False, ACCESS_GATEWAY, "::1", "::1", -3.0, 40, 1, fancy=False)
