# SPDX-License-Identifier: Apache-2.0
"""Declare the hairpin that encapsulates and decapsulates in IPv4, of home agents and of foreign agents.

The BPF program of `hoaflow.tunnel.tunnel_program` adds and removes the outer headers, as the kernel may have no ipip.
It runs where packets come out of a pair of veth devices with both ends here. What the spoofing filter has marked as an
accepted tunnel packet is routed into it by rule 5.
"""

from collections.abc import Collection, Mapping

from hoaflow.linux import AF_INET
from hoaflow.mobility.binding_objects import summary
from hoaflow.mobility.hairpin import ENTRY, ENTRY_MAC, EXIT, EXIT_ADDRESS, EXIT_MAC, ipv4_exit
from hoaflow.mobility.objects import LocalRule
from hoaflow.tunnel.actual_state import ActualState, MissingParent
from hoaflow.tunnel.bpf import BpfError
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.local_decapsulation import DECAPSULATION_TABLE, LOCAL_RULE_PREFERENCE, TUNNEL_RULE_PREFERENCE
from hoaflow.tunnel.objects import FixedNeighbour, Free, Mac, Mtu, NoOffloads, Setting, Up, Veth
from hoaflow.tunnel.routing import OnlyRoutes, Route, Rule
from hoaflow.tunnel.spoofing_filter import IPV4, IPV4_MARK
from hoaflow.tunnel.tc import Hook
from hoaflow.tunnel.tunnel_filter import TunnelMaps, TunnelProgram
from hoaflow.tunnel.tunnel_program import LookedUp

IPV4_HEADER = 20
ANY_SIZE = 65535
"""Octets: the hairpin carries tunnel packets of any size; the routes into it have the MTU of the tunnels."""


def tunnelling(own: str, looked_up: LookedUp, wanted: Mapping[str, str]) -> list[Declared]:
    """Return what tunnels from and to one of the host's addresses.

    `wanted` maps home addresses to the other ends of their tunnels; it may change any time.
    """
    return [
        *hairpin(),
        TunnelProgram(None, EXIT, own, Hook.INGRESS, looked_up),
        MapEntries(wanted),
        Route(None, "0.0.0.0/0", EXIT_ADDRESS, ENTRY, DECAPSULATION_TABLE),
        OnlyRoutes(None, AF_INET, DECAPSULATION_TABLE),
        LocalRule(LOCAL_RULE_PREFERENCE, family=AF_INET),
        Rule(
            None,
            TUNNEL_RULE_PREFERENCE,
            DECAPSULATION_TABLE,
            AF_INET,
            dst=f"{own}/32",
            fwmark=IPV4_MARK,
            ip_proto=IPV4.next_header,
        ),
    ]


def change_ends(put: Mapping[str, str], remove: Collection[str] = ()) -> None:
    """Change the other ends of home addresses' tunnels. Idempotent. Raises LinkError, BpfError."""
    with TunnelMaps(None, EXIT, Hook.INGRESS) as maps:
        refused = maps.remove_all(remove) | maps.put_all(put)
    for home_address, reason in refused.items():
        raise LinkError(f"tunnel for {home_address}: {reason}")


class MapEntries:
    """The program's entries: exactly those of the bindings."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        """Declare them. `wanted` maps home addresses to the other ends; it may change any time."""
        self._wanted = wanted

    def __str__(self) -> str:
        return "home addresses in the tunnel program's maps"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        actual.link(None, EXIT)
        try:
            with TunnelMaps(None, EXIT, Hook.INGRESS) as maps:
                found = maps.installed()
        except BpfError as error:
            raise MissingParent(str(error)) from error
        wrong = [home for home, care_of in found.items() if self._wanted.get(home) != care_of]
        return summary("entries of the tunnel program", sorted(self._wanted.keys() - found.keys()), wrong)

    def make(self) -> None:
        """See `Declared`."""
        with TunnelMaps(None, EXIT, Hook.INGRESS) as maps:
            surplus = maps.installed().keys() - self._wanted.keys()
        change_ends(self._wanted, surplus)

    def remove(self) -> None:
        """Do nothing: they go with the program."""


def hairpin() -> list[Declared]:
    """Return the pair of devices."""
    ends = (ENTRY, ENTRY_MAC), (EXIT, EXIT_MAC)
    settings = (
        *(("ipv6", f"{name}.disable_ipv6", "0") for name, _ in ends),
        *(("ipv4", f"{name}.forwarding", "1") for name, _ in ends),
    )
    return [
        Veth(None, ENTRY, ENTRY_MAC, None, EXIT, EXIT_MAC, ANY_SIZE),
        *(each for name, mac in ends for each in (Mac(None, name, mac), Mtu(None, name, ANY_SIZE), Free(None, name))),
        NoOffloads(None, ENTRY),
        *(Setting(None, *setting) for setting in settings),
        *(Up(None, name) for name, _ in ends),
        *ipv4_exit(),
        FixedNeighbour(None, ENTRY, EXIT_ADDRESS, EXIT_MAC),
    ]
