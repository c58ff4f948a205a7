# SPDX-License-Identifier: Apache-2.0
"""Lay out the addresses that all topologies share (RFC 3849 documentation prefix; management: RFC 5737)."""

import re

HOME_PREFIX = "2001:db8:99::/64"
HOME_AGENT = "2001:db8:99::1"
HOME_ADDRESS = "2001:db8:99::100"
OTHER_HOME_ADDRESS = "2001:db8:99::101"
"""Of a second mobile node."""

# Of Proxy Mobile IPv6: the anchor, the prefix that is routed to it, and what it gives the mobile node.
ANCHOR = "2001:db8:98::1"
ANCHORED_PREFIX = "2001:db8:f1::/48"
HOME_NETWORK_PREFIX = "2001:db8:f1:1::/64"
MOBILE_NODE_MAC = "02:00:00:00:0a:01"
MOBILE_NODE_ADDRESS = "2001:db8:f1:1:0:ff:fe00:a01"
"""Made of prefix and MAC address (RFC 4291, appendix A)."""

# Of mobile networks (RFC 3963): the one behind the mobile node, and a node in it.
MOBILE_NETWORK = "2001:db8:aa:1::/64"
MOBILE_NETWORK_GATEWAY = "2001:db8:aa:1::1"
MOBILE_NETWORK_NODE = "2001:db8:aa:1::100"

# Of distributed mobility: interface identifiers on each site's link (see `site_address`).
SITE_HOME_AGENT, SITE_ROUTER = "1", "fe"
SITE_HOME_ADDRESS, SITE_CARE_OF_ADDRESS = "100", "200"

STRANGER = "2001:db8:2::66"

CORRESPONDENT = "2001:db8:1::2"
CORRESPONDENT_LINK = "2001:db8:1::/64"
CORRESPONDENT_GATEWAY = "2001:db8:1::1"

# Management never crosses the data network: it is IPv4, on a bridge of its own in the root namespace.
MANAGEMENT_ROOT = "192.0.2.1"
MANAGEMENT_HOME_AGENT = "192.0.2.2"
MANAGEMENT_PREFIX_LENGTH = 24
OPENFLOW_PORT = 6653


LENGTHS = {"48": "16", "64": "24", "128": "32"}


def ipv4(address: str) -> str:
    """Return the IPv4 address that stands for one of these, `10.LINK.0.NODE`, with the length of a prefix.

    What is IPv4 already, or no address, stays.

    >>> ipv4("2001:db8:99::100/64")
    '10.99.0.100/24'
    >>> ipv4("2001:db8:c9::/64")
    '10.201.0.0/24'
    """
    found = re.fullmatch(r"2001:db8:(\w+)::(\d*)(?:/(\d+))?", address)
    if found is None:
        return address
    link, node, length = found.groups()
    number = int(link) if link.isdigit() else int(link, 16)
    return f"10.{number}.0.{node or 0}" + (f"/{LENGTHS[length]}" if length else "")


def management_router(number: int) -> str:
    """Return the IPv4 address of router rNUMBER on the management network."""
    return f"192.0.2.{10 + number}"


def management_home_agent(site: int) -> str:
    """Return the IPv4 address of a site's home agent on the management network."""
    return f"192.0.2.{2 + site}"


def site_prefix(site: int) -> str:
    """Return the prefix (/64) of the link of SITE, counted from 1: the home prefix of its home agent."""
    return f"2001:db8:9{site:x}::/64"


def site_address(site: int, identifier: str) -> str:
    """Return the address with an interface identifier on the link of SITE.

    >>> site_address(2, SITE_HOME_ADDRESS)
    '2001:db8:92::100'
    """
    return f"2001:db8:9{site:x}::{identifier}"


def site_network(site: int) -> str:
    """Return the prefix (/64) of the other network of SITE, where its correspondent node is."""
    return f"2001:db8:a{site:x}::/64"


def site_gateway(site: int) -> str:
    """Return the router's address on `site_network(site)`."""
    return f"2001:db8:a{site:x}::1"


def site_correspondent(site: int) -> str:
    """Return the address of the correspondent node of SITE."""
    return f"2001:db8:a{site:x}::2"


def foreign_link(number: int) -> str:
    """Return the prefix (/64) that foreign link NUMBER advertises, counted from 1."""
    return f"2001:db8:{number + 1:x}::/64"


def foreign_gateway(number: int) -> str:
    """Return the default router's address on foreign link NUMBER."""
    return f"2001:db8:{number + 1:x}::1"


def care_of_address(number: int) -> str:
    """Return the address that the mobile node configures when it visits foreign link NUMBER."""
    return f"2001:db8:{number + 1:x}::100"


def foreign_agent(number: int) -> str:
    """Return the address of foreign agent NUMBER on foreign link NUMBER, which is its care-of address."""
    return f"2001:db8:{number + 1:x}::10"


def foreign_agent_side(number: int) -> str:
    """Return the address of foreign agent NUMBER on its own link, where mobile nodes need none.

    >>> ipv4(foreign_agent_side(1))
    '10.209.0.1'
    """
    return f"2001:db8:d{number:x}::1"


def core_link(number: int) -> str:
    """Return the prefix (/64) between the core and router NUMBER, or between the core and the home agent (9)."""
    return f"2001:db8:c{number:x}::/64"


def core_side(number: int) -> str:
    """Return the core's address on `core_link(number)`, the next hop of that router."""
    return f"2001:db8:c{number:x}::1"


def router_side(number: int) -> str:
    """Return the address of router NUMBER, or of the home agent (9), on `core_link(number)`."""
    return f"2001:db8:c{number:x}::2"
