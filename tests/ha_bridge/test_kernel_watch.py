# SPDX-License-Identifier: Apache-2.0
"""What the kernel shows: recorded tunnel events as netlink messages, and live ones in a network namespace."""

import socket
import struct
import subprocess

import pytest

from ha_bridge import kernel_watch
from ha_bridge.ipsec_policies import messages
from ha_bridge.kernel_view import KernelView
from ha_bridge.kernel_watch import CHUNK, RTMGRP_IPV6_ROUTE, multicast_socket, read_view
from ha_bridge.model import Reading, ReadingFailed
from ha_bridge.process_sockets import RAW_SOCKETS, mobility_header_sockets
from ha_bridge.sources import KernelSource
from hoaflow.linux import RTM_DELROUTE
from tests.support.bridge import DATA, HOA, HOME_AGENT, LINK_1, LINK_2
from tests.support.bridge_kernel import NETNS, PREFIXES, Watched, ip, register, within
from tests.support.kernel_events import link_message, recorded, route_message


def story(name: str) -> list[dict[str, str]]:
    """Return what the kernel view shows in the course of a recorded run: each state once."""
    view = KernelView(HOME_AGENT, PREFIXES)
    states: list[dict[str, str]] = [{}]
    for _stamp, message in recorded(DATA / name):
        view.apply(message)
        state = {binding.home_address: binding.care_of_address for binding in view.bindings()}
        if state != states[-1]:
            states.append(state)
    return states


def test_recorded_run() -> None:
    first, second = "2001:db8:2:0:f4a9:63ff:fe44:404e", "2001:db8:3:0:945f:28ff:fe6e:2f82"
    assert story("mipv6/monitor-link-route.txt") == [{}, {HOA: first}, {HOA: second}, {}, {HOA: first}, {}]


def test_recorded_run_with_mobile_network_prefixes() -> None:
    first, second = "2001:db8:2:0:4cd1:4fff:fe22:ae63", "2001:db8:3:0:2499:89ff:fe79:3678"
    homes = ("2001:db8:aa:1::/64", "2001:db8:aa:2::/64", HOA)
    states = story("nemo/monitor-link-route.txt")
    whole = [state for state in states if len(state) in (0, 3)]
    assert whole == [{}, dict.fromkeys(homes, first), dict.fromkeys(homes, second), {}, dict.fromkeys(homes, first), {}]
    assert states.index(whole[2]) == states.index(whole[1]) + 1, "the handover is one event"
    assert states[states.index(whole[2]) + 1] == {}, "so is the return home"


def test_several_home_addresses_behind_one_care_of_address() -> None:
    view = KernelView(HOME_AGENT, PREFIXES)
    view.apply(link_message(7, HOME_AGENT, LINK_1, gone=False))
    for home in ("2001:db8:99::100", "2001:db8:99::200"):
        view.apply(route_message(home, 254, 16, 192, 7, None, gone=False))
    assert [binding.care_of_address for binding in view.bindings()] == [LINK_1, LINK_1]


def test_what_is_none_of_ours_is_left_alone() -> None:
    view = KernelView(HOME_AGENT, PREFIXES)
    assert not view.apply(link_message(7, "2001:db8:77::1", LINK_1, gone=False))
    view.apply(link_message(8, HOME_AGENT, LINK_1, gone=False))
    view.apply(route_message(HOA, 254, 16, 192, 7, None, gone=False))
    assert not view.apply(route_message("2001:db8:99::200", 254, 3, 192, 8, None, gone=False))
    view.apply(route_message("2001:db8:55::1", 254, 16, 192, 8, None, gone=False))
    assert view.bindings() == []


def test_tunnel_whose_device_is_gone_is_gone() -> None:
    view = KernelView(HOME_AGENT, PREFIXES)
    view.apply(link_message(7, HOME_AGENT, LINK_1, gone=False))
    view.apply(route_message(HOA, 254, 16, 192, 7, None, gone=False))
    assert view.apply(link_message(7, HOME_AGENT, LINK_1, gone=True))
    assert view.bindings() == []


def test_route_for_packets_from_the_home_agent_itself_says_nothing_of_a_tunnel() -> None:
    view = KernelView(HOME_AGENT, PREFIXES)
    view.apply(link_message(7, HOME_AGENT, LINK_1, gone=False))
    view.apply(route_message(HOA, 252, 16, 192, 7, None, gone=False))
    for gone in (False, True):
        view.apply(route_message(HOA, 252, 16, 192, 4, HOME_AGENT, gone))
        assert [binding.care_of_address for binding in view.bindings()] == [LINK_1]


@pytest.mark.usefixtures("namespace")
def test_live_registration_handover_and_removal() -> None:
    register("2001:db8:99::77", LINK_1)
    watched = Watched().start()
    assert watched.care_of() == {"2001:db8:99::77": LINK_1}, "what was there before"
    register(HOA, LINK_1)
    watched.until(lambda: watched.care_of().get(HOA) == LINK_1)
    register(HOA, LINK_2)
    watched.until(lambda: watched.care_of().get(HOA) == LINK_2)
    ip("-6", "route", "del", f"{HOA}/128", "proto", "16")
    watched.until(lambda: HOA not in watched.care_of())


@pytest.mark.usefixtures("namespace")
def test_live_ipv4_home_address() -> None:
    watched = Watched().start()
    encapsulated = f"10.99.0.100/32 encap seg6 mode encap.red segs {LINK_1} dev u0 proto 16"
    ip("-4", "route", "add", *encapsulated.split())
    watched.until(lambda: watched.care_of() == {"10.99.0.100": LINK_1})
    assert within(watched.watch.confirmed) == {"10.99.0.100": LINK_1}
    ip("-4", "route", "del", "10.99.0.100/32", "proto", "16")
    watched.until(lambda: watched.care_of() == {})


@pytest.mark.usefixtures("namespace")
def test_other_routes_and_links_are_no_trigger() -> None:
    watched = Watched(keep_view=False).start()
    ip("-6", "route", "add", "2001:db8:5::/64", "via", "2001:db8:10::1", "dev", "u0")
    ip("link", "set", "u0", "mtu", "1400")
    register(HOA, LINK_1)
    watched.until(lambda: watched.changes)
    assert watched.changes == 1
    assert within(watched.watch.confirmed) == {HOA: LINK_1}


@pytest.mark.usefixtures("namespace")
def test_overrun_is_followed_by_reading_everything_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel_watch, "RECEIVE_BUFFER", 2048)
    watched = Watched()
    homes = [f"2001:db8:99::{n:x}" for n in range(256, 756)]
    encap = f"encap seg6 mode encap.red segs {LINK_1} via 2001:db8:10::1 dev u0 proto 16"
    batch = "".join(f"route add {home}/128 {encap}\n" for home in homes)
    subprocess.run(["ip", "-n", NETNS, "-6", "-batch", "-"], input=batch, text=True, check=True, timeout=120)
    assert watched.care_of() == {}, "nobody has read the events yet: the socket has overrun"
    watched.start()
    watched.until(lambda: watched.care_of() == dict.fromkeys(homes, LINK_1))
    assert "event=netlink-overrun" in caplog.text


@pytest.mark.usefixtures("namespace")
def test_only_the_kernel_is_heard() -> None:
    watched = Watched().start()
    with within(lambda: multicast_socket(socket.NETLINK_ROUTE, RTMGRP_IPV6_ROUTE)) as other:
        register(HOA, LINK_1)
        watched.until(lambda: watched.care_of().get(HOA) == LINK_1)
        removal = bytearray(other.recv(CHUNK))
        struct.pack_into("=H", removal, 4, RTM_DELROUTE)
        other.sendto(removal, (watched.watch._rtnl.getsockname()[0], 0))
    register("2001:db8:99::77", LINK_1)
    watched.until(lambda: "2001:db8:99::77" in watched.care_of())
    assert watched.care_of() == {HOA: LINK_1, "2001:db8:99::77": LINK_1}


@pytest.mark.usefixtures("namespace")
def test_two_segments_are_no_tunnel_of_a_home_agent() -> None:
    segments = f"{LINK_1},{LINK_2}"
    ip(
        "-6",
        "route",
        "add",
        f"{HOA}/128",
        "encap",
        "seg6",
        "mode",
        "encap",
        "segs",
        segments,
        "dev",
        "u0",
        "proto",
        "16",
    )
    assert within(lambda: read_view(HOME_AGENT, PREFIXES)).bindings() == []


@pytest.mark.usefixtures("namespace")
def test_home_agent_without_terminal_is_down_when_nobody_receives_mobility_headers_any_more() -> None:
    watched = Watched()
    source = KernelSource(watched.watch, listening=lambda: within(lambda: mobility_header_sockets(THREAD_SOCKETS)))
    assert isinstance(source.read(), Reading), "never seen: taken as running"
    with within(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 135)):
        assert isinstance(source.read(), Reading)
    failed = source.read()
    assert isinstance(failed, ReadingFailed)
    assert failed.down


@pytest.mark.usefixtures("namespace")
def test_routes_that_go_with_their_home_agents_process_are_frozen_until_it_is_back() -> None:
    """On SIGTERM UMIP removes its routes while it still has its sockets."""
    watched = Watched().start()
    register(HOA, LINK_1)
    watched.until(lambda: watched.care_of() == {HOA: LINK_1})
    process = [frozenset({1})]

    def ends(_seconds: float) -> None:
        process[0] = frozenset()

    source = KernelSource(watched.watch, listening=lambda: process[0], pause=ends)
    assert isinstance(source.read(), Reading)
    ip("route", "del", f"{HOA}/128", "proto", "16")
    watched.until(lambda: not watched.care_of())
    failed = source.read()
    assert isinstance(failed, ReadingFailed)
    assert failed.down
    process[0] = frozenset({2})
    back = source.read()
    assert isinstance(back, Reading)
    assert [(binding.home_address, binding.frozen) for binding in back.bindings] == [(HOA, True)]
    register(HOA, LINK_2)
    watched.until(lambda: watched.care_of() == {HOA: LINK_2})
    moved = source.read()
    assert isinstance(moved, Reading)
    assert [(binding.care_of_address, binding.frozen) for binding in moved.bindings] == [(LINK_2, False)]


THREAD_SOCKETS = RAW_SOCKETS.parents[2] / "thread-self" / "net" / "raw6"


def test_netlink_messages_that_lie_about_their_length_are_refused() -> None:
    with pytest.raises(ValueError, match="netlink message"):
        list(messages(struct.pack("=IHHII", 8, 24, 0, 0, 0)))
