# SPDX-License-Identifier: Apache-2.0
"""Home agent and mobile node in network namespaces: real signalling, real tunnels."""

import os
import signal
from pathlib import Path

from tests.support.mobility import CARE_OF_1, CARE_OF_2, CN, HOME_ADDRESS, HOME_AGENT, TIMEOUT, Lab
from tests.support.roaming import away_from_home, comes_home, key_file, reachable, registers
from tests.support.scrape import Scrape


def neighbour(lab: Lab) -> str:
    """Return the link-layer address that the host on the home link has for the home address."""
    return lab.run("hh", f"ip -6 neigh show {HOME_ADDRESS} nud all").partition("lladdr ")[2].split(" ")[0]


def mac(lab: Lab, name: str, interface: str) -> str:
    return lab.run(name, f"cat /sys/class/net/{interface}/address").strip()


def kernel_state(lab: Lab, name: str) -> str:
    """Return everything that a home agent or mobile node could leave in the kernel."""
    commands = (
        "ip -6 rule",
        "ip -6 route show table main proto 16",
        "ip -6 route show table 41",
        "ip -6 route show table 42",
        "ip -6 route show table 78",
        "ip -6 neigh show proxy",
        "nft list ruleset",
        "ip -o link",
        "sysctl net.ipv6.conf.all.forwarding",
    )
    return "".join(lab.run(name, command, check=False) for command in commands)


def kernel_settings(lab: Lab) -> str:
    """Return the settings that a home agent changes, but for an interface's own."""
    names = ("ipv6.conf.all.forwarding", "ipv6.conf.all.proxy_ndp", "ipv4.conf.all.forwarding")
    return lab.run("ha", f"sysctl {' '.join(f'net.{name}' for name in names)}")


def test_roaming(lab: Lab, tmp_path: Path) -> None:
    before = {name: kernel_state(lab, name) for name in ("ha", "mn")}
    lab.run("ha", "nft add table ip6 hoaflow_ha_owner")  # as a killed pod leaves it, with drops in it
    keys = key_file(tmp_path)
    home_agent = lab.home_agent("--keys", keys)
    node = lab.mobile_node("--keys", keys, "--lifetime", "60")
    own, agents = mac(lab, "mn", "m0"), mac(lab, "ha", "hl")

    lab.link("m0", "up")
    node.event("moved", link="m0")
    reachable(lab)
    assert neighbour(lab) == own

    registers(lab, node, "m1", CARE_OF_1)
    assert neighbour(lab) == agents  # by the unsolicited advertisement: nobody has asked yet
    reachable(lab)
    assert lab.ping("mn", HOME_AGENT) == 3
    acknowledged = home_agent.logged("event=binding-ack-sent", "status=0", f"care_of_address={CARE_OF_1}")
    assert acknowledged.endswith(" lifetime=60")
    assert b"coa 2001:db8:2:0:0:0:0:2 flags AH--\n" in lab.console("bc")
    # Nothing is sent untunnelled, and what comes from the tunnel has lost one hop only.
    assert "counter packets 0" in lab.run("mn", "nft list chain ip6 hoaflow_mn postrouting")

    registers(lab, node, "m2", CARE_OF_2)
    reachable(lab)
    assert b"coa 2001:db8:3:0:0:0:0:2 flags AH--\n" in lab.console("bc")

    comes_home(lab, node)
    reachable(lab)
    assert neighbour(lab) == own
    assert lab.console("bc") == b"mip6d> mip6d> \0"

    registers(lab, node, "m1", CARE_OF_1)
    reachable(lab)

    assert node.stop() == 0
    assert home_agent.stop() == 0
    lab.link("m1", "down")
    assert {name: kernel_state(lab, name) for name in ("ha", "mn")} == before | {"mn": kernel_state(lab, "mn")}
    assert "2001:db8" not in kernel_state(lab, "mn") + lab.run("mn", "ip -6 address")


def test_metrics_tell_what_it_carries(lab: Lab, tmp_path: Path) -> None:
    before = kernel_state(lab, "ha")
    keys = key_file(tmp_path)
    home_agent = lab.home_agent("--keys", keys, "--metrics", "127.0.0.1:9109")
    node = lab.mobile_node("--keys", keys)
    registers(lab, node, "m1", CARE_OF_1)
    assert lab.ping("cn", HOME_ADDRESS) == 3
    assert lab.get("ha", "http://127.0.0.1:9109/readyz") == "ok\n"

    now = Scrape(lab.get("ha", "http://127.0.0.1:9109/metrics"))
    assert now("hoaflow_ha_bindings") == 1
    assert now("hoaflow_ha_binding_updates_total") >= 1
    assert now("hoaflow_ha_binding_acknowledgements_total", status="0") == 1
    for direction in ("uplink", "downlink"):
        assert now("hoaflow_ha_tunnel_packets_total", direction=direction) == 3, direction
        # An echo of 56 bytes, its ICMPv6 header, and an IPv6 header inside and one outside.
        assert now("hoaflow_ha_tunnel_bytes_total", direction=direction) == 3 * (56 + 8 + 40 + 40), direction
    assert now("hoaflow_ha_spoofed_packets_total") == 0
    assert "2001:db8" not in now.text
    assert home_agent.stop() == 0
    assert kernel_state(lab, "ha") == before


def test_a_binding_expires_when_its_mobile_node_is_gone(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure", "--max-lifetime", "4")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    node.stop(kill=True)
    home_agent.logged("event=binding-removed", "reason=expired")
    assert lab.run("ha", "ip -6 route show proto 16") == ""
    assert lab.run("ha", "ip -6 neigh show proxy") == ""


def test_a_link_that_goes_down_and_up_at_once_is_taken_anew(lab: Lab) -> None:
    _, node = away_from_home(lab)
    since = len(node.out.lines)
    lab.run("mn", "ip -batch /dev/stdin", stdin="link set m1 down\nlink set m1 up\n")
    node.event("registered", since)
    assert lab.ping("cn", HOME_ADDRESS) == 3


def test_a_second_home_agent_leaves_the_first_one_alone(lab: Lab) -> None:
    away_from_home(lab)
    before = lab.run("ha", "ip -6 rule"), lab.run("ha", "ip -6 neigh show proxy"), lab.run("ha", "nft list tables")
    second = lab.start_home_agent("--insecure", "--no-console")
    assert second.process.wait(TIMEOUT) == 1
    second.logged("cannot start", "runs in this network namespace already")
    assert before == (
        lab.run("ha", "ip -6 rule"),
        lab.run("ha", "ip -6 neigh show proxy"),
        lab.run("ha", "nft list tables"),
    )
    reachable(lab)


def test_killed_and_started_again(lab: Lab) -> None:
    before = kernel_settings(lab)
    home_agent, node = away_from_home(lab, "--lifetime", "8")
    assert kernel_settings(lab) != before
    home_agent.stop(kill=True)
    assert lab.ping("cn", HOME_ADDRESS) == 3  # its kernel goes on
    since = len(node.out.lines)
    restarted = lab.home_agent("--insecure")
    # What the killed one left is gone: there is no binding for it.
    assert lab.run("ha", "ip -6 route show proto 16") == ""
    assert lab.run("ha", "ip -6 neigh show proxy") == ""
    node.event("registered", since)
    reachable(lab)
    lab.run("ha", "nft flush ruleset")  # with the record of what the settings were
    restarted.logged("event=mended", "former value")
    restarted.stop(kill=True)
    assert lab.home_agent("--insecure").stop() == 0
    assert "hoaflow" not in kernel_state(lab, "ha")
    assert kernel_settings(lab) == before


def test_another_home_link_leaves_the_settings_of_the_former_one_as_they_were(lab: Lab) -> None:
    before = kernel_settings(lab)
    lab.run("ha", "sysctl -qw net.ipv6.conf.hl.disable_ipv6=1")
    lab.home_agent("--insecure").stop(kill=True)
    lab.run("ha", "ip link add other type veth peer name end")
    for name in ("other", "end"):
        lab.run("ha", f"ip link set {name} up")
    own = ["--home-agent", "2001:db8:98::1", "--home-prefix", "2001:db8:98::/64", "--home-link", "other"]
    home_agent = lab.start_home_agent("--insecure", *own)
    home_agent.logged("event=started")
    assert lab.run("ha", "sysctl -n net.ipv6.conf.hl.disable_ipv6") == "1\n"
    assert home_agent.stop() == 0
    assert kernel_settings(lab) == before


def test_killed_and_started_again_with_its_state(lab: Lab, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    home_agent = lab.home_agent("--insecure", "--journal", journal)
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    home_agent.stop(kill=True)
    since = len(node.out.lines)
    lab.home_agent("--insecure", "--journal", journal)
    assert not any("registered" in line for line in node.out.lines[since:])  # it did not have to register again
    assert b"coa 2001:db8:2:0:0:0:0:2 flags AH--\n" in lab.console("bc")
    assert lab.ping("cn", HOME_ADDRESS) == 3
    assert lab.ping("mn", CN) == 3


def test_tunnels_survive_their_uplink(lab: Lab) -> None:
    away_from_home(lab)
    lab.run("ha", "ip link set u0 down")
    lab.run("ha", "ip link set u0 up")
    lab.run("ha", "ip -6 address replace 2001:db8:10::2/64 dev u0 nodad")
    lab.run("ha", "ip -6 route replace default via 2001:db8:10::1")
    assert lab.ping("cn", HOME_ADDRESS) > 0


def test_a_route_that_somebody_removed_comes_back(lab: Lab) -> None:
    home_agent, _ = away_from_home(lab)
    lab.run("ha", f"ip -6 route del {HOME_ADDRESS} proto 16")
    lab.run("ha", "ip link set u0 mtu 1400")  # any event of an interface has it look
    home_agent.logged("event=mended", f"routes of table 254 missing, as {HOME_ADDRESS}")


def test_a_handover_is_taken_just_after_the_ruleset_was_flushed(lab: Lab) -> None:
    home_agent, node = away_from_home(lab)
    os.kill(home_agent.process.pid, signal.SIGSTOP)  # so that the Binding Update comes before it can have looked
    lab.run("ha", "nft flush ruleset")
    since = len(node.out.lines)
    lab.link("m1", "down")
    lab.link("m2", "up")
    node.event("binding-update-sent", since, care_of_address=CARE_OF_2)
    os.kill(home_agent.process.pid, signal.SIGCONT)
    node.event("registered", since, care_of_address=CARE_OF_2)
    assert not any("event=binding-failed" in line for line in home_agent.log.lines)
    reachable(lab)
