# SPDX-License-Identifier: Apache-2.0
"""What tests of roaming do and look at: a key file, moves between links, what is reachable."""

from pathlib import Path

from tests.support.mobility import CARE_OF_1, CN, HOME_ADDRESS, HOST, Lab, Node

KEY = "000102030405060708090a0b0c0d0e0f"


def key_file(directory: Path, key: str = KEY, name: str = "keys.toml") -> str:
    """Return a key file for the mobile node."""
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(f'["{HOME_ADDRESS}"]\nspi = 256\nkey = "{key}"\n')
    return str(path)


def registers(lab: Lab, node: Node, interface: str, care_of_address: str) -> None:
    """Move the mobile node onto a link, where it registers."""
    since = len(node.out.lines)
    for other in ("m0", "m1", "m2"):
        if other != interface:
            lab.link(other, "down")
    lab.link(interface, "up")
    node.event("registered", since, care_of_address=care_of_address)


def away_from_home(lab: Lab, *options: str) -> tuple[Node, Node]:
    """Return a home agent and a mobile node, with these options, that has registered on its first foreign link.

    Both do without authentication.
    """
    home_agent = lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure", *options)
    registers(lab, node, "m1", CARE_OF_1)
    return home_agent, node


def comes_home(lab: Lab, node: Node) -> None:
    """Move the mobile node home, where it deregisters."""
    since = len(node.out.lines)
    lab.link("m1", "down")
    lab.link("m2", "down")
    lab.link("m0", "up")
    node.event("deregistered", since)


def reachable(lab: Lab) -> None:
    """Check that correspondent node, home link and home address reach each other."""
    assert lab.ping("cn", HOME_ADDRESS) == 3
    assert lab.ping("hh", HOME_ADDRESS) == 3
    assert lab.ping("mn", CN) == 3
    assert lab.ping("mn", HOST) == 3
