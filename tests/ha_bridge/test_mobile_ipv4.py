# SPDX-License-Identifier: Apache-2.0
"""What the bridge makes of a home agent of Mobile IPv4: the recorded kernel of proxymip4, and one that is played."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ha_bridge.__main__ import main
from ha_bridge.desired import DesiredBindings, Registration
from ha_bridge.ipsec_policies import XFRM_MSG_NEWPOLICY, Protection, protecting_policy
from ha_bridge.kernel_view import HOAFLOW, KernelView
from ha_bridge.model import MIPV4
from ha_bridge.reconciliation import Reconciliation, Report
from ha_bridge.selection import Ipv4Registrations
from ha_bridge.terminal_answers import parse_binding_cache
from hoaflow.mobile_ipv4.cache import Binding, State
from hoaflow.mobile_ipv4.messages import FOREVER, Flag, RegistrationRequest
from hoaflow.mobile_ipv4.terminal import render
from tests.support.bridge import bridge
from tests.support.bridge_controller import Controller
from tests.support.bridge_kernel import NETNS, ip, within
from tests.support.kernel_events import link_message, recorded, route_message

MONITOR = Path(__file__).parents[1] / "data" / "mipv4" / "monitor-ha.txt"
HOME_AGENT, HOME_PREFIX, HOME_ADDRESS = "10.99.0.1", "10.99.0.0/24", "10.99.0.100"
FIRST, SECOND = "10.0.0.2", "10.0.0.3"
MAIN_TABLE, BOOT = 254, 3
NTP = 17201517622685917184  # an identification


@pytest.fixture
def view() -> KernelView:
    """Provide the view of a kernel with a tunnel to FIRST."""
    shown = KernelView(HOME_AGENT, [HOME_PREFIX])
    assert shown.apply(link_message(6, HOME_AGENT, FIRST, gone=False))
    return shown


def bound(view: KernelView) -> dict[str, str]:
    return {binding.home_address: binding.care_of_address for binding in view.bindings()}


def test_the_recorded_kernel_of_a_home_agent() -> None:
    view, states = KernelView(HOME_AGENT, [HOME_PREFIX]), [dict[str, str]()]
    for _stamp, message in recorded(MONITOR):
        view.apply(message)
        if bound(view) != states[-1]:
            states.append(bound(view))
    assert states == [{}, {HOME_ADDRESS: FIRST}, {}, {HOME_ADDRESS: SECOND}]


def test_several_home_addresses_behind_one_foreign_agent(view: KernelView) -> None:
    for home_address in (HOME_ADDRESS, "10.99.0.101"):
        assert view.apply(route_message(home_address, MAIN_TABLE, BOOT, 0, 6, None, gone=False))
    assert bound(view) == {HOME_ADDRESS: FIRST, "10.99.0.101": FIRST}
    view.apply(link_message(6, HOME_AGENT, FIRST, gone=True))
    assert bound(view) == {}


def test_other_routes_and_tunnels_are_no_bindings(view: KernelView) -> None:
    view.apply(link_message(7, "10.99.0.2", SECOND, gone=False))
    others = [("10.98.0.100", BOOT, 6), ("10.99.0.101", 2, 6), ("10.99.0.102", BOOT, 7), ("10.99.0.103", BOOT, 4)]
    for destination, protocol, device in others:
        view.apply(route_message(destination, MAIN_TABLE, protocol, 0, device, None, gone=False))
    view.apply(link_message(8, "2001:db8:99::1", "2001:db8:2::2", gone=False))
    view.apply(route_message("2001:db8:99::100", MAIN_TABLE, 16, 0, 8, None, gone=False))
    assert bound(view) == {}


def test_a_binding_is_reported_with_its_reverse_tunnel_and_without_lifetime() -> None:
    registration = Registration(FIRST, None, None, None)
    path = {"home_address": HOME_ADDRESS, "care_of_address": FIRST, "home_agent": HOME_AGENT, "protocol": "mipv4"}
    reported = Report(HOME_ADDRESS, FIRST, registration).as_json(HOME_AGENT, 0.0, MIPV4)
    assert reported == {**path, "reverse_tunnel": True}
    assert Report(HOME_ADDRESS, FIRST, None).as_json(HOME_AGENT, 0.0, MIPV4) == {**path, "lifetime": 0}


def shown(state: State, care_of_address: str, lifetime: int = 60, flags: Flag = Flag.REVERSE_TUNNEL) -> str:
    """Return an entry as hoaflow-ha shows it."""
    request = RegistrationRequest(FIRST, 434, HOME_ADDRESS, HOME_AGENT, care_of_address, lifetime, NTP, flags)
    return render(Binding(request, state, lifetime, 159.5), HOME_AGENT, 100.0, fancy=False)


@pytest.mark.parametrize(
    ("entry", "body"),
    [
        (shown(State.REGISTERED, FIRST), {"lifetime": 59, "reverse_tunnel": True}),
        (shown(State.REGISTERED, FIRST, flags=Flag.DECAPSULATION), {"lifetime": 59, "reverse_tunnel": False}),
        (shown(State.REGISTERED, FIRST, lifetime=FOREVER), {"reverse_tunnel": True}),
    ],
    ids=["with reverse tunnel", "without", "for ever"],
)
def test_what_hoaflow_ha_shows_is_reported(entry: str, body: dict[str, object]) -> None:
    selection, entries = Ipv4Registrations(HOME_AGENT), parse_binding_cache(entry.encode())
    desired = DesiredBindings()
    desired.observe(selection.offloadable(entries), 0.0)
    (report,) = Reconciliation(desired).difference(0.0)
    path = {"home_address": HOME_ADDRESS, "care_of_address": FIRST, "home_agent": HOME_AGENT, "protocol": "mipv4"}
    assert report.as_json(HOME_AGENT, 0.0, MIPV4) == {**path, "identification": NTP, **body}
    assert Ipv4Registrations("10.99.0.2").offloadable(entries) == []


def test_what_hoaflow_ha_shows_as_deregistered_is_decided_and_no_binding() -> None:
    entries = parse_binding_cache(shown(State.DEREGISTERED, FIRST).encode())
    selection = Ipv4Registrations(HOME_AGENT)
    assert (selection.offloadable(entries), selection.decided(entries)) == ([], {HOME_ADDRESS})


def test_a_registration_without_its_reverse_tunnel_is_reported_anew() -> None:
    desired = DesiredBindings()
    reconciliation = Reconciliation(desired)
    for flags, reverse in ((Flag.REVERSE_TUNNEL, True), (Flag.DECAPSULATION, False)):
        entries = parse_binding_cache(shown(State.REGISTERED, FIRST, flags=flags).encode())
        desired.observe(Ipv4Registrations(HOME_AGENT).offloadable(entries), 0.0)
        (report,) = reconciliation.difference(0.0)
        assert report.as_json(HOME_AGENT, 0.0, MIPV4)["reverse_tunnel"] == reverse
        reconciliation.confirm(report, 0.0)
    assert reconciliation.difference(0.0) == []


def test_the_routes_of_hoaflow_ha_say_the_care_of_address_by_their_metric() -> None:
    view = KernelView(HOME_AGENT, [HOME_PREFIX])
    for care_of_address in (FIRST, SECOND):
        metric = int(IPv4Address(care_of_address))
        assert view.apply(route_message(HOME_ADDRESS, MAIN_TABLE, HOAFLOW, metric, 9, None, gone=False))
    view.apply(route_message(HOME_ADDRESS, MAIN_TABLE, HOAFLOW, int(IPv4Address(FIRST)), 9, None, gone=True))
    assert bound(view) == {HOME_ADDRESS: SECOND}


def policy(source: str, destination: str, proto: int) -> bytes:
    """Return an xfrm policy of IPv4 addresses for what goes out, with ESP."""
    (near, near_bits), (far, far_bits) = (each.split("/") for each in (source, destination))
    addresses = (socket.inet_aton(each).ljust(16, b"\0") for each in (far, near))
    selector = struct.pack(
        "=16s16s4HHBBB3xiI", *addresses, *(0, 0, 0, 0, socket.AF_INET, int(far_bits), int(near_bits), proto, 0, 0)
    )
    template = bytes(20) + b"\x32" + bytes(43)
    head = (selector + bytes(64 + 32 + 8) + b"\1").ljust(168, b"\0")
    return head + struct.pack("=HH", 4 + len(template), 5) + template


@pytest.mark.parametrize(
    ("source", "destination", "proto", "covered"),
    [
        ("0.0.0.0/0", f"{HOME_ADDRESS}/32", 0, True),
        ("0.0.0.0/0", HOME_PREFIX, 6, True),
        (f"{HOME_AGENT}/32", f"{FIRST}/32", 4, True),
        (f"{HOME_AGENT}/32", f"{FIRST}/32", 17, False),
        ("0.0.0.0/0", "10.99.0.101/32", 0, False),
    ],
    ids=["payload", "of the home prefix", "the tunnel itself", "signalling", "of another"],
)
def test_payload_under_ipsec_is_recognised(source: str, destination: str, proto: int, covered: bool) -> None:
    found = protecting_policy(XFRM_MSG_NEWPOLICY, policy(source, destination, proto))
    assert found is not None
    assert Protection([found], HOME_AGENT).covers(HOME_ADDRESS, FIRST) == covered


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"--home-agent": "2001:db8:99::1"}, "--home-agent 2001:db8:99::1: expected IPv4 with --protocol mipv4"),
        ({"--home-prefix": "2001:db8:99::/64"}, "2001:db8:99::/64: expected IPv4 with --protocol mipv4"),
        ({"--protocol": "mipv6"}, "--home-agent 10.99.0.1: expected IPv6 with --protocol mipv6"),
        ({"--no-netlink": None}, "--protocol mipv4 without --console, and --no-netlink leave nothing to follow"),
        ({"--restore": None}, "--restore needs the terminal"),
    ],
)
def test_options_that_do_not_go_together(
    changed: dict[str, str | None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "--controller": "http://127.0.0.1:1",
        "--home-agent": HOME_AGENT,
        "--home-prefix": HOME_PREFIX,
        "--protocol": "mipv4",
    }
    with pytest.raises(SystemExit, match="2"):
        main([word for pair in (options | changed).items() for word in pair if word is not None])
    assert reason in capsys.readouterr().err


@pytest.fixture
def near_controller(namespace: None) -> Iterator[Controller]:
    """Provide a controller in the home agent's namespace."""
    running = Controller(within(lambda: socket.create_server(("127.0.0.1", 0))))
    yield running
    running.stop()


def test_the_bridge_announces_it_and_says_when_its_process_is_gone(near_controller: Controller) -> None:
    ip("address", "add", f"{HOME_AGENT}/24", "dev", "lo")
    options = ("--home-agent", HOME_AGENT, "--home-prefix", HOME_PREFIX, "--protocol", "mipv4", "--lease", "10")
    with within(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as registrations:
        registrations.bind((HOME_AGENT, 434))
        with bridge("--controller", near_controller.url, *options, command=("ip", "netns", "exec", NETNS)) as process:
            process.wait("snapshot-sent")
            announced = near_controller.home_agents[HOME_AGENT]
            assert (announced["protocols"], announced["status"]) == (["mipv4"], "up")
            assert announced["home_prefixes"] == [HOME_PREFIX]
            registrations.close()
            near_controller.wait(lambda: near_controller.home_agents[HOME_AGENT]["status"] == "ha-down")
            assert "no process receives Registration Requests any more" in process.wait("ha-down")
