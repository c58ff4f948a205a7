# SPDX-License-Identifier: Apache-2.0
"""Find ports of a bridge at which the kernel answers ARP, so that IPv4 packets pass by the bridge.

With a userspace datapath, what comes in by a port that is a network device goes to Open vSwitch and to the kernel. By
default the kernel answers ARP at any interface for all of its IPv4 addresses: at the port, too, for an address that is
on the bridge's own interface, with the port's MAC address. Neighbours then send to the port, and no flow sees their
packets. IPv6 has nothing like it: the kernel answers neighbour solicitations for the interface's own addresses alone.
"""

from hoaflow.router.ovsdb import Bridge, Ovsdb
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import setting_path

# Values of arp_ignore (Linux, ip-sysctl) with which the kernel does not answer for another interface's addresses.
SILENT = {1, 2, 8}


def ports_that_answer(bridge: Bridge, ovsdb: Ovsdb) -> dict[str, bool]:
    """Return {port: whether the kernel answers ARP there for the bridge's own IPv4 addresses}.

    It is empty where that does not matter: with the kernel's datapath, and without such an address. Raises RouterError.
    """
    if not bridge.userspace:
        return {}
    ours = {record.port for record in bridge.endpoints}
    on_bridge = {bridge.name, *ovsdb.run("list-ifaces", bridge.name).split()} - ours
    kinds = {row["name"]: row["type"] for row in ovsdb.rows("--columns=name,type", "list", "Interface")}
    with ActualState() as actual:
        links = actual.links(None)
        with_ipv4 = {address.interface for address in actual.addresses(None) if ":" not in address.address}

        def has_ipv4(name: str) -> bool:
            return links[name].number in with_ipv4

        def setting(name: str, port: str) -> int:
            """Return the greater one of the values for all interfaces and for this one, which is what counts."""
            return max(int(actual.setting(None, setting_path(f"{each}.{name}", "ipv4")) or 0) for each in ("all", port))

        def answers(port: str) -> bool:
            # A check of sources drops requests: at a port without an address, a neighbour's is by another interface.
            checked = setting("rp_filter", port) > 0 and not has_ipv4(port)
            return setting("arp_ignore", port) not in SILENT and not checked

        there = sorted(on_bridge & links.keys())
        if not any(kinds.get(name) == "internal" and has_ipv4(name) for name in there):
            return {}
        return {name: answers(name) for name in there if kinds.get(name) in ("", "system")}
