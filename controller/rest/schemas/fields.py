# SPDX-License-Identifier: Apache-2.0
"""Declare the types of the fields that requests and answers share, with bounds and meaning."""

import re
from typing import Annotated, Literal

from msgspec import Meta

from controller.core.protocols import Protocol, Tunnel
from hoaflow.sequence import SEQUENCE_SPACE

# RFC 6275 counts lifetimes in 16 bits of 4 seconds.
LONGEST_LIFETIME = 0xFFFF * 4
DATAPATH_ID = re.compile(r"^[0-9a-fA-F]{1,16}$", re.ASCII)

IpAddress = Annotated[
    str,
    Meta(
        description="An IPv6 or IPv4 address in any valid form; in answers, in that of RFC 5952.",
        examples=["2001:db8:2::2", "10.2.0.2"],
        extra_json_schema={"format": "ip-address"},
    ),
]
CareOfAddress = Annotated[
    str,
    Meta(
        description="A care-of address, or the Proxy-CoA of a MAG. Its family is that of `home_agent`, but where the"
        " binding is withheld for its `tunnel`.",
        examples=["2001:db8:2::2", "10.2.0.2"],
        extra_json_schema={"format": "ip-address"},
    ),
]
HomeAddress = Annotated[
    str,
    Meta(
        description="A home address, IPv6 or IPv4, or a mobile network prefix or home network prefix (RFC 5213).",
        examples=["2001:db8:99::100", "2001:db8:aa:1::/64", "10.99.0.100"],
        extra_json_schema={"format": "home-address"},
    ),
]
HomePrefix = Annotated[
    str,
    Meta(
        description="A prefix of a home agent.",
        examples=["2001:db8:99::/64", "10.99.0.0/24"],
        extra_json_schema={"format": "home-address"},
    ),
]
DatapathId = Annotated[
    str,
    Meta(
        description="The OpenFlow datapath id of a router's switch, hexadecimal; in answers, with all 16 digits.",
        pattern=DATAPATH_ID.pattern,
        examples=["0000000000000001"],
    ),
]
MacAddress = Annotated[
    str, Meta(description="A MAC address.", pattern="^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$", max_length=17)
]
PortName = Annotated[str, Meta(description="The name of an OVS port.", min_length=1, max_length=255)]
MemberName = Annotated[str, Meta(description="The name of a controller in its cluster.", examples=["controller-1"])]
Lifetime = Annotated[
    int,
    Meta(description="Seconds left when reported; 0 removes.", ge=0, le=LONGEST_LIFETIME, examples=[60]),
]
Sequence = Annotated[
    int,
    Meta(
        description="That of the Binding Update (RFC 6275). It orders updates of `mipv6` only.",
        ge=0,
        lt=SEQUENCE_SPACE,
        examples=[31552],
    ),
]
ProtocolName = Annotated[
    Protocol,
    Meta(
        description="The protocol by which the anchor learns of the binding: `mipv6` (RFC 6275), `pmipv6` (RFC 5213) or"
        " `mipv4` (RFC 5944)."
    ),
]
TunnelName = Annotated[
    Tunnel,
    Meta(
        description="What carries the binding's packets; by default IP-in-IP of the home agent's family: `ipv6` (RFC"
        " 2473) or `ipv4` (RFC 2003). In any other the binding is `withheld`: `ipv4` of a home agent with an IPv6"
        " address (RFC 5555, RFC 5844), `gre` (RFC 5944; with keys RFC 5845), `minimal` (RFC 2004), `udp` (RFC 3519,"
        " RFC 5555, RFC 5844)."
    ),
]
Timestamp = Annotated[
    int,
    Meta(
        description="`pmipv6` only: the Timestamp option of the Proxy Binding Update as it is (RFC 5213 section 8.8),"
        " in units of 1/65536 s since 1970-01-01 00:00 UTC. It orders updates.",
        ge=0,
        le=(1 << 63) - 1,
        examples=[116391936000000],
    ),
]
# Numbers of 64 bits are more than msgspec can bound.
LARGEST_IDENTIFICATION = (1 << 64) - 1
Identification = Annotated[
    int,
    Meta(
        description="`mipv4` only: the identification of the Registration Request (RFC 5944 section 5.7), a number of"
        " 64 bits. It orders updates, so leave it out where it is a nonce and no timestamp.",
        ge=0,
        examples=[16785407223783030784],
        extra_json_schema={"maximum": LARGEST_IDENTIFICATION},
    ),
]
UpdateNumber = Annotated[
    int, Meta(description="The sequence number; of `mipv4`, the identification.", ge=0, examples=[31552])
]
ReverseTunnel = Annotated[
    bool,
    Meta(
        description="`mipv4` only: whether a reverse tunnel is registered (RFC 3024, flag T), by default not. Without,"
        " routers encapsulate for the mobile node and take nothing out of its tunnel."
    ),
]
Simultaneous = Annotated[
    bool,
    Meta(
        description="`mipv4` only: whether the mobile node has more care-of addresses than this one (RFC 5944, flag S)."
        " The binding is `withheld` then."
    ),
]
LastChange = Annotated[
    int,
    Meta(
        description="Number of the last change that the bridge has seen at its home agent. Gates are renewed only once"
        " everything up to it has been reported, and is in the switch or refused by it.",
        ge=0,
        lt=10**18,
    ),
]
ReportedUpTo = Annotated[
    int,
    Meta(
        description="With this call everything up to the change of this number has been reported. All bindings are of"
        " one home agent then.",
        ge=0,
        lt=10**18,
    ),
]
OwnerName = Annotated[
    str,
    Meta(
        description="The name of a pod, as of `hoaflow-ha --pod`.",
        min_length=1,
        max_length=253,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        examples=["home-agent-1"],
    ),
]
OwnerRevision = Annotated[
    int,
    Meta(
        description="etcd's revision when the pod became the owner: `mod_revision` of the owner's key.",
        ge=1,
        lt=10**18,
    ),
]
Withheld = Annotated[
    str,
    Meta(
        description="The reason why the bridge leaves the binding to the home agent; it has no flows then.",
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        examples=["IPsec: the home agent's kernel protects its payload"],
    ),
]
FlowKind = Annotated[
    Literal["miss", "guard", "gate", "downlink", "uplink", "verify", "drain"],
    Meta(description="The purpose of a flow; the lowest byte of its cookie."),
]
Count = Annotated[int, Meta(ge=0)]
Revision = Annotated[int, Meta(description="A state of a router's tunnel list.", ge=0, lt=10**18)]
DetectedAgo = Annotated[
    float,
    Meta(
        description="Seconds from the first sign of the change at the home agent to the request, by the bridge's clock;"
        " for the metrics.",
        ge=0,
        le=3600,
    ),
]

SecondsLeft = Annotated[float, Meta(description="Seconds from now.", ge=0)]
Time = Annotated[
    str,
    Meta(
        description="A time in RFC 3339 form, UTC.",
        examples=["2025-01-01T12:00:00.000Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
Cursor = Annotated[str, Meta(description="Begin of the next page: `cursor` of the next request.")] | None
