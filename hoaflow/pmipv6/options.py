# SPDX-License-Identifier: Apache-2.0
"""Add to scapy the mobility options and messages of Proxy Mobile IPv6 (RFC 5213, 5846, 5847, 6602).

scapy 2.8 knows options up to 16 and messages up to 10. Importing this module has its Binding Updates and
Acknowledgements dissect these options, too.
"""

from scapy.fields import (
    BitField,
    ByteEnumField,
    ByteField,
    FieldLenField,
    IntField,
    LongField,
    ShortField,
    StrLenField,
    XShortField,
)
from scapy.layers.inet6 import (
    IP6Field,
    MIP6OptUnknown,
    _MIP6OptAlign,
    _MobilityHeader,
    _OptionsField,
    _PhantomAutoPadField,
    ipv6nh,
    moboptcls,
)

HOME_NETWORK_PREFIX, HANDOFF_INDICATOR, ACCESS_TECHNOLOGY_TYPE, LINK_LAYER_IDENTIFIER = 22, 23, 24, 25
LINK_LOCAL_ADDRESS, TIMESTAMP, RESTART_COUNTER = 26, 27, 28
MOBILE_NODE_GROUP_IDENTIFIER = 50
HEARTBEAT, BINDING_REVOCATION = 13, 16
BULK_GROUP = 1
"""Subtype of a group that one Proxy Binding Update extends or ends (RFC 6602, section 4.3)."""


class HomeNetworkPrefixOption(_MIP6OptAlign):
    """RFC 5213, section 8.3. The unspecified prefix asks the anchor for one."""

    name = "PMIPv6 Option - Home Network Prefix"
    fields_desc = [
        ByteField("otype", HOME_NETWORK_PREFIX),
        ByteField("olen", 18),
        ByteField("reserved", 0),
        ByteField("plen", 64),
        IP6Field("prefix", "::"),
    ]
    x, y = 8, 4


class HandoffIndicatorOption(_MIP6OptAlign):
    """RFC 5213, section 8.4."""

    name = "PMIPv6 Option - Handoff Indicator"
    fields_desc = [
        ByteField("otype", HANDOFF_INDICATOR),
        ByteField("olen", 2),
        ByteField("reserved", 0),
        ByteField("indicator", 4),
    ]
    x = y = 0


class AccessTechnologyTypeOption(_MIP6OptAlign):
    """RFC 5213, section 8.5."""

    name = "PMIPv6 Option - Access Technology Type"
    fields_desc = [
        ByteField("otype", ACCESS_TECHNOLOGY_TYPE),
        ByteField("olen", 2),
        ByteField("reserved", 0),
        ByteField("technology", 3),
    ]
    x = y = 0


class LinkLayerIdentifierOption(_MIP6OptAlign):
    """RFC 5213, section 8.6."""

    name = "PMIPv6 Option - Mobile Node Link-layer Identifier"
    fields_desc = [
        ByteField("otype", LINK_LAYER_IDENTIFIER),
        FieldLenField("olen", None, length_of="identifier", fmt="B", adjust=lambda _, length: length + 2),
        ShortField("reserved", 0),
        StrLenField("identifier", b"", length_from=lambda option: max(0, option.olen - 2)),
    ]
    x = y = 0


class LinkLocalAddressOption(_MIP6OptAlign):
    """RFC 5213, section 8.7: the address that all access gateways have on links to the mobile node."""

    name = "PMIPv6 Option - Link-local Address"
    fields_desc = [ByteField("otype", LINK_LOCAL_ADDRESS), ByteField("olen", 16), IP6Field("address", "::")]
    x, y = 8, 6


class TimestampOption(_MIP6OptAlign):
    """RFC 5213, section 8.8: seconds since 1970 in the upper 48 bits, below them 1/65536 s."""

    name = "PMIPv6 Option - Timestamp"
    fields_desc = [ByteField("otype", TIMESTAMP), ByteField("olen", 8), LongField("timestamp", 0)]
    x, y = 8, 2


class RestartCounterOption(_MIP6OptAlign):
    """RFC 5847, section 3.4."""

    name = "PMIPv6 Option - Restart Counter"
    fields_desc = [ByteField("otype", RESTART_COUNTER), ByteField("olen", 4), IntField("counter", 0)]
    x, y = 4, 2


class GroupIdentifierOption(_MIP6OptAlign):
    """RFC 6602, section 4.3."""

    name = "PMIPv6 Option - Mobile Node Group Identifier"
    fields_desc = [
        ByteField("otype", MOBILE_NODE_GROUP_IDENTIFIER),
        ByteField("olen", 6),
        ByteField("subtype", BULK_GROUP),
        ByteField("reserved", 0),
        IntField("group", 0),
    ]
    x, y = 4, 0


class HeartbeatHeader(_MobilityHeader):
    """RFC 5847, section 3.3."""

    name = "IPv6 Mobility Header - Heartbeat"
    fields_desc = [
        ByteEnumField("nh", 59, ipv6nh),
        ByteField("len", None),
        ByteField("mhtype", HEARTBEAT),
        ByteField("res", 0),
        XShortField("cksum", None),
        BitField("reserved", 0, 14),
        BitField("unsolicited", 0, 1),
        BitField("response", 0, 1),
        IntField("seq", 0),
        _PhantomAutoPadField("autopad", 1),
        _OptionsField("options", [], MIP6OptUnknown, 12, length_from=lambda header: 8 * header.len - 4),
    ]


class RevocationHeader(_MobilityHeader):
    """RFC 5846, sections 5.1 and 5.2. `code` is the trigger of an indication, the status of an acknowledgement."""

    name = "IPv6 Mobility Header - Binding Revocation"
    fields_desc = [
        ByteEnumField("nh", 59, ipv6nh),
        ByteField("len", None),
        ByteField("mhtype", BINDING_REVOCATION),
        ByteField("res", 0),
        XShortField("cksum", None),
        ByteField("kind", 1),
        ByteField("code", 0),
        XShortField("seq", 0),
        BitField("proxy", 1, 1),
        BitField("ipv4", 0, 1),
        BitField("everything", 0, 1),
        BitField("reserved", 0, 13),
        _PhantomAutoPadField("autopad", 1),
        _OptionsField("options", [], MIP6OptUnknown, 12, length_from=lambda header: 8 * header.len - 4),
    ]


LENGTHS = {
    HOME_NETWORK_PREFIX: 18,
    HANDOFF_INDICATOR: 2,
    ACCESS_TECHNOLOGY_TYPE: 2,
    LINK_LOCAL_ADDRESS: 16,
    TIMESTAMP: 8,
    RESTART_COUNTER: 4,
    MOBILE_NODE_GROUP_IDENTIFIER: 6,
}
"""Lengths of the options that have a fixed one, in octets."""

moboptcls.update(
    {
        HOME_NETWORK_PREFIX: HomeNetworkPrefixOption,
        HANDOFF_INDICATOR: HandoffIndicatorOption,
        ACCESS_TECHNOLOGY_TYPE: AccessTechnologyTypeOption,
        LINK_LAYER_IDENTIFIER: LinkLayerIdentifierOption,
        LINK_LOCAL_ADDRESS: LinkLocalAddressOption,
        TIMESTAMP: TimestampOption,
        RESTART_COUNTER: RestartCounterOption,
        MOBILE_NODE_GROUP_IDENTIFIER: GroupIdentifierOption,
    }
)
