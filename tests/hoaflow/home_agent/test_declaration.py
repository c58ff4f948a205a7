# SPDX-License-Identifier: Apache-2.0
"""The home agent's seg6 plane under hands that take away, change and double what it declared; packets are counted."""

from collections.abc import Sequence

from tests.support.dual_stack import HOME_AGENT as IPV4_HOME_AGENT
from tests.support.dual_stack import IPV4_HOME_ADDRESS, NODE_OPTIONS, OPTIONS, DualStackLab
from tests.support.mobility import CARE_OF_2, HOME_ADDRESS, HOME_AGENT
from tests.support.sabotage import DOUBLE, LOCAL_RULES, Sabotage

SEG6: dict[str, Sequence[str]] = {
    "link hoaflow-out - hoaflow-in added": ["ip link del hoaflow-out", "ip link del hoaflow-in"],
    "MAC address of hoaflow-out set to 02:68:6f:61:00:01": ["ip link set hoaflow-out address 02:00:00:00:00:07"],
    "MAC address of hoaflow-in set to 02:68:6f:61:00:02": ["ip link set hoaflow-in address 02:00:00:00:00:07"],
    "link hoaflow-out released": ["ip link set hoaflow-out master hl"],
    "link hoaflow-in released": ["ip link set hoaflow-in master hl"],
    "MTU of hoaflow-out set to the tunnel's": ["ip link set hoaflow-out mtu 1280"],
    "MTU of hoaflow-in set to the tunnel's": ["ip link set hoaflow-in mtu 1280"],
    "net.ipv6.conf.hoaflow-out.disable_ipv6 = 0": ["sysctl -qw net.ipv6.conf.hoaflow-out.disable_ipv6=1"],
    "net.ipv6.conf.hoaflow-in.disable_ipv6 = 0": ["sysctl -qw net.ipv6.conf.hoaflow-in.disable_ipv6=1"],
    "link hoaflow-out up": ["ip link set hoaflow-out down"],
    "link hoaflow-in up": ["ip link set hoaflow-in down"],
    "neighbour fe80::2 on hoaflow-out is 02:68:6f:61:00:02": [
        "ip -6 neigh del fe80::2 dev hoaflow-out",
        "ip -6 neigh replace fe80::2 dev hoaflow-out lladdr 02:00:00:00:00:07 nud permanent",
    ],
    "net.ipv6.conf.hoaflow-in.forwarding = 1": ["sysctl -qw net.ipv6.conf.hoaflow-in.forwarding=0"],
    f"tunnel source {HOME_AGENT}": ["ip sr tunsrc set 2001:db8:10::2"],
    "the outer header's filter set up": [
        "nft delete table ip6 hoaflow_outer_header",
        "nft add rule ip6 hoaflow_outer_header postrouting drop",
    ],
    "the exemption of tunnels from connection tracking set up": [
        "nft delete table ip6 hoaflow_ha_untracked",
        "nft add rule ip6 hoaflow_ha_untracked forward drop",
    ],
    "routes of home addresses in table 254": [
        f"ip -6 route del {HOME_ADDRESS} proto 16",
        f"ip -6 route replace {HOME_ADDRESS} encap seg6 mode encap.red segs {CARE_OF_2} dev hoaflow-in proto 16",
        DOUBLE,
    ],
    "routes of home addresses in table 42": [
        "ip -6 route flush table 42",
        f"ip -6 route replace {HOME_ADDRESS} dev hl table 42",
        f"{DOUBLE} table 42",
        "ip -6 route add 2001:db8:1::/64 dev hl table 42",
    ],
    "rule 6 (IPv6) looks into table 42": [
        "ip -6 rule del pref 6",
        "ip -6 rule add pref 6 lookup 77",
    ],
    f"decapsulation for {HOME_AGENT} to 0": ["ip -6 route flush table 41"],
    "no other routes of table 41": [f"ip -6 route add {HOME_AGENT} dev hl table 41 proto static metric 1"],
    "rule 10 (IPv6) looks into table 255": LOCAL_RULES,
    "rule 5 (IPv6) looks into table 41": [
        "ip -6 rule del pref 5",
        f"ip -6 rule add pref 5 to {HOME_AGENT} lookup 77",
    ],
    # What a tunnel carries for the home agent itself.
    f"route {HOME_AGENT}/128 of table 45 via fe80::2 dev hoaflow-out": ["ip -6 route flush table 45"],
    "no other routes of table 45": [f"ip -6 route add {HOME_AGENT} dev hl table 45 proto static metric 1"],
    f"decapsulation for {HOME_AGENT} to 45": ["ip -6 route flush table 44"],
    "no other routes of table 44": [f"ip -6 route add {HOME_AGENT} dev hl table 44 proto static metric 1"],
    "rule 3 (IPv6) looks into table 44": ["ip -6 rule del pref 3", f"ip -6 rule add pref 3 to {HOME_AGENT} lookup 77"],
}


# Of IPv4 home addresses.
IPV4: dict[str, Sequence[str]] = {
    "rule 32766 (IPv4) looks into table 254": ["ip -4 rule flush"],
    "net.ipv4.conf.all.forwarding = 1": ["sysctl -qw net.ipv4.conf.all.forwarding=0"],
    "net.ipv4.conf.hl.forwarding = 1": ["sysctl -qw net.ipv4.conf.hl.forwarding=0"],
    "net.ipv4.conf.hl.rp_filter = 2": ["sysctl -qw net.ipv4.conf.hl.rp_filter=1"],
    "net.ipv4.conf.hoaflow-in.rp_filter = 2": ["sysctl -qw net.ipv4.conf.hoaflow-in.rp_filter=1"],
    "net.ipv4.conf.hoaflow-in.accept_local = 1": ["sysctl -qw net.ipv4.conf.hoaflow-in.accept_local=0"],
    "address 192.0.0.8/32 on hoaflow-in": ["ip -4 address flush dev hoaflow-in"],
    "routes of IPv4 home addresses in table 254": [
        f"ip -4 route del {IPV4_HOME_ADDRESS} proto 16",
        f"ip -4 route add {IPV4_HOME_ADDRESS} dev hl proto static metric 1",
    ],
    "routes of IPv4 home addresses in table 42": [
        "ip -4 route flush table 42",
        f"ip -4 route add {IPV4_HOME_ADDRESS} dev hl table 42 metric 1",
    ],
    "rule 6 (IPv4) looks into table 42": ["ip -4 rule del pref 6", "ip -4 rule add pref 6 lookup 77"],
    f"decapsulation for {HOME_AGENT} to 0.0.0.0": ["ip -6 route flush table 43"],
    "no other routes of table 43": [f"ip -6 route add {HOME_AGENT} dev hl table 43 proto static metric 1"],
    "rule 4 (IPv6) looks into table 43": ["ip -6 rule del pref 4", f"ip -6 rule add pref 4 to {HOME_AGENT} lookup 77"],
    f"address {IPV4_HOME_AGENT}/24 dev hl": [f"ip address del {IPV4_HOME_AGENT}/24 dev hl"],
    "route 10.99.0.0/24 dev hl": ["ip -4 route del 10.99.0.0/24 dev hl"],
    "unreachable IPv4 prefixes of mobile nodes": ["ip -4 route del unreachable 10.99.0.0/24"],
    "IPv4 proxy entries on the home link": [f"ip neigh del proxy {IPV4_HOME_ADDRESS} dev hl"],
    "the check of sources of IPv4 packets out of tunnels": ["sysctl -qw net.ipv4.conf.u0.rp_filter=1"],
}


def test_whatever_is_done_to_the_seg6_plane_is_found_and_mended() -> None:
    with DualStackLab() as lab:
        assert Sabotage(lab, "seg6", SEG6 | IPV4, OPTIONS, NODE_OPTIONS).run() == []
