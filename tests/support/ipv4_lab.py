# SPDX-License-Identifier: Apache-2.0
"""IPv4 tunnels in a router's lab: a home agent and a care-of address that are IPv4, and a mobile node with a tunnel."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

from hoaflow.router.endpoint import Endpoint
from hoaflow.router.endpoint_routes import EndpointRoutes
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.router.tunnel_plan import DesiredTunnels
from tests.support.checkout import CHECKOUT
from tests.support.router_lab import CN4, HOA, HOA4, MNP4, MNP4_HOST, OTHER_HOA, OTHER_HOA4, TIMEOUT, RouterLab

HA4, COA4, COA4_2, ACCESS4 = "10.99.0.1", "10.2.0.2", "10.2.0.3", "10.2.0.1"
HOMES = (HOA4, HOA, MNP4)
TUN_TABLE, TUN_RULE = 79, 40

# A tunnel to the home agent: what is sent into t0 is encapsulated, and the other way round. Without a socket of the
# protocol, the kernel would answer tunnel packets Protocol Unreachable.
MOBILE_NODE = """
import fcntl, os, selectors, socket, struct, sys
care_of_address, home_agent = sys.argv[1:]
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"t0", 0x1001))  # TUNSETIFF: IFF_TUN, IFF_NO_PI
raw = {number: socket.socket(socket.AF_INET, socket.SOCK_RAW, number) for number in (4, 41)}
for each in raw.values():
    each.bind((care_of_address, 0))
selector = selectors.DefaultSelector()
for each in (tun, *raw.values()):
    selector.register(each, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj == tun:
            packet = os.read(tun, 65535)
            raw[4 if packet[0] >> 4 == 4 else 41].sendto(packet, (home_agent, 0))
        else:
            packet, (source, _) = key.fileobj.recvfrom(65535)
            if source == home_agent:
                os.write(tun, packet[(packet[0] & 15) * 4 :])
"""


def endpoint4(lab: RouterLab) -> Endpoint:
    """Return the endpoint for HA4, for its names."""
    return lab.endpoint(HA4)


def steer4(lab: RouterLab) -> None:
    """Install the controller's flows for HOMES, each at COA4 and COA4_2."""
    lab.steer(HA4, HOMES, (COA4, COA4_2))


def bind4(lab: RouterLab, care_of_address: str = COA4) -> EndpointRoutes:
    """Have the endpoint carry HOMES, and nothing else, as the agent does."""
    routes = EndpointRoutes(endpoint4(lab).record)
    assert routes.apply(DesiredTunnels(dict.fromkeys(HOMES, care_of_address), complete=True, changed=None)) == {}
    for _ in range(2):  # at the first call packets may be under way
        routes.tidy()
    return routes


def address4(lab: RouterLab) -> None:
    """Give the access link its IPv4 addresses."""
    lab.ip("rt", "address", "add", f"{ACCESS4}/24", "dev", "acc")
    for care_of_address in (COA4, COA4_2):
        lab.ip("mn", "address", "add", f"{care_of_address}/24", "dev", "m0")
    lab.ip("mn", "route", "add", "default", "via", ACCESS4)
    lab.ip("ha", "route", "add", "blackhole", "10.99.0.0/16")


@contextlib.contextmanager
def mobile_node4(
    lab: RouterLab,
    care_of_address: str = COA4,
    homes: Sequence[str] = (HOA, OTHER_HOA, HOA4, OTHER_HOA4, MNP4_HOST),
) -> Iterator[None]:
    """Let the mobile node send packets of its `homes`, and take all, by a tunnel to HA4."""
    command = ["ip", "netns", "exec", lab.names["mn"], sys.executable, "-c", MOBILE_NODE, care_of_address, HA4]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            lab.run("mn", "sysctl", "-qw", "net.ipv4.conf.t0.rp_filter=2")
            lab.ip("mn", "link", "set", "t0", "up", "mtu", "1480")
            for home in homes:
                version = "-6" if ":" in home else "-4"
                lab.ip("mn", version, "route", "replace", "default", "dev", "t0", "table", str(TUN_TABLE))
                lab.ip("mn", version, "rule", "add", *f"from {home} lookup {TUN_TABLE} pref {TUN_RULE}".split())
            yield
        finally:
            process.kill()
            for version in ("-4", "-6"):
                lab.ip("mn", version, "rule", "flush", "lookup", str(TUN_TABLE))


def goes_direct4(lab: RouterLab) -> bool:
    """Tell whether HOA4 and HOA reach and are reached directly: the home agent eats what comes to it.

    The flows follow when the switch has the endpoint's port under another number, as the controller's would.
    """
    if Ovsdb(f"unix:{lab.ovs.database}").port_state(endpoint4(lab).port).number is None:
        return False
    steer4(lab)
    ways = (("cn", HOA4), ("cn", HOA), ("mn", "-I", HOA4, CN4))
    pings = [
        subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{lab.names[node]}", "ping", "-n", "-c1", "-W1", *arguments],
            stdout=subprocess.DEVNULL,
        )
        for node, *arguments in ways
    ]
    return [each.wait(TIMEOUT) for each in pings] == [0, 0, 0]
