# SPDX-License-Identifier: Apache-2.0
"""The testbed and what measures on it: traffic, load of the home agent, forged packets. Plain forwarding only."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from topologies import addresses as at
from topologies.load import AnchorLoad
from topologies.processes import ProcessError
from topologies.single import SingleTopo
from topologies.testbed import Testbed
from topologies.traffic import Records, Span, Traffic, lost, median_rtt

SPOOF = Path(__file__).parents[2] / "topologies/spoof.py"


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Testbed]:
    """Topology `single`, the mobile node at home, nothing of hoaflow."""
    with Testbed(SingleTopo(), tmp_path / "logs") as running:
        yield running
        assert running.errors() == []


def wait_until_heard(traffic: Traffic, packets: int) -> None:
    """Until both ends have received PACKETS more packets."""
    before = [len(end.received) for end in traffic.records()]
    deadline = time.monotonic() + 20
    while any(len(end.received) < start + packets for end, start in zip(traffic.records(), before, strict=True)):
        assert time.monotonic() < deadline, "the traffic does not flow"
        time.sleep(0.05)


def test_traffic_is_counted_both_ways(bed: Testbed, tmp_path: Path) -> None:
    load = AnchorLoad(bed)
    traffic = Traffic(bed, tmp_path)
    wait_until_heard(traffic, 50)
    correspondent, mobile = traffic.stop()
    always = Span(0, time.time())
    assert lost(correspondent, mobile, always) == []
    assert lost(mobile, correspondent, always) == []
    assert median_rtt(correspondent, always) > 0
    assert load.packets() == len(correspondent.sent)  # at home, only the way to the home address passes it


def test_losses_are_those_of_the_time_the_link_was_down(bed: Testbed, tmp_path: Path) -> None:
    traffic = Traffic(bed, tmp_path)
    wait_until_heard(traffic, 20)
    down = time.time()
    bed.set_link("cn", "cn-eth0", up=False)
    cut = time.time()
    while min(sum(at > cut for at in records.sent.values()) for records in traffic.records()) < 30:
        time.sleep(0.05)
    bed.run("ip", "link", "set", "dev", "cn-eth0", "up", node="cn")
    bed.run("ip", "addr", "replace", f"{at.CORRESPONDENT}/64", "dev", "cn-eth0", "nodad", node="cn")
    bed.run("ip", "-6", "route", "replace", "default", "via", at.CORRESPONDENT_GATEWAY, node="cn")
    wait_until_heard(traffic, 20)
    up = time.time()
    correspondent, mobile = traffic.stop()
    for sender, receiver in ((correspondent, mobile), (mobile, correspondent)):
        assert len(lost(sender, receiver, Span(down - 0.1, up))) >= 30
        assert lost(sender, receiver, Span(0, down - 0.1)) == []
        assert lost(sender, receiver, Span(up, time.time())) == []


def test_a_links_ends_have_different_indexes(bed: Testbed) -> None:
    """Else the kernel announces up to a second late that the mobile node's link has come up."""
    for node in ("mn", "cn", "ha"):
        for link in json.loads(bed.run("ip", "-json", "link", "show", "type", "veth", node=node)):
            assert link["ifindex"] != link["link_index"], f"{link['ifname']} of {node}"


def test_tunnelled_data_counts_as_load_and_signalling_does_not(bed: Testbed) -> None:
    load = AnchorLoad(bed)
    tunnel = ["--outer", at.STRANGER, at.HOME_AGENT, "--inner", at.HOME_ADDRESS, at.CORRESPONDENT]
    bed.run(sys.executable, str(SPOOF), "send", *tunnel, "--label", "x", "--count", "7", node="stranger")
    binding_update = (
        "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 135);"
        f"s.sendto(bytes([59, 1, 5, 0]) + bytes(12), ('{at.HOME_AGENT}', 0))"
    )
    bed.run(sys.executable, "-c", binding_update, node="stranger")
    bed.run("ping", "-c", "1", at.HOME_AGENT, node="stranger")  # so that all before it has arrived
    assert load.packets() == 7


def test_neighbour_discovery_of_the_home_address_is_no_load(bed: Testbed) -> None:
    """A router asks for the home address itself, not its group, where it knew the link-layer address before."""
    load = AnchorLoad(bed)
    solicitation = (
        "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6);"
        "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255);"
        f"s.sendto(bytes([135]) + bytes(7) + socket.inet_pton(socket.AF_INET6, '{at.HOME_ADDRESS}'),"
        f" ('{at.HOME_ADDRESS}', 0))"
    )
    bed.run(sys.executable, "-c", solicitation, node="stranger")
    bed.run("ping", "-c", "1", at.HOME_ADDRESS, node="stranger")  # so that all before it has arrived
    assert load.packets() == 1  # the echo request alone


def test_a_forged_packet_is_told_by_its_label(bed: Testbed) -> None:
    """The home agent's namespace decapsulates here without any check: what is forged must arrive."""
    bed.run("ip", "-6", "addr", "del", f"{at.HOME_AGENT}/64", "dev", "ha-home", node="ha")
    end = ["route", "add", f"{at.HOME_AGENT}/128", "encap", "seg6local", "action", "End.DT6", "table", "254"]
    bed.run("ip", "-6", *end, "dev", "ha-core", node="ha")
    listener = bed.start("listener", [sys.executable, str(SPOOF), "listen"], node="cn")
    listener.wait_for("event=ready", 60)
    tunnel = ["--outer", "2001:db8:2::bad", at.HOME_AGENT, "--inner", at.HOME_ADDRESS, at.CORRESPONDENT]
    bed.run(sys.executable, str(SPOOF), "send", *tunnel, "--label", "forged", "--count", "2", node="stranger")
    listener.wait_for(f"event=arrived source={at.HOME_ADDRESS} label=forged", 60)


def test_errors_in_logs_and_unasked_ends_are_found(tmp_path: Path) -> None:
    with Testbed(SingleTopo(), tmp_path / "logs") as bed:
        bed.start("loud", ["sh", "-c", "echo as usual; echo level=ERROR it broke; echo fine; exec sleep 1000"])
        bed.programs["loud"].wait_for("fine", 60)
        assert bed.errors() == ["loud: level=ERROR it broke"]
        assert bed.errors(allow_after=["fine"]) == ["loud: level=ERROR it broke"]
        assert bed.errors(allow_after=["^as usual"]) == []
        assert bed.errors(allow=["it broke"]) == []
        bed.kill("loud")
        assert bed.errors(allow=["it broke"]) == []
        bed.start("short", ["true"]).wait()
        assert bed.errors(allow=["it broke"]) == ["short ended by itself. It said nothing."]
        with pytest.raises(ProcessError, match=r"ls /nowhere \(in cn\): exit status 2: .*/nowhere"):
            bed.run("ls", "/nowhere", node="cn")
    assert (tmp_path / "logs/loud.log").read_text() == "as usual\nlevel=ERROR it broke\nfine\n"


def test_nothing_survives_a_testbed_whose_process_is_killed(tmp_path: Path) -> None:
    """Not even with kill -9, after which no clean-up of ours can run."""
    script = (
        "import os, sys, pathlib\n"
        "from topologies.single import SingleTopo\n"
        "from topologies.testbed import Testbed\n"
        f"with Testbed(SingleTopo(), pathlib.Path({str(tmp_path)!r}) / 'logs') as bed:\n"
        "    bed.start('sleeper', ['sleep', '1000'], node='cn')\n"
        "    print(os.readlink('/proc/self/ns/net'), *[os.readlink(bed.namespace(n)) for n in bed.network],\n"
        "          flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        namespaces = set(process.stdout.readline().split())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    assert len(namespaces) > 5
    deadline = time.monotonic() + 10
    while left := namespaces & used_network_namespaces():
        assert time.monotonic() < deadline, f"still in use: {left}"
        time.sleep(0.05)


def used_network_namespaces() -> set[str]:
    """Return the network namespaces that any process is in."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.add(str((process / "ns/net").readlink()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended
    return found


def test_unfinished_records_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "records"
    file.write_text("S 0 1000000000\nR 0 1500000000 0\nR 1 2000000000 7000000\nE 1 2000000000 101\nS 2 30")
    records = Records.read(file)
    assert records.sent == {0: 1.0, 1: 2.0}
    assert records.received == {0: 1.5, 1: 2.0}
    assert [rtt.milliseconds for rtt in records.rtts] == [7.0]
    with pytest.raises(ValueError, match="no round-trip time"):
        median_rtt(records, Span(0, 1))
