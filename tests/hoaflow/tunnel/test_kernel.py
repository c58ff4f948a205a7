# SPDX-License-Identifier: Apache-2.0
"""The kernel's IP-in-IP: routes, the pair check and a local address that decapsulates, in real namespaces."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoaflow.addresses import canonical_prefix, parse_prefix
from hoaflow.tunnel import nft
from hoaflow.tunnel.local_decapsulation import decapsulate_local, stop_decapsulating_local
from hoaflow.tunnel.namespace import NamespaceError, in_namespace
from hoaflow.tunnel.seg6 import Seg6Error, Seg6Routes
from hoaflow.tunnel.spoofing_filter import Counters, SourcePair, SpoofingFilter

NEAR, FAR = "httnear", "httfar"  # the two ends of one link: fe80::1 / 2001:db8::1 and fe80::2 / 2001:db8::2
HOA, HOA_2, PREFIX = "2001:db8:99::100", "2001:db8:99::200", "2001:db8:98::/64"


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def ping(namespace: str, source: str, target: str) -> bool:
    command = ["ip", "netns", "exec", namespace, "ping", "-n", "-c1", "-W1", "-I", source, target]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def ipv6(source: str, destination: str, next_header: int, payload: bytes) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(payload), next_header, 64)
    return header + parse_prefix(source).packed + parse_prefix(destination).packed + payload


def ipv4(source: str) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20, 0, 0, 64, 59, 0)
    return header + parse_prefix(source).packed + parse_prefix("10.1.0.2").packed


def send_tunnel_packet(next_header: int, payload: bytes) -> None:
    """From NEAR to FAR's tunnel end."""
    target = json.loads(run("ip", "-n", FAR, "-j", "link", "show", "x0"))[0]["address"]
    outer = ipv6("2001:db8::1", "2001:db8::2", next_header, payload)
    send_frame(NEAR, "x0", bytes.fromhex(target.replace(":", "")) + bytes(6) + b"\x86\xdd" + outer)


def send_frame(namespace: str, interface: str, frame: bytes) -> None:
    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
            packets.bind((interface, 0))
            packets.send(frame)

    in_namespace(namespace, send)


def routes(namespace: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("ip", "-n", namespace, "-6", "-j", "-d", "route", "show", *arguments))
    return found


@pytest.fixture
def link() -> Iterator[None]:
    """Two namespaces joined by a link; HOA is an address of FAR, who answers from it by its plain route."""
    for name in (NEAR, FAR):
        run("ip", "netns", "del", name, check=False)
        run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "x0", "netns", NEAR, "type", "veth", "peer", "name", "x0", "netns", FAR)
        for number, name in ((1, NEAR), (2, FAR)):
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "link", "set", "x0", "addrgenmode", "none", "up")
            for address in (f"fe80::{number}/64", f"2001:db8::{number}/64"):
                run("ip", "-n", name, "-6", "addr", "add", address, "dev", "x0", "nodad")
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        for address in (HOA, HOA_2):
            run("ip", "-n", FAR, "-6", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
        yield
    finally:
        for name in (NEAR, FAR):
            run("ip", "netns", "del", name)


@pytest.fixture
def near(link: None) -> Iterator[Seg6Routes]:
    with Seg6Routes(NEAR) as routes_of_near:
        routes_of_near.set_source("2001:db8::1")
        yield routes_of_near


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2001:DB8:0:0::100", "2001:db8::100"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
    ],
)
def test_prefixes_come_back_in_rfc_5952_form(text: str, expected: str) -> None:
    assert canonical_prefix(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "2001:db8::/129", "2001:db8::1/64", "192.0.2.1/24", "192.0.2.0/33", "10.1", "2001:db8::/x", "fe80::1%x0"],
)
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_prefix(text)


def test_encapsulated_route_is_plain_ip_in_ip_as_iproute2_reads_it(near: Seg6Routes) -> None:
    near.encapsulate(HOA, "2001:db8::2", via="fe80::2", dev="x0")
    (route,) = routes(NEAR, HOA)
    assert (route["encap"], route["mode"], route["segs"]) == ("seg6", "encap.red", ["2001:db8::2"])
    assert (route["gateway"], route["dev"], route["protocol"]) == ("fe80::2", "x0", "104")


def test_encapsulating_again_replaces_and_same_again_changes_nothing(near: Seg6Routes) -> None:
    near.encapsulate(HOA, "2001:db8::2", via="fe80::2", dev="x0")
    near.encapsulate(HOA, "2001:db8::3", via="fe80::2", dev="x0")
    near.encapsulate(HOA, "2001:db8::3", via="fe80::2", dev="x0")
    near.encapsulate(PREFIX, "2001:db8::4", via=None, dev="x0")
    assert near.installed() == {HOA: "2001:db8::3", PREFIX: "2001:db8::4"}


def test_only_routes_of_our_protocol_number_are_listed_and_removed(near: Seg6Routes) -> None:
    seg6 = ["encap", "seg6", "mode", "encap", "segs", "2001:db8::9", "dev", "x0"]
    run("ip", "-n", NEAR, "-6", "route", "add", f"{HOA_2}/128", *seg6)
    near.encapsulate(HOA, "2001:db8::2", via="fe80::2", dev="x0")
    assert near.installed() == {HOA: "2001:db8::2"}
    assert near.remove_all([HOA, HOA_2, "2001:db8:99::300"]) == {}
    assert near.installed() == {}
    assert len(routes(NEAR, HOA_2)) == 1


def test_ipv4_routes_lead_to_ipv6_segments_and_are_replaced_in_place(near: Seg6Routes) -> None:
    home_addresses = [HOA, "10.99.0.100", "10.99.1.0/24", "0.0.0.0/0"]
    for segment in ("2001:db8::2", "2001:db8::3"):
        assert near.encapsulate_all(dict.fromkeys(home_addresses, segment), via="fe80::2", dev="x0") == {}
        assert near.installed() == dict.fromkeys(home_addresses, segment)
    assert run("ip", "-n", NEAR, "-4", "route", "show", "proto", "104").count("via inet6 fe80::2 dev x0") == 3
    near.encapsulate("10.99.0.100", "2001:db8::4", via=None, dev="x0", table=1000)
    assert near.installed(1000) == {"10.99.0.100": "2001:db8::4"}
    assert near.remove_all(home_addresses) == {}
    assert near.installed() == {}


def test_the_end_of_a_tunnel_is_an_ipv6_address(near: Seg6Routes) -> None:
    for wrong in ("192.0.2.1", "2001:db8::/64", "nonsense"):
        with pytest.raises(ValueError, match="expected an IPv6 address"):
            near.encapsulate("10.99.0.100", wrong, via=None, dev="x0")
        with pytest.raises(ValueError, match=r"expected an IPv6( or IPv4)? address"):
            SpoofingFilter(NEAR).add([(wrong, "10.99.0.100")])
    assert near.installed() == {}


def test_tables_are_kept_apart(near: Seg6Routes) -> None:
    near.encapsulate(HOA, "2001:db8::2", via="fe80::2", dev="x0", table=1000)
    assert (near.installed(), near.installed(1000), near.installed(1001)) == ({}, {HOA: "2001:db8::2"}, {})
    near.remove(HOA, table=1000)
    assert near.installed(1000) == {}


def test_a_thousand_routes_go_in_and_out_and_refused_ones_are_named(near: Seg6Routes) -> None:
    wanted = {f"2001:db8:99::{number:x}": "2001:db8::2" for number in range(1, 1001)}
    assert near.encapsulate_all(wanted, via="fe80::2", dev="x0") == {}
    assert near.installed() == wanted
    failed = near.encapsulate_all({HOA: "2001:db8::2"}, via="2001:db8:5::1", dev="x0")
    assert failed == {HOA: "No route to host"}
    with pytest.raises(Seg6Error, match=rf"{HOA} .* No route to host"):
        near.encapsulate(HOA, "2001:db8::2", via="2001:db8:5::1", dev="x0")
    assert near.remove_all(wanted) == {}
    assert near.installed() == {}


def test_unknown_device_and_namespace_are_named(near: Seg6Routes) -> None:
    with pytest.raises(Seg6Error, match=r"'nosuch'.*httnear"):
        near.encapsulate(HOA, "2001:db8::2", via=None, dev="nosuch")
    with pytest.raises(NamespaceError, match="'httnone' not found"):
        Seg6Routes("httnone")
    assert not os.path.exists("/run/netns/httnone")


def test_source_is_set_per_namespace(near: Seg6Routes) -> None:
    with Seg6Routes(FAR) as far:
        assert (near.source(), far.source()) == ("2001:db8::1", "::")


def child_processes() -> set[str]:
    """Return the process ids of this process's children."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_namespace_by_path_works_and_leaves_neither_child_nor_descriptor(link: None) -> None:
    holder = subprocess.Popen(["ip", "netns", "exec", NEAR, "sleep", "60"])
    try:
        path = f"/proc/{holder.pid}/ns/net"
        deadline = time.monotonic() + 10
        while os.stat(path).st_ino != os.stat(f"/run/netns/{NEAR}").st_ino:
            assert time.monotonic() < deadline
            os.sched_yield()
        before, children = os.listdir("/proc/self/fd"), child_processes()
        with Seg6Routes(path) as by_path:
            by_path.set_source("2001:db8::1")
            by_path.encapsulate(HOA, "2001:db8::2", via="fe80::2", dev="x0")
        with Seg6Routes(NEAR) as by_name:
            assert by_name.installed() == {HOA: "2001:db8::2"}
        assert len(os.listdir("/proc/self/fd")) == len(before)
        assert child_processes() <= children
    finally:
        holder.kill()
        holder.wait()


def test_in_namespace_returns_and_raises_and_leaves_the_caller_where_it_was(link: None) -> None:
    here = os.readlink("/proc/thread-self/ns/net")
    assert in_namespace(NEAR, lambda: os.readlink("/proc/thread-self/ns/net")) != here
    with pytest.raises(FileNotFoundError):
        in_namespace(NEAR, lambda: os.listdir("/proc/sys/net/ipv6/conf/nosuch"))
    assert os.readlink("/proc/thread-self/ns/net") == here


def test_an_address_is_local_and_a_tunnel_end_at_once(near: Seg6Routes) -> None:
    near.encapsulate(HOA, "2001:db8::2", via="fe80::2", dev="x0")
    assert not ping(NEAR, "2001:db8::1", HOA), "without the rule the kernel has no use for the tunnel packet"
    before = run("ip", "-n", FAR, "-6", "rule")
    decapsulate_local(FAR, "2001:db8::2", "x0", lookup_table=255)
    decapsulate_local(FAR, "2001:db8::2", "x0", lookup_table=255)
    assert run("ip", "-n", FAR, "-6", "rule").count("\n") == before.count("\n") + 1
    assert ping(NEAR, "2001:db8::1", HOA)
    assert ping(NEAR, "2001:db8::1", "2001:db8::2"), "ICMPv6 and neighbour discovery of the address itself go on"
    stop_decapsulating_local(FAR, "2001:db8::2")
    assert run("ip", "-n", FAR, "-6", "rule") == before
    assert not ping(NEAR, "2001:db8::1", HOA)


def test_two_local_tunnel_ends_do_not_disturb_each_other(link: None) -> None:
    run("ip", "-n", FAR, "-6", "addr", "add", "2001:db8::22/64", "dev", "x0", "nodad")
    before = run("ip", "-n", FAR, "-6", "rule")
    decapsulate_local(FAR, "2001:db8::2", "x0")
    decapsulate_local(FAR, "2001:db8::22", "x0")
    stop_decapsulating_local(FAR, "2001:db8::2")
    assert "to 2001:db8::22 ipproto ipv6" in run("ip", "-n", FAR, "-6", "rule")
    stop_decapsulating_local(FAR, "2001:db8::22")
    stop_decapsulating_local(FAR, "2001:db8::22")
    assert run("ip", "-n", FAR, "-6", "rule") == before


@pytest.fixture
def tunnel_end(near: Seg6Routes) -> SpoofingFilter:
    """FAR decapsulates at 2001:db8::2 and checks pairs; NEAR sends HOA and the prefix through the tunnel."""
    for prefix in (HOA, HOA_2):
        near.encapsulate(prefix, "2001:db8::2", via="fe80::2", dev="x0")
    for address in ("2001:db8:97::1", "2001:db8:98::7"):
        run("ip", "-n", NEAR, "-6", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
        run("ip", "-n", FAR, "-6", "route", "add", f"{address}/128", "via", "fe80::1", "dev", "x0")
    decapsulate_local(FAR, "2001:db8::2", "x0", lookup_table=255)
    pairs = SpoofingFilter(FAR, destination="2001:db8::2")
    pairs.setup()
    return pairs


def test_known_pairs_pass_and_all_others_are_dropped_and_counted(tunnel_end: SpoofingFilter) -> None:
    tunnel_end.add([("2001:db8::1", "2001:db8:97::1"), ("2001:db8::3", "2001:db8:98::7")])
    assert ping(NEAR, "2001:db8:97::1", HOA)
    assert not ping(NEAR, "2001:db8:98::7", HOA), "that home address belongs to another care-of address"
    assert tunnel_end.counters() == Counters(accepted=1, dropped=1)
    tunnel_end.remove([("2001:db8::1", "2001:db8:97::1")])
    assert not ping(NEAR, "2001:db8:97::1", HOA)
    assert tunnel_end.counters() == Counters(accepted=1, dropped=2)


def test_pairs_of_ipv4_inner_sources_are_checked_as_strictly(tunnel_end: SpoofingFilter) -> None:
    """By next header 4, at once and behind a destination option; a pair of one family is none of the other's."""
    tunnel_end.add([("2001:db8::1", "10.99.0.100"), ("2001:db8::1", "10.99.1.0/24"), ("2001:db8::3", "10.99.0.200")])
    option = bytes([4, 0, 1, 4, 0, 0, 0, 0])  # destination options header: PadN; 4 follows
    for inner in ("10.99.0.100", "10.99.1.255", "10.99.0.200", "10.99.2.0"):
        send_tunnel_packet(4, ipv4(inner))
        send_tunnel_packet(60, option + ipv4(inner))
    assert tunnel_end.counters() == Counters(accepted=4, dropped=4)
    tunnel_end.change(remove=[("2001:db8::1", "10.99.1.0/24")])
    send_tunnel_packet(4, ipv4("10.99.1.255"))
    assert tunnel_end.counters() == Counters(accepted=4, dropped=5)
    # the number 10.99.0.100, where IPv6 has its source
    assert SourcePair("2001:db8::1", "10.99.0.100") in tunnel_end.installed()
    send_tunnel_packet(41, ipv6("::10.99.0.100", HOA, next_header=59, payload=b""))
    assert tunnel_end.counters() == Counters(accepted=4, dropped=6)


def test_a_prefix_as_inner_source_covers_its_addresses_only(tunnel_end: SpoofingFilter) -> None:
    tunnel_end.add([("2001:db8::1", PREFIX)])
    assert ping(NEAR, "2001:db8:98::7", HOA)
    assert not ping(NEAR, "2001:db8:97::1", HOA)
    assert tunnel_end.installed() == {SourcePair("2001:db8::1", PREFIX)}


def test_extension_header_before_the_inner_packet_does_not_evade_the_check(tunnel_end: SpoofingFilter) -> None:
    tunnel_end.add([("2001:db8::1", "2001:db8:97::1")])
    for inner in ("2001:db8:98::7", "2001:db8:97::1"):
        no_more = ipv6(inner, HOA, next_header=59, payload=b"")
        option = bytes([41, 0, 1, 4, 0, 0, 0, 0])  # destination options header: PadN; 41 follows
        send_tunnel_packet(60, option + no_more)
    assert tunnel_end.counters() == Counters(accepted=1, dropped=1)


def test_fragments_of_tunnel_packets_are_dropped(tunnel_end: SpoofingFilter) -> None:
    tunnel_end.add([("2001:db8::1", "2001:db8:97::1"), ("2001:db8::1", "10.99.0.100")])
    no_more = ipv6("2001:db8:97::1", HOA, next_header=59, payload=b"")
    for payload, inner in ((41, no_more), (4, ipv4("10.99.0.100"))):
        for place in (0 << 3 | 1, 8 << 3 | 1, 8 << 3):  # offset in 8 octets, more fragments: first, middle, last
            send_tunnel_packet(44, struct.pack("!BBHI", payload, 0, place, 7) + inner)
    assert tunnel_end.counters() == Counters(accepted=0, dropped=6)


def test_tunnel_packets_for_others_pass_the_filter(tunnel_end: SpoofingFilter) -> None:
    SpoofingFilter(FAR, destination="2001:db8::77").setup()
    assert ping(NEAR, "2001:db8:97::1", HOA)
    assert tunnel_end.counters() == Counters(0, 0)


def test_pair_set_survives_setup_and_is_replaced_at_once(link: None) -> None:
    pairs = SpoofingFilter(NEAR)
    pairs.setup()
    pairs.add([("2001:db8:2::2", HOA)])
    pairs.add([("2001:db8:2::2", HOA)])
    pairs.setup()
    assert pairs.installed() == {SourcePair("2001:db8:2::2", HOA)}
    many = {SourcePair(f"2001:db8:2::{n:x}", f"2001:db8:99::{n:x}") for n in range(1, 2000)}
    many.add(SourcePair("::5", PREFIX))
    pairs.replace(many)
    assert pairs.installed() == many
    pairs.change(add=[("2001:db8:3::3", HOA)], remove=[("2001:db8:2::1", "2001:db8:99::1"), ("::9", HOA)])
    assert SourcePair("2001:db8:3::3", HOA) in pairs.installed()
    assert len(pairs.installed()) == len(many)
    pairs.teardown()
    pairs.teardown()
    assert nft.tables(NEAR) == set()


def test_a_bad_pair_changes_nothing(link: None) -> None:
    pairs = SpoofingFilter(NEAR)
    pairs.setup()
    with pytest.raises(ValueError, match="nonsense"):
        pairs.add([("2001:db8:2::2", HOA), ("nonsense", HOA)])
    assert pairs.installed() == set()
    pairs.teardown()
    with pytest.raises(nft.NftError, match="httnear"):
        pairs.add([("2001:db8:2::2", HOA)])


def test_who_is_killed_while_a_ruleset_is_learned_leaves_nothing(link: None) -> None:
    killed = f"""
import os, signal
from hoaflow.tunnel import nft
from hoaflow.tunnel.nfnetlink import NftSocket
def table(*_):
    assert any("_copy_" in name for _, name in nft.tables({NEAR!r}))
    os.kill(os.getpid(), signal.SIGKILL)
NftSocket.table = table
nft.meaning({NEAR!r}, "ip6", "learned", "table ip6 learned {{ chain c {{ }}; }}", False)
"""
    done = subprocess.run([sys.executable, "-c", killed], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert nft.tables(NEAR) == set()
