# SPDX-License-Identifier: Apache-2.0
"""An on-demand router with a real Open vSwitch: flows come with the packets that need them, and go without."""

import ipaddress
import re
import socket
from typing import Any

import pytest

from controller.core.flow_sets import FIRST_METER
from tests.support.bench import (
    CN,
    FIRST,
    HOME_ADDRESS,
    HOME_AGENT,
    INTO_TUNNEL,
    REVERSE,
    SECOND,
    TIN,
    Bench,
    binding,
)
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for

ROUTER = "0000000000000001"
OTHER = "2001:db8:99::200"
SCANNED = 400  # fewer than a meter lets through at once
TELLS = "controller(max_len=128,meter_id="


@pytest.fixture
def idle_after() -> int:
    """Return after how many seconds without a packet flows go, for a test to override."""
    return 300


@pytest.fixture
def controller_settings(idle_after: int) -> str:
    """Return settings of a controller whose routers are all on demand."""
    return f"install = on-demand\nidle_after = {idle_after}\nread_back_every = 1"


@pytest.fixture
def bench(ovs: Ovs, controller: Controller) -> Bench:
    """Return a switch and its controller, which nobody has told of a home agent yet."""
    ovs.add_bridge("br0", 1, OPENFLOW_PORT)
    ovs.add_port("br0", "cn", CN)
    ovs.add_port("br0", "tin", TIN)
    return Bench(ovs, controller)


@pytest.fixture
def cold(bench: Bench) -> Bench:
    """Return a registered mobile node to which no packet has come yet."""
    register(bench)
    wait_for("gates open", bench.open_gates)
    wait_for("the switch tells of packets", lambda: tells(bench))
    return bench


def test_the_first_packet_goes_by_the_home_agent_and_brings_the_flows(cold: Bench) -> None:
    assert cold.state() == "idle"
    assert "NORMAL" in cold.trace()
    wait_for("that is explained", lambda: keep(cold) and "on demand" in explained(cold)["routers"][ROUTER]["reason"])
    assert explained(cold)["path"] == "home-agent"
    send(cold, udp(HOME_ADDRESS))
    wait_for("the binding is active", cold.is_active)
    assert INTO_TUNNEL in cold.trace()
    assert INTO_TUNNEL in cold.trace(**REVERSE)


def test_a_packet_from_the_mobile_node_brings_them_too(cold: Bench) -> None:
    send(cold, udp("2001:db8:1::2", HOME_ADDRESS, outer=(FIRST, HOME_AGENT)))
    wait_for("the binding is active", cold.is_active)


def test_a_handover_while_cold_sends_no_flow(cold: Bench) -> None:
    before = cold.flows()
    cold.post(SECOND, 2)
    assert cold.state() == "idle"
    assert cold.flows().keys() == before.keys()
    send(cold, udp(HOME_ADDRESS))
    wait_for("the binding is active", cold.is_active)
    assert INTO_TUNNEL in cold.trace(**{**REVERSE, "ipv6_src": SECOND})


@pytest.mark.parametrize("idle_after", [2])
def test_what_is_quiet_goes_with_its_counters_kept_and_comes_back(cold: Bench) -> None:
    wait_for("a packet goes direct", lambda: send(cold, udp(HOME_ADDRESS)) and counted(cold))
    before = counted(cold)
    wait_for("it is given up", lambda: keep(cold) and cold.state() == "idle")
    wait_for("no flow of it is left", lambda: not downlink(cold, HOME_ADDRESS, 100))
    wait_for("what was counted still counts", lambda: keep(cold) and counted(cold) >= before)
    wait_for("it is back", lambda: send(cold, udp(HOME_ADDRESS)) and cold.is_active())


def test_an_unknown_home_address_is_told_of_once_and_a_binding_overrides_that(cold: Bench) -> None:
    send(cold, udp(OTHER))
    wait_for("nothing more is told of it", lambda: downlink(cold, OTHER, 3))
    assert "NORMAL" in cold.trace(ipv6_dst=OTHER)
    assert TELLS not in cold.trace(ipv6_dst=OTHER)
    cold.post(SECOND, 1, home_address=OTHER)
    wait_for("its packets go direct", lambda: keep(cold) and INTO_TUNNEL in cold.trace(ipv6_dst=OTHER))
    assert cold.state(OTHER) == "active"


@pytest.mark.parametrize("order", [1, -1], ids=["uplink first", "downlink first"])
def test_two_mobile_nodes_reach_one_another_directly_once_both_are_asked_for(cold: Bench, order: int) -> None:
    cold.post(SECOND, 1, home_address=OTHER)
    tunnelled = CN, udp(HOME_ADDRESS, OTHER, outer=(SECOND, HOME_AGENT))
    decapsulated = "local", udp(HOME_ADDRESS, OTHER)  # as the router's kernel sends it on
    for port, packet in (tunnelled, decapsulated)[::order]:
        send(cold, packet, port)
    wait_for("both are active", lambda: cold.is_active() and cold.state(OTHER) == "active")
    assert INTO_TUNNEL in cold.trace(**{**REVERSE, "ipv6_src": SECOND})
    assert INTO_TUNNEL in cold.trace(in_port="local", ipv6_src=OTHER)


def test_a_scan_of_the_home_prefix_brings_no_flows_and_hides_no_mobile_node(cold: Bench) -> None:
    scanned = [f"2001:db8:99::1:{number:x}" for number in range(SCANNED)]
    with cold.ovs.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
        port.bind(("cn", 0))
        for address in scanned:
            port.send(bytes.fromhex(udp(address)))
        port.send(bytes.fromhex(udp(HOME_ADDRESS)))
    wait_for("the binding is active", lambda: send(cold, udp(HOME_ADDRESS)) and cold.is_active())
    assert [flow for flow in cold.flows() if "table=1" in flow and "priority=100" in flow] == downlink(
        cold, HOME_ADDRESS, 100
    )


def test_waiting_for_a_binding_that_nobody_asks_for_ends_at_once(cold: Bench) -> None:
    answer = cold.controller.call("POST", "/v1/bindings?wait=active", binding(SECOND, 2))
    assert (answer.status, answer.body["state"]) == (200, "idle")


def test_a_restarted_controller_goes_on_with_what_the_switch_has(cold: Bench) -> None:
    send(cold, udp(HOME_ADDRESS))
    send(cold, udp(OTHER))
    wait_for("the binding is active", cold.is_active)
    wait_for("nothing more is told of the other", lambda: downlink(cold, OTHER, 3))
    cold.announce(lease=60)  # a slow machine restarts a controller slowly
    wait_for("the gates last as long", lambda: {int(each) > 30 for each in hard_timeouts(cold)} == {True})
    cold.controller.kill()
    cold.controller.start()
    wait_for("the switch is back", lambda: cold.controller.get("/v1/routers")["routers"])
    cold.announce(lease=60)
    cold.snapshot(binding(lifetime=58))
    assert INTO_TUNNEL in cold.trace()
    wait_for("the binding is active", cold.is_active)
    assert not downlink(cold, OTHER, 3), "a binding of it would wait for that to end"


def test_what_an_agent_announces_comes_before_the_setting(cold: Bench) -> None:
    def shown() -> str:
        return str(cold.controller.get(f"/v1/routers/{ROUTER}")["install"])

    assert shown() == "on-demand"
    cold.agent(install="everything")
    wait_for("the binding is active", lambda: cold.announce() and cold.state() == "active")
    assert shown() == "everything"
    wait_for("the switch tells of nothing", lambda: not any(TELLS in flow for flow in cold.flows()))
    cold.agent(install="on-demand")
    assert shown() == "on-demand"
    wait_for("the switch tells of packets", lambda: tells(cold))
    assert cold.is_active()


@pytest.mark.parametrize("change", ["del-meter", "mod-meter"])
def test_meters_that_something_else_removes_or_changes_are_made_again(cold: Bench, change: str) -> None:
    before = meters(cold.ovs)
    assert len(before) == 2
    (number, *_) = before
    otherwise = "" if change == "del-meter" else ",pktps,burst,stats,band=type=drop,rate=1,burst_size=1"
    meter(cold.ovs, change, f"meter={number}{otherwise}")
    wait_for("somebody is told", lambda: keep(cold) and "meters-lost" in events(cold))
    wait_for("they are as before", lambda: keep(cold) and meters(cold.ovs) == before)
    wait_for("the switch tells of packets", lambda: tells(cold))
    send(cold, udp(HOME_ADDRESS))
    wait_for("the binding is active", cold.is_active)
    scraped = cold.controller.text("/metrics").body
    assert f'hoaflow_packet_ins_dropped_total{{reason="meter",router="{ROUTER}"}} 0.0' in scraped


def test_a_meter_of_something_else_is_left_alone_and_all_flows_come(bench: Bench) -> None:
    meter(bench.ovs, "add-meter", f"meter={FIRST_METER},pktps,band=type=drop,rate=7")
    before = meters(bench.ovs)
    register(bench)
    wait_for("the binding is active", lambda: keep(bench) and bench.state() == "active")
    shown = bench.controller.get(f"/v1/routers/{ROUTER}")
    assert (shown["install"], str(FIRST_METER) in shown["on_demand_problem"]) == ("everything", True)
    assert "on-demand-unsupported" in events(bench)
    assert meters(bench.ovs)[str(FIRST_METER)] == before[str(FIRST_METER)]


def register(bench: Bench) -> None:
    """Announce the home agent, and register a mobile node with it."""
    bench.announce()
    bench.snapshot()
    bench.post()


def meter(ovs: Ovs, command: str, described: str) -> None:
    """Change the switch's meters."""
    ovs.ofctl(command, "br0", described)


def meters(ovs: Ovs) -> dict[str, str]:
    """Return how the switch's meters are set, by number."""
    return dict(re.findall(r"meter=(\d+) ([^\n]*\n[^\n]*)", ovs.ofctl("dump-meters", "br0")))


def events(bench: Bench) -> str:
    """Return which events there have been, as their counts above 0."""
    scraped = bench.controller.text("/metrics").body
    return " ".join(re.findall(r'hoaflow_events_total\{name="([a-z-]+)"\} [1-9]', scraped))


def explained(bench: Bench) -> Any:
    """Return why packets take the path that they take."""
    return bench.controller.get(f"/v1/bindings/{HOME_ADDRESS}/explain")


def send(bench: Bench, packet: str, port: int | str = CN) -> bool:
    """Let a packet come in, from the correspondent node by default, keeping lease and agent alive."""
    keep(bench)
    bench.ovs.ofctl("packet-out", "br0", f"in_port={port},packet={packet},actions=table")
    return True


def counted(bench: Bench) -> int:
    """Return how many packets have gone direct."""
    return int(bench.controller.get(f"/v1/bindings/{HOME_ADDRESS}")["routers"][ROUTER]["packets"])


def hard_timeouts(bench: Bench) -> list[str]:
    """Return the hard timeouts of all gates."""
    return re.findall(r"hard_timeout=(\d+).*goto_table", bench.ovs.ofctl("dump-flows", "br0"))


def keep(bench: Bench) -> bool:
    """Keep lease and agent alive."""
    bench.announce()
    bench.agent()
    return True


def tells(bench: Bench) -> bool:
    """Tell whether the switch tells of packets that no flow takes, in both directions."""
    keep(bench)
    return sum(TELLS in flow for flow in bench.flows()) == 2


def downlink(bench: Bench, home_address: str, priority: int) -> list[str]:
    """Return the flows for packets for a home address with a priority."""
    keep(bench)
    return [flow for flow in bench.flows() if f"priority={priority},ipv6,ipv6_dst={home_address} " in flow]


def udp(destination: str, source: str = "2001:db8:1::2", outer: tuple[str, str] | None = None) -> str:
    """Return a UDP packet in a frame, in a tunnel between two addresses if they are given, in hexadecimal."""
    frame = bytes.fromhex("02000000000102000000000286dd")
    packet = _ipv6(source, destination, 17, bytes.fromhex("0009000900080000"))
    if outer is not None:
        packet = _ipv6(*outer, 41, packet)
    return (frame + packet).hex()


def _ipv6(source: str, destination: str, next_header: int, payload: bytes) -> bytes:
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return bytes.fromhex("60000000") + len(payload).to_bytes(2, "big") + bytes((next_header, 64)) + addresses + payload
