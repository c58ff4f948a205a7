# SPDX-License-Identifier: Apache-2.0
"""Declare that the kernel's check of IPv4 sources (rp_filter, RFC 3704) lets pass what comes out of IPv6 tunnels."""

from collections.abc import Mapping
from itertools import islice

from hoaflow.addresses import parse_address
from hoaflow.mobility.binding_objects import paused
from hoaflow.mobility.routes import SAMPLE
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Steps, at_once
from hoaflow.tunnel.links import LinkError, setting_path

STRICT = 1


class SourceCheck:
    """Links to care-of addresses take IPv4 packets from home addresses, which seg6 decapsulates where they come in.

    The route to a home address leads elsewhere. So the strict check drops all of them, and the loose one does on a link
    without an IPv4 address. Both are the administrator's decision, so it is reported and not mended.
    """

    def __init__(self, home_agent: str, wanted: Mapping[str, str]) -> None:
        """Declare it. `wanted` maps home addresses of both families to care-of addresses; it may change any time."""
        self._home_agent, self._wanted = parse_address(home_agent), wanted

    def __str__(self) -> str:
        return "the check of sources of IPv4 packets out of tunnels"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        return at_once(self.slices(actual))

    def slices(self, actual: ActualState) -> Steps[str | None]:
        """See `Sliced`."""
        names = {link.number: name for name, link in actual.links(None).items()}
        with_ipv4 = {address.interface for address in actual.addresses(None) if ":" not in address.address}
        reached: set[int] = set()
        care_of_addresses = {care_of for home, care_of in self._wanted.items() if ":" not in home}
        for address in paused(islice(care_of_addresses, SAMPLE)):
            if address is None:
                yield
            elif (route := actual.route_to(None, parse_address(address), self._home_agent)) is not None:
                reached.add(route.interface)
        for number in sorted(reached & names.keys()):
            check = max(_check(actual, name) for name in ("all", names[number]))
            if check == STRICT:
                return f"rp_filter of {names[number]} is {check}, which drops what mobile nodes send in IPv4"
            if check and number not in with_ipv4:
                return f"rp_filter of {names[number]} is {check}, and it has no IPv4 address: IPv4 packets are dropped"
        return None

    def make(self) -> None:
        """See `Declared`."""
        raise LinkError("set net.ipv4.conf.all.rp_filter and the link's own to 0, or to 2 and give it an IPv4 address")

    def remove(self) -> None:
        """See `Declared`."""


def _check(actual: ActualState, name: str) -> int:
    return int(actual.setting(None, setting_path(f"{name}.rp_filter", "ipv4")) or 0)
