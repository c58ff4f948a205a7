# SPDX-License-Identifier: Apache-2.0
"""The home agent's ip6tnl plane under hands that take away, change and double what it declared; packets are counted."""

from tests.support.mobility import CARE_OF_2, HOME_ADDRESS, HOME_AGENT, Lab
from tests.support.sabotage import DOUBLE, LOCAL_RULES, Sabotage

TUNNELLED = f"to {HOME_AGENT} ipproto ipv6"
IP6TNL = {
    "tunnel devices": [
        "ip link del hoatnl1",
        "ip link set hoatnl1 down",
        "ip link set hoatnl1 mtu 1290",
        "sysctl -qw net.ipv6.conf.hoatnl1.forwarding=0",
        "sysctl -qw net.ipv6.conf.hoatnl1.disable_ipv6=1",
        f"ip link set hoatnl1 type ip6tnl local {HOME_AGENT} remote {CARE_OF_2}",
        f"ip link add hoatnl9 type ip6tnl local {HOME_AGENT} remote {CARE_OF_2}",
    ],
    "routes of home addresses in table 254": [
        f"ip -6 route del {HOME_ADDRESS} proto 16",
        f"ip -6 route replace {HOME_ADDRESS} dev hl metric 192 proto 16",
        DOUBLE,
    ],
    "rule 5 (IPv6) looks into table 255": [
        "ip -6 rule del pref 5",
        f"ip -6 rule add pref 5 {TUNNELLED} lookup 77",
    ],
    "rule 10 (IPv6) looks into table 255": [
        *LOCAL_RULES,
        f"ip -6 rule add pref 10 {TUNNELLED} lookup 77",
    ],
}


def test_whatever_is_done_to_the_ip6tnl_plane_is_found_and_mended() -> None:
    with Lab() as lab:
        assert Sabotage(lab, "ip6tnl", IP6TNL).run() == []
