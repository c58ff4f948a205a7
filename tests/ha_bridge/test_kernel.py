# SPDX-License-Identifier: Apache-2.0
"""What the kernel shows: recorded tunnel events as netlink messages, and live ones in a network namespace."""

import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ha_bridge import kernel
from ha_bridge.kernel import KernelWatch, read_policies, read_view
from ha_bridge.model import Reading, ReadingFailed
from ha_bridge.policies import Protection, messages
from ha_bridge.sockets import RAW_SOCKETS, mobility_header_sockets
from ha_bridge.sources import IPSEC, KernelSource
from ha_bridge.tunnels import KernelView
from tests.support.bridge import DATA, HOME_AGENT, HOME_PREFIX, enter_namespace

PREFIXES = [HOME_PREFIX, "2001:db8:aa::/48"]
NETNS = "hab-kernel"
HOA = "2001:db8:99::100"
LINK_1, LINK_2 = "2001:db8:2::2", "2001:db8:3::2"

_LINK = re.compile(
    r"(?P<gone>Deleted )?(?P<index>\d+): ip6tnl\d+@NONE: .*?ip6tnl ip6ip6 remote (?P<remote>\S+) local (?P<local>\S+)",
    re.S,
)
_ROUTE = re.compile(
    r"(?P<gone>Deleted )?unicast (?P<dst>\S+)(?: from (?P<src>\S+))? dev (?P<dev>\S+) table (?P<table>\S+)"
    r" proto (?P<proto>\S+) scope global metric (?P<metric>\d+)"
)
_TABLES = {"main": 254, "252": 252}
_PROTOCOLS = {"dhcp": 16, "kernel": 2}


def encoded(message: Any, kind: int) -> Any:
    """`message` as it comes from the kernel: encoded, then decoded by pyroute2."""
    message["header"]["type"] = kind
    message.encode()
    (decoded,) = MarshalRtnl().parse(bytes(message.data))
    return decoded


def link_message(index: int, local: str, remote: str, gone: bool) -> Any:
    data = {"attrs": [("IFLA_IP6TNL_LOCAL", local), ("IFLA_IP6TNL_REMOTE", remote)]}
    info = {"attrs": [("IFLA_INFO_KIND", "ip6tnl"), ("IFLA_INFO_DATA", data)]}
    message = ifinfmsg()
    message["family"], message["index"] = 0, index
    message["attrs"] = [("IFLA_IFNAME", "ip6tnl1"), ("IFLA_LINKINFO", info)]
    return encoded(message, 17 if gone else 16)


def route_message(dst: str, table: int, proto: int, metric: int, oif: int, src: str | None, gone: bool) -> Any:
    destination, _, length = dst.partition("/")
    message = rtmsg()
    message["family"], message["dst_len"], message["src_len"] = socket.AF_INET6, int(length or 128), 128 if src else 0
    message["table"], message["proto"], message["type"] = table, proto, 1
    attrs: list[tuple[str, object]] = [("RTA_DST", destination), ("RTA_TABLE", table), ("RTA_PRIORITY", metric)]
    if src:
        attrs.append(("RTA_SRC", src))
    message["attrs"] = [*attrs, ("RTA_OIF", oif)]
    return encoded(message, 25 if gone else 24)


def recorded(name: str) -> Iterator[tuple[str, Any]]:
    """Yield the tunnel and route events of a recorded run: time of day and netlink message."""
    devices = {"hl": 4, "u0": 3}
    for stamp, text in re.findall(r"\[[\d-]+T([\d:.]+)\] (.*?)(?=\n\[|\Z)", (DATA / name).read_text(), re.S):
        if match := _LINK.match(text):
            devices["ip6tnl1"] = int(match["index"])
            yield stamp, link_message(int(match["index"]), match["local"], match["remote"], bool(match["gone"]))
        elif match := _ROUTE.match(text):
            route = (match["dst"], _TABLES[match["table"]], _PROTOCOLS[match["proto"]], int(match["metric"]))
            yield stamp, route_message(*route, devices[match["dev"]], match["src"], bool(match["gone"]))


def story(name: str) -> list[dict[str, str]]:
    """Return what the kernel view shows in the course of a recorded run: each state once."""
    view = KernelView(HOME_AGENT, PREFIXES)
    states: list[dict[str, str]] = [{}]
    for _stamp, message in recorded(name):
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


def ip(*words: str) -> None:
    subprocess.run(["ip", "-n", NETNS, *words], check=True, timeout=10)


def within(do: Callable[[], Any]) -> Any:
    """Call `do` in a thread that has entered the namespace: sockets stay where they were made."""
    result: list[Any] = []

    def enter() -> None:
        enter_namespace(NETNS)
        result.append(do())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(20)
    assert result, "the call in the namespace failed"
    return result[0]


@pytest.fixture
def namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "del", NETNS], check=False, capture_output=True, timeout=10)
    subprocess.run(["ip", "netns", "add", NETNS], check=True, timeout=10)
    try:
        ip("link", "add", "u0", "type", "veth", "peer", "name", "u1")
        for device in ("lo", "u0", "u1"):
            ip("link", "set", device, "up")
        ip("-6", "addr", "add", "2001:db8:10::2/64", "dev", "u0", "nodad")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=False, timeout=10)


def register(home: str, care_of: str, verb: str = "replace") -> None:
    """Do what hoaflow's home agent does on a kernel without ip6tnl."""
    encap = ("encap", "seg6", "mode", "encap.red", "segs", care_of, "via", "2001:db8:10::1", "dev", "u0")
    ip("-6", "route", verb, f"{home}/128", *encap, "proto", "16")


class Watched:
    """A KernelWatch in the namespace, whose changes can be awaited."""

    def __init__(self, keep_view: bool = True) -> None:
        self._grown = threading.Condition()
        self.changes = 0
        self.watch: KernelWatch = within(lambda: KernelWatch(HOME_AGENT, PREFIXES, self._changed, keep_view))

    def _changed(self) -> None:
        with self._grown:
            self.changes += 1
            self._grown.notify_all()

    def start(self) -> "Watched":
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def _follow(self) -> None:
        enter_namespace(NETNS)  # after an overrun the thread opens new sockets
        self.watch.run()

    def until(self, predicate: Callable[[], object]) -> None:
        with self._grown:
            assert self._grown.wait_for(predicate, 10), f"{self.changes} changes, {self.watch.bindings()}"

    def care_of(self) -> dict[str, str]:
        return {binding.home_address: binding.care_of_address for binding in self.watch.bindings()}


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
    monkeypatch.setattr(kernel, "RECEIVE_BUFFER", 2048)
    watched = Watched()
    homes = [f"2001:db8:99::{n:x}" for n in range(256, 756)]
    encap = f"encap seg6 mode encap.red segs {LINK_1} via 2001:db8:10::1 dev u0 proto 16"
    batch = "".join(f"route add {home}/128 {encap}\n" for home in homes)
    subprocess.run(["ip", "-n", NETNS, "-6", "-batch", "-"], input=batch, text=True, check=True, timeout=20)
    assert watched.care_of() == {}, "nobody has read the events yet: the socket has overrun"
    watched.start()
    watched.until(lambda: watched.care_of() == dict.fromkeys(homes, LINK_1))
    assert "event=netlink-overrun" in caplog.text


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


def protection() -> Protection:
    return Protection(within(read_policies), HOME_AGENT)


def policy(*words: str) -> None:
    ip("xfrm", "policy", "add", *words)


TUNNEL = ("tmpl", "src", HOME_AGENT, "dst", LINK_1, "proto", "esp", "mode", "tunnel")
PROTECTING = {
    "payload to the home address": ("src", "::/0", "dst", f"{HOA}/128", "dir", "out", *TUNNEL),
    "payload to the home prefix": ("src", "::/0", "dst", HOME_PREFIX, "dir", "out", *TUNNEL),
    "payload from the home address": ("src", f"{HOA}/128", "dst", "::/0", "dir", "fwd", *TUNNEL),
    "only TCP": ("src", "::/0", "dst", f"{HOA}/128", "proto", "tcp", "dir", "out", *TUNNEL),
    "authenticated": ("src", "::/0", "dst", f"{HOA}/128", "dir", "out", *TUNNEL[:5], "proto", "ah", "mode", "tunnel"),
    "the tunnel itself": (
        *("src", f"{HOME_AGENT}/128", "dst", f"{LINK_1}/128", "proto", "41", "dir", "out"),
        *("tmpl", "proto", "esp", "mode", "transport"),
    ),
    "everything": ("src", "::/0", "dst", "::/0", "dir", "out", *TUNNEL),
}


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("words", PROTECTING.values(), ids=PROTECTING)
def test_protected_payload_is_recognised(words: tuple[str, ...]) -> None:
    assert not protection().covers(HOA, LINK_1)
    policy(*words)
    assert protection().covers(HOA, LINK_1)


TRANSPORT = ("tmpl", "src", HOME_AGENT, "dst", HOA, "proto", "esp", "mode", "transport")
NOT_PROTECTING = {
    "home address option": (
        *("src", f"{HOA}/128", "dst", f"{HOME_AGENT}/128", "dir", "in", "priority", "16"),
        *("tmpl", "src", HOA, "dst", HOME_AGENT, "proto", "hao", "mode", "ro", "level", "use"),
    ),
    "type 2 routing header": (
        *("src", f"{HOME_AGENT}/128", "dst", f"{HOA}/128", "dir", "out", "priority", "16"),
        *("tmpl", "proto", "route2", "mode", "ro", "level", "use"),
    ),
    "Mobility Headers": ("src", HOME_AGENT, "dst", HOA, "proto", "135", "dir", "out", *TRANSPORT),
    "Mobility Headers in a tunnel": ("src", "::/0", "dst", HOA, "proto", "135", "dir", "out", *TUNNEL),
    "prefix discovery": ("src", HOME_AGENT, "dst", HOA, "proto", "ipv6-icmp", "dir", "out", *TRANSPORT),
    "another home address": ("src", "::/0", "dst", "2001:db8:99::200", "dir", "out", *TUNNEL),
    "no template": ("src", "::/0", "dst", "::/0", "proto", "135", "dir", "out", "priority", "12"),
    "blocked": ("src", "::/0", "dst", HOA, "dir", "out", "action", "block"),
    "IPv4": ("src", "0.0.0.0/0", "dst", "0.0.0.0/0", "dir", "out", *("tmpl", "proto", "esp", "mode", "transport")),
}


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("words", NOT_PROTECTING.values(), ids=NOT_PROTECTING)
def test_what_mobile_ipv6_itself_sets_up_protects_no_payload(words: tuple[str, ...]) -> None:
    policy(*words)
    assert not protection().covers(HOA, LINK_1)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("direction", ["in", "fwd"])
def test_policy_towards_the_home_agent_is_about_its_source(direction: str) -> None:
    policy("src", f"{HOA}/128", "dst", "::/0", "dir", direction, *TUNNEL)
    found = protection()
    assert found.covers(HOA, LINK_1)
    assert not found.covers("2001:db8:99::200", LINK_2)


@pytest.mark.usefixtures("namespace")
def test_mobile_network_prefix_is_judged_by_itself() -> None:
    policy("src", "::/0", "dst", "2001:db8:aa:1::5/128", "dir", "out", *TUNNEL)
    found = protection()
    assert found.covers("2001:db8:aa:1::/64", LINK_1)
    assert not found.covers(HOA, LINK_1)


@pytest.mark.usefixtures("namespace")
def test_protection_is_noticed_live_when_it_comes_and_goes() -> None:
    watched = Watched().start()
    register(HOA, LINK_1)
    watched.until(lambda: watched.care_of())
    source = KernelSource(watched.watch, listening=lambda: frozenset({1}))

    def withheld() -> dict[str, str | None]:
        reading = source.read()
        assert isinstance(reading, Reading)
        return {binding.home_address: binding.withheld for binding in reading.bindings}

    assert withheld() == {HOA: None}
    policy("src", "::/0", "dst", HOA, "dir", "out", *TUNNEL)
    watched.until(lambda: withheld() == {HOA: IPSEC})
    ip("xfrm", "policy", "delete", "src", "::/0", "dst", HOA, "dir", "out")
    watched.until(lambda: withheld() == {HOA: None})


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
