# SPDX-License-Identifier: Apache-2.0
"""Add to scapy the mobility options of IPv4 home addresses (RFC 5555, sections 3.1.1 and 3.2.1).

scapy 2.8 knows options up to 16. Importing this module has its Binding Updates and Acknowledgements dissect these, too.
"""

from scapy.fields import BitField, ByteField, IPField
from scapy.layers.inet6 import _MIP6OptAlign, moboptcls

IPV4_HOME_ADDRESS, IPV4_ADDRESS_ACKNOWLEDGEMENT = 29, 30
LENGTH = 6
"""Octets of either option after its length field."""


class Ipv4HomeAddressOption(_MIP6OptAlign):
    """RFC 5555, section 3.1.1. The address 0.0.0.0 asks the home agent for one."""

    name = "DSMIPv6 Option - IPv4 Home Address"
    fields_desc = [
        ByteField("otype", IPV4_HOME_ADDRESS),
        ByteField("olen", LENGTH),
        BitField("plen", 32, 6),
        BitField("prefix", 0, 1),
        BitField("reserved", 0, 9),
        IPField("address", "0.0.0.0"),
    ]
    x = y = 0


class Ipv4AddressAcknowledgementOption(_MIP6OptAlign):
    """RFC 5555, section 3.2.1."""

    name = "DSMIPv6 Option - IPv4 Address Acknowledgement"
    fields_desc = [
        ByteField("otype", IPV4_ADDRESS_ACKNOWLEDGEMENT),
        ByteField("olen", LENGTH),
        ByteField("status", 0),
        BitField("plen", 32, 6),
        BitField("reserved", 0, 2),
        IPField("address", "0.0.0.0"),
    ]
    x = y = 0


moboptcls.update(
    {
        IPV4_HOME_ADDRESS: Ipv4HomeAddressOption,
        IPV4_ADDRESS_ACKNOWLEDGEMENT: Ipv4AddressAcknowledgementOption,
    }
)
