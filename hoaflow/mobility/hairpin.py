# SPDX-License-Identifier: Apache-2.0
"""Declare the hairpin of planes that tunnel by routes or programs: a veth pair with both ends in the same namespace.

Its MAC addresses are given at creation. Otherwise the host's link policy (systemd's MACAddressPolicy) would change them
a moment later, and the permanent neighbour entry for the far end would name an address that nobody has.
"""

from hoaflow.tunnel import links
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.objects import FixedNeighbour, Free, IpAddress, Mac, Setting, Up, Veth

ENTRY, EXIT = "hoaflow-out", "hoaflow-in"
ENTRY_MAC, EXIT_MAC = "02:68:6f:61:00:01", "02:68:6f:61:00:02"
"""Locally administered; nobody but the two ends sees them."""
EXIT_ADDRESS = "fe80::2"
DUMMY_ADDRESS = "192.0.0.8"
"""The loose check of sources accepts nothing on an interface without an IPv4 address (RFC 7600: the dummy address)."""
IPV6_HEADER = 40
LEAST_MTU, USUAL_MTU = 1280, 1500


def hairpin() -> list[Declared]:
    """Return the declaration of the pair, with its MTU and the neighbour at the far end."""
    return [
        Veth(None, ENTRY, ENTRY_MAC, None, EXIT, EXIT_MAC, USUAL_MTU - IPV6_HEADER),
        Mac(None, ENTRY, ENTRY_MAC),
        Mac(None, EXIT, EXIT_MAC),
        Free(None, ENTRY),
        Free(None, EXIT),
        TunnelMtu(ENTRY),
        TunnelMtu(EXIT),
        # Hosts may disable IPv6 on new interfaces by default.
        *(Setting(None, "ipv6", f"{name}.disable_ipv6", "0") for name in (ENTRY, EXIT)),
        Up(None, ENTRY),
        Up(None, EXIT),
        FixedNeighbour(None, ENTRY, EXIT_ADDRESS, EXIT_MAC),
    ]


def ipv4_exit() -> list[Declared]:
    """Return what lets IPv4 packets come out: they are from a home address, a correspondent or the host itself."""
    return [
        # Of `all` and the interface's own value the greater one counts, so this is loose in any case.
        Setting(None, "ipv4", f"{EXIT}.rp_filter", "2"),
        Setting(None, "ipv4", f"{EXIT}.accept_local", "1"),
        IpAddress(None, EXIT, DUMMY_ADDRESS, 32, no_source=True),
    ]


class TunnelMtu:
    """An end's MTU is the tunnel's: the smallest MTU of all links that are up, less the outer header."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return f"MTU of {self._name} set to the tunnel's"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        found, wanted = actual.link(None, self._name).mtu, self._wanted(actual)
        return None if found == wanted else f"the MTU of {self._name} is {found}, not {wanted}"

    def make(self) -> None:
        """See `Declared`."""
        with ActualState() as actual:
            wanted = self._wanted(actual)
        links.change(None, self._name, mtu=wanted)

    def remove(self) -> None:
        """Do nothing: it goes with the interface."""

    @staticmethod
    def _wanted(actual: ActualState) -> int:
        return tunnel_mtu(actual, IPV6_HEADER)


def tunnel_mtu(actual: ActualState, outer_header: int) -> int:
    """Return the octets that fit into a tunnel packet: the smallest MTU of all links that are up, less that header."""
    mtus = [link.mtu for name, link in actual.links(None).items() if link.up and name not in ("lo", ENTRY, EXIT)]
    return max(LEAST_MTU, min(mtus, default=USUAL_MTU) - outer_header)
