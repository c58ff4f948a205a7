# SPDX-License-Identifier: Apache-2.0
"""The file of mobile nodes."""

from pathlib import Path

import pytest

from hoaflow.mobile_access_gateway.advertisement import advertisement
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.pmipv6.messages import ProxyBindingUpdate
from hoaflow.pmipv6.mobile_nodes import ProfileError, load_mobile_nodes
from hoaflow.pmipv6.wire import build
from tests.support.proxy_mobility import ADDRESS, LMA, MAG_1, MOBILE_NODE, MOBILE_NODES, PREFIX


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
        (node(name=""), "expected an identifier of 1 to 253 octets, got 0"),
        (node(name="é" * 127), "expected an identifier of 1 to 253 octets, got 254"),
        (node(prefix='", "'.join(f"2001:db8:f1:{n:x}::/64" for n in range(33))), "a list of 1 to 32 prefixes"),
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


def test_messages_of_the_largest_profile_fit_into_the_least_mtu(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(node(name="a" * 253, prefix='", "'.join(f"2001:db8:f1:{n:x}::/64" for n in range(32))))
    (largest,) = load_mobile_nodes(path).values()
    update = ProxyBindingUpdate(
        LMA, MAG_1, 1, 60, largest.identifier, largest.prefixes, 4, 3, largest.link_layer, "fe80::1", 1
    )
    assert len(build(update, SecurityAssociation(256, bytes(16)))) <= 1280
    assert len(advertisement("fe80::1", None, largest.link_layer, largest.prefixes, 60, 1460)) <= 1280
