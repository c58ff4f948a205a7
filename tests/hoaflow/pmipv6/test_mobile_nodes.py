# SPDX-License-Identifier: Apache-2.0
"""The file of mobile nodes."""

from pathlib import Path

import pytest

from hoaflow.pmipv6.mobile_nodes import ProfileError, load_mobile_nodes
from tests.support.proxy_mobility import ADDRESS, MOBILE_NODE, MOBILE_NODES, PREFIX


def load(directory: Path, text: str) -> object:
    path = directory / "mobile-nodes.toml"
    path.write_text(text)
    return load_mobile_nodes(path)


def test_a_mobile_nodes_address_follows_from_prefix_and_mac(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(MOBILE_NODES)
    node = load_mobile_nodes(path)[MOBILE_NODE]
    assert (node.prefixes, node.address(PREFIX)) == ((PREFIX,), ADDRESS)


NODE = '["{name}"]\nprefixes = ["{prefix}"]\nlink_layer_address = "{mac}"\n'


def node(name: str = "a", prefix: str = PREFIX, mac: str = "02:00:00:00:00:01") -> str:
    return NODE.format(name=name, prefix=prefix, mac=mac)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "not TOML"),
        ('["a"]\nprefixes = []\n', "exactly prefixes and link_layer_address"),
        (node(prefix="2001:db8::1/64"), "has host bits set"),
        (node(prefix="2001:db8::/56"), "expected a unicast /64"),
        (node(prefix="fe80::/64"), "expected a unicast /64"),
        (node(mac="02:00:00:00:00"), "expected a MAC address"),
        (node(mac="01:00:5e:00:00:01"), "expected a MAC address of one station"),
        (node() + node("b", mac="02:00:00:00:00:02"), '"b".* and .*"a".* both have 2001:db8:f1:1::/64'),
        (node() + node("b", prefix="2001:db8:f1:2::/64"), "both have 02:00:00:00:00:01"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="absent"):
        load_mobile_nodes(tmp_path / "absent")
