# SPDX-License-Identifier: Apache-2.0
"""Mobile networks (RFC 3963): what a mobile router may have, and packets to and from a node behind it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mobility import CARE_OF_1, CARE_OF_2, CN, HOME_ADDRESS, HOST
from tests.support.nemo import NETWORK, NODE, OTHER_NETWORK, VISITOR, NemoLab, prefix_table
from tests.support.roaming import comes_home, registers


@pytest.fixture
def lab() -> Iterator[NemoLab]:
    with NemoLab() as built:
        yield built


def network_reachable(lab: NemoLab) -> None:
    """Check that the correspondent node, the home link and a node in the mobile network reach each other."""
    assert lab.ping("cn", NODE) == 3
    assert lab.ping("hh", NODE) == 3
    assert lab.ping("nn", CN) == 3
    assert lab.ping("nn", HOST) == 3


@pytest.mark.parametrize("mode", ["explicit", "implicit"])
def test_a_node_in_a_mobile_network_is_reached_wherever_its_router_is(lab: NemoLab, tmp_path: Path, mode: str) -> None:
    home_agent = lab.home_agent("--insecure", "--mobile-networks", prefix_table(tmp_path))
    router = lab.mobile_router(*(["--implicit"] if mode == "implicit" else []))
    lab.link("m0", "up")
    router.event("moved", link="m0")
    network_reachable(lab)

    registers(lab, router, "m1", CARE_OF_1)
    network_reachable(lab)
    assert lab.ping("cn", HOME_ADDRESS) == 3
    assert b"retry 0\n MNP: 2001:db8:aa:1:0:0:0:0/64\n" in lab.console("bc")

    registers(lab, router, "m2", CARE_OF_2)
    network_reachable(lab)

    lab.run("rt", "ip link set r2 mtu 1400")
    lab.ping("cn", NODE, size=1400)
    assert "mtu 1360" in lab.run("cn", f"ip -6 route get {NODE}"), "the error is told to who can send smaller packets"

    comes_home(lab, router)
    network_reachable(lab)
    assert b"MNP" not in lab.console("bc")
    assert router.stop() == 0
    assert home_agent.stop() == 0
    assert NETWORK not in lab.run("ha", "ip -6 route show table all")
    assert "mended" not in "\n".join(home_agent.log.lines)


@pytest.mark.parametrize(
    ("table", "status"),
    [
        ({HOME_ADDRESS: [OTHER_NETWORK]}, 141),
        ({HOME_ADDRESS: [OTHER_NETWORK], "2001:db8:99::200": [NETWORK]}, 142),
        ({"2001:db8:99::200": [NETWORK]}, 140),
    ],
    ids=["nobody's", "another's", "no mobile router"],
)
def test_a_network_that_it_may_not_have_is_refused(
    lab: NemoLab, tmp_path: Path, table: dict[str, list[str]], status: int
) -> None:
    home_agent = lab.home_agent("--insecure", "--mobile-networks", prefix_table(tmp_path, table))
    router = lab.mobile_router()
    lab.link("m1", "up")
    router.event("refused", status=status)
    home_agent.logged("event=binding-ack-sent", f"status={status}")
    assert lab.console("bc") == b"mip6d> mip6d> \0"
    assert lab.ping("cn", NODE) == 0


def test_networks_outlive_a_restart_and_are_taken_from_a_router_that_leaves_them_out(
    lab: NemoLab, tmp_path: Path
) -> None:
    table = prefix_table(tmp_path, {HOME_ADDRESS: [NETWORK, OTHER_NETWORK]})
    options = ("--insecure", "--mobile-networks", table, "--journal", str(tmp_path / "journal"))
    home_agent = lab.home_agent(*options)
    router = lab.mobile_router("--lifetime", "600")
    registers(lab, router, "m1", CARE_OF_1)
    home_agent.stop(kill=True)
    home_agent = lab.home_agent(*options)
    home_agent.logged("event=binding-registered")
    assert b" MNP: 2001:db8:aa:1:0:0:0:0/64\n" in lab.console("bc")
    assert lab.ping("cn", NODE) == 3
    # Another set of networks takes the place of the former one.
    assert router.stop() == 0
    lab.link("m1", "down")
    router = lab.mobile_node("--insecure", "--mobile-network", OTHER_NETWORK)
    registers(lab, router, "m2", CARE_OF_2)
    home_agent.logged("event=binding-moved")
    assert b" MNP: 2001:db8:aa:2:0:0:0:0/64\n" in lab.console("bc")
    assert f"{NETWORK} via {HOME_ADDRESS} dev hl" in lab.run("ha", "ip -6 route show table main")

    # Until its home link is mended, the next router gets nothing back.
    home_agent.process.send_signal(signal.SIGSTOP)
    lab.run("ha", "ip link set hl down")
    for address in (HOST, NODE):
        assert "No route" in lab.run("cn", f"ping -n -c 1 -W 3 {address}", check=False)


def test_a_mobile_node_that_visits_a_mobile_network_is_reached_through_both_tunnels(
    lab: NemoLab, tmp_path: Path
) -> None:
    home_agent = lab.home_agent("--insecure", "--mobile-networks", prefix_table(tmp_path))
    router = lab.mobile_router()
    registers(lab, router, "m1", CARE_OF_1)
    visitor = lab.visitor()
    visitor.event("registered", care_of_address=NODE)
    for link, care_of_address in (("m2", CARE_OF_2), ("m1", CARE_OF_1)):
        assert lab.ping("cn", VISITOR) == 3
        assert lab.ping("nn", CN, source=VISITOR) == 3
        assert lab.ping("hh", VISITOR) == 3
        registers(lab, router, link, care_of_address)
    # What does not fit into both tunnels is answered, not lost.
    assert lab.ping("cn", VISITOR, size=1400) == 0
    assert "mtu 1420" in lab.run("cn", f"ip -6 route get {VISITOR}")
    assert lab.ping("cn", VISITOR, size=1372) == lab.ping("nn", CN, size=1372, source=VISITOR) == 3

    comes_home(lab, router)
    assert lab.ping("hh", VISITOR, size=1400) == 3  # by one tunnel
    assert visitor.stop() == router.stop() == home_agent.stop() == 0
    assert "mended" not in "\n".join(home_agent.log.lines)
