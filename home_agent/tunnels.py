# SPDX-License-Identifier: Apache-2.0
"""The home agent's data plane: tunnels to care-of addresses, and what may come back through them.

Reverse tunnelling (RFC 6275, section 10.4.5): only packets whose outer source is the care-of address and whose inner
source is the home address of one binding pass; nftables drops and counts the rest, whichever way the kernel tunnels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from home_agent.ip6tnl_plane import Ip6tnlPlane
from home_agent.seg6_plane import Seg6Plane
from logs import Log
from tunnel.nft import NftError
from tunnel.pairs import Counters, PairFilter
from tunnel.seg6 import Seg6Error

KERNEL_ERRORS = (OSError, Seg6Error, NftError)
"""What the methods here raise when the kernel refuses."""

LOG = Log("home-agent")


class Plane(Protocol):
    """One way the kernel tunnels. All calls are idempotent and raise one of KERNEL_ERRORS."""

    name: str
    relays_errors: bool
    """Whether the kernel tells correspondent nodes what it hears of their tunnelled packets (RFC 2473, section 8)."""

    def setup(self) -> None: ...
    def tunnels(self) -> Mapping[str, str]: ...
    def tunnel(self, home_address: str, care_of_address: str) -> None: ...
    def untunnel(self, home_address: str) -> None: ...
    def device(self, home_address: str) -> str: ...
    def teardown(self) -> None: ...
    def close(self) -> None: ...


def choose_plane(home_agent: str, home_link: str) -> Plane:
    """ip6tnl where the kernel has it, else seg6; set up and clean. Raises one of KERNEL_ERRORS when neither works."""
    ip6tnl = Ip6tnlPlane(home_agent)
    try:
        ip6tnl.setup()
    except OSError as error:
        ip6tnl.close()
        LOG.info("data-plane-probe", plane="ip6tnl", usable=False, reason=error)
    else:
        LOG.info("data-plane", chosen="ip6tnl", reason="the kernel has ip6_tunnel")
        return ip6tnl
    seg6 = Seg6Plane(home_agent, home_link)
    seg6.setup()
    LOG.info("data-plane", chosen="seg6", reason="the kernel has no ip6_tunnel, but seg6 reduced encapsulation")
    return seg6


class Tunnels:
    """The plane and the pair filter together, and what they are wanted to hold."""

    def __init__(self, home_agent: str, home_link: str) -> None:
        """Sets up both, without any tunnel. Raises one of KERNEL_ERRORS."""
        self._wanted: dict[str, str] = {}  # home address → care-of address
        self._accepted: dict[str, str] = {}  # the pairs that the filter lets pass
        self._pairs = PairFilter(destination=home_agent)
        self._pairs.setup()
        self._pairs.replace(())
        self._plane = choose_plane(home_agent, home_link)

    def tunnel(self, home_address: str, care_of_address: str) -> None:
        """Carries a home address's traffic to and from a care-of address; replaces. Raises one of KERNEL_ERRORS."""
        before = self._accepted.get(home_address)
        if self._wanted.get(home_address) == before == care_of_address:
            return
        self._wanted[home_address] = care_of_address
        self._plane.tunnel(home_address, care_of_address)
        self._pairs.change(
            add=[(care_of_address, home_address)], remove=[] if before is None else [(before, home_address)]
        )
        self._accepted[home_address] = care_of_address

    def untunnel(self, home_address: str) -> None:
        """Carries it no longer. Fine when it did not. Raises one of KERNEL_ERRORS."""
        self._wanted.pop(home_address, None)
        self._plane.untunnel(home_address)
        if (before := self._accepted.get(home_address)) is not None:
            self._pairs.remove([(before, home_address)])
            del self._accepted[home_address]

    def repair(self) -> None:
        """Puts back what the kernel lost (a route goes with its interface), removes what nobody wants."""
        found = self._plane.tunnels()
        for home_address in found.keys() - self._wanted.keys():
            LOG.warning("tunnel-stray", home_address=home_address, action="remove")
            self._plane.untunnel(home_address)
        for home_address, care_of_address in self._wanted.items():
            if found.get(home_address) != care_of_address:
                self._plane.tunnel(home_address, care_of_address)
                LOG.warning("tunnel-restored", home_address=home_address, care_of_address=care_of_address)

    @property
    def relays_errors(self) -> bool:
        """Whether the kernel itself tells correspondent nodes of ICMPv6 errors for their tunnelled packets."""
        return self._plane.relays_errors

    def carries(self, home_address: str, care_of_address: str) -> bool:
        """Whether a home address's traffic goes to and from this care-of address."""
        return self._wanted.get(home_address) == care_of_address

    def device(self, home_address: str) -> str:
        """What the terminal names as the tunnel of a home address."""
        return self._plane.device(home_address)

    def counters(self) -> Counters:
        """Reverse-tunnelled packets (accepted, dropped)."""
        return self._pairs.counters()

    def teardown(self) -> None:
        """Leaves nothing in the kernel."""
        self._plane.teardown()
        self._plane.close()
        self._pairs.teardown()
