# SPDX-License-Identifier: Apache-2.0
"""Read what the kernel says: of links, addresses, routes, rules, neighbours, nftables and IPsec policies.

The kernel is trusted; but it may be newer than hoaflow, have families that hoaflow has not, and other programs make
what it tells of.
"""

from ha_bridge.ipsec_policies import Protection, messages, protecting_policy
from hoaflow.linux import RTM_NEWROUTE
from hoaflow.tunnel import actual_state, nfnetlink, rtnetlink

# A home agent, home addresses and a care-of address.
BRIDGED = (
    ("2001:db8:99::1", ("2001:db8:99::100", "2001:db8:aa::/64"), "2001:db8:2::2"),
    ("10.99.0.1", ("10.99.0.100", "10.99.1.0/24"), "10.2.0.2"),
)
RTM_NEWLINK, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWRULE = 16, 20, 28, 32
READERS = {
    RTM_NEWLINK: (actual_state._link,),
    RTM_NEWADDR: (actual_state._address,),
    RTM_NEWNEIGH: (actual_state._neighbour,),
    RTM_NEWRULE: (actual_state.found_rule,),
    RTM_NEWROUTE: (actual_state.found_route, rtnetlink._route),
}


def routing(data: bytes) -> None:
    """Read messages as `RouteSocket.listing` gets them."""
    for kind, _, payload in rtnetlink.unpacked(data):
        for read in READERS.get(kind, ()):
            read(payload)


def nftables(data: bytes) -> None:
    """Read messages of nftables: facts, elements, expressions of rules."""
    for _, _, payload in rtnetlink.unpacked(data):
        facts = nfnetlink._facts(payload)
        list(nfnetlink.parsed(payload))
        for _, expression in rtnetlink.attributes(facts.get(nfnetlink.RULE_EXPRESSIONS, b"")):
            nfnetlink._expression(expression, {})


def bridge_policies(data: bytes) -> None:
    """Read IPsec policies; whatever they are, it can be told whom they protect."""
    found = [policy for kind, payload in messages(data) if (policy := protecting_policy(kind, payload)) is not None]
    for home_agent, home_addresses, care_of_address in BRIDGED:
        protection = Protection(found, home_agent)
        for home_address in home_addresses:
            protection.covers(home_address, care_of_address)
