# SPDX-License-Identifier: Apache-2.0
"""Attach an emulated mobile node to a foreign link: its care-of address there, and a routing table for what has it."""

from dataclasses import dataclass
from ipaddress import ip_network

from topologies.kernel_settings import KernelSettings

CARE_OF_TABLE = 78
CARE_OF_RULE = 78
IFA_F_NOPREFIXROUTE = 0x200


@dataclass(frozen=True, slots=True)
class ForeignLink:
    """Describe a foreign link: its interface, the care-of address there with prefix length, and the default router."""

    interface: str
    care_of_address: str
    prefix_length: int
    gateway: str

    @property
    def network(self) -> str:
        """Return the on-link prefix, such as 2001:db8:2::/64."""
        return str(ip_network((self.care_of_address, self.prefix_length), strict=False))


def attach(settings: KernelSettings, link: ForeignLink) -> None:
    """Add the care-of address, and route what has it as source by the link. Raises OSError."""
    # Deprecated: no application takes the care-of address as source unless it asks for it (RFC 6724, rule 3).
    settings.address(
        "replace", link.interface, link.care_of_address, link.prefix_length, IFA_F_NOPREFIXROUTE, preferred_lft=0
    )
    settings.route("replace", dst=link.network, interface=link.interface, table=CARE_OF_TABLE)
    settings.route("replace", dst="::/0", gateway=link.gateway, interface=link.interface, table=CARE_OF_TABLE)
    settings.rule("add", link.care_of_address, CARE_OF_TABLE, CARE_OF_RULE)


def detach(settings: KernelSettings, link: ForeignLink) -> None:
    """Undo `attach`; safe if the kernel has removed routes with the interface. Raises OSError."""
    settings.rule("del", link.care_of_address, CARE_OF_TABLE, CARE_OF_RULE)
    settings.route("del", dst=link.network, interface=link.interface, table=CARE_OF_TABLE)
    settings.route("del", dst="::/0", interface=link.interface, table=CARE_OF_TABLE)
    settings.address("del", link.interface, link.care_of_address, link.prefix_length)
