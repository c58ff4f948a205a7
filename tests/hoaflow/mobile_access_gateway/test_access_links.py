# SPDX-License-Identifier: Apache-2.0
"""Who is heard on an access link, and whose entry in the kernel's neighbour table only ages."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv6Address

import pytest

from hoaflow.linux import AF_INET6, NDA_DST, RTM_DELNEIGH, RTM_NEWNEIGH
from hoaflow.mobile_access_gateway import access_links
from hoaflow.mobile_access_gateway.access_links import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    Heard,
    Lost,
    Neighbourhood,
    Neighbours,
)
from hoaflow.tunnel.actual_state import NDA_LLADDR, NDMSG
from hoaflow.tunnel.rtnetlink import attribute
from tests.support.waiting import wait_for

MAC, OTHER_MAC = bytes.fromhex("020000000a01"), bytes.fromhex("020000000a02")
LINKS = {7: "a0"}
LINK_LOCAL = "fe80::a"
HEARD = Heard("a0", MAC, LINK_LOCAL)


class Kernel:
    """Reports one entry's states."""

    def __init__(self) -> None:
        self._neighbours = Neighbours()

    def report(
        self, state: int, mac: bytes | None = MAC, kind: int = RTM_NEWNEIGH, index: int = 7, address: str = LINK_LOCAL
    ) -> Heard | Lost | None:
        message = NDMSG.pack(AF_INET6, index, state, 0, 1) + attribute(NDA_DST, IPv6Address(address).packed)
        message += b"" if mac is None else attribute(NDA_LLADDR, mac)
        return self._neighbours.report(kind, message, LINKS)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_a_neighbour_is_heard_when_it_appears_and_when_it_answers(kernel: Kernel) -> None:
    assert kernel.report(NUD_STALE) == HEARD  # it has solicited us
    assert kernel.report(NUD_REACHABLE) == HEARD
    assert kernel.report(NUD_REACHABLE, address="2001:db8:f1:1::a") == Heard("a0", MAC, None)
    assert kernel.report(NUD_STALE, index=8) is None  # no access link


@pytest.mark.parametrize("state", [NUD_STALE, NUD_DELAY, NUD_PROBE])
def test_an_entry_that_ages_tells_nothing(kernel: Kernel, state: int) -> None:
    """A mobile node that has gone to another gateway would be registered back here."""
    kernel.report(NUD_REACHABLE)
    assert kernel.report(state) is None


def test_a_neighbour_is_lost_when_it_does_not_answer_and_heard_when_it_appears_again(kernel: Kernel) -> None:
    kernel.report(NUD_REACHABLE)
    assert kernel.report(NUD_FAILED, mac=None) == Lost("a0", LINK_LOCAL)
    assert kernel.report(NUD_STALE) == HEARD
    assert kernel.report(NUD_STALE, kind=RTM_DELNEIGH) is None  # forgotten by the kernel
    assert kernel.report(NUD_STALE) == HEARD


def test_another_station_with_the_same_address_is_heard(kernel: Kernel) -> None:
    kernel.report(NUD_REACHABLE)
    assert kernel.report(NUD_STALE, mac=OTHER_MAC) == Heard("a0", OTHER_MAC, LINK_LOCAL)


def ip(*commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


@pytest.fixture
def there() -> Iterator[bytes]:
    """Provide an access link `near`, and the MAC address of fe80::b, who is there and answers."""
    settings = "net.ipv6.conf.near.accept_dad=0 net.ipv6.conf.far.accept_dad=0"
    mac = bytes.fromhex("020000000b01")
    ip(f"link add near type veth peer name far address {mac.hex(':')}")
    try:
        subprocess.run(["sysctl", "-qw", *settings.split()], check=True)
        ip("link set far up", "link set near up", "address add fe80::b/64 dev far nodad")
        yield mac
    finally:
        ip("link del near")


def test_after_lost_reports_neighbours_are_asked_and_those_that_age_tell_nothing(
    there: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports are lost when thousands come at once."""
    monkeypatch.setattr(access_links, "QUEUED_BYTES", 1 << 11)
    gone = f"neigh replace {LINK_LOCAL} lladdr {MAC.hex(':')} dev near"
    with closing(Neighbourhood(("near",))) as neighbourhood:
        told: list[Heard | Lost] = []

        def is_told(report: Heard) -> bool:
            told.extend(neighbourhood.reports())
            return report in told

        ip(f"{gone} nud stale")
        assert is_told(Heard("near", MAC, LINK_LOCAL))
        told.clear()
        ip(
            *(f"neigh add 2001:db8::{each:x} lladdr {MAC.hex(':')} dev near nud permanent" for each in range(300)),
            f"neigh replace fe80::b lladdr {there.hex(':')} dev near nud stale",
        )
        told.extend(neighbourhood.reports())
        ip(f"{gone} nud delay")
        wait_for("who is there is heard", lambda: is_told(Heard("near", there, "fe80::b")))
        assert not is_told(Heard("near", MAC, LINK_LOCAL))


def test_all_who_appear_at_once_are_heard_though_reports_are_lost(
    there: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_links, "QUEUED_BYTES", 1 << 16)  # of half of them
    addresses = [f"fe80::{each:x}" for each in range(0x1000, 0x1000 + 300)]
    ip(*(f"address add {each}/64 dev far nodad" for each in addresses))
    with closing(Neighbourhood(("near",))) as neighbourhood:
        ip(*(f"neigh replace {each} lladdr {there.hex(':')} dev near nud stale" for each in addresses))
        heard: set[Heard | Lost] = set()

        def all_heard() -> bool:
            heard.update(neighbourhood.reports())
            return heard >= {Heard("near", there, each) for each in addresses}

        wait_for("all are heard", all_heard)
