# SPDX-License-Identifier: Apache-2.0
"""Two home agents on one home link: who looks for one is told of both, in order, and of none that has died.

RFC 6275, sections 10.5 and 10.6; RFC 3963, section 7.
"""

import json
from pathlib import Path

from tests.support.mobility import CARE_OF_1, HOME_ADDRESS, HOME_AGENT, HOST, Lab
from tests.support.nemo import prefix_table
from tests.support.waiting import wait_for

ANYCAST = "2001:db8:99:0:fdff:ffff:ffff:fffe"
MOBILE_ROUTER = 0x8000
"""Flag R of requests and replies (RFC 3963, section 7)."""
OFTEN = ("--advertise", "2")  # so a home agent that has died is forgotten after 6 s

# Sends a Dynamic Home Agent Address Discovery Request with these flags; prints flags and addresses that are answered,
# null after 3 s without.
ASK = """
import ipaddress, json, socket, struct, sys
asking = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
asking.settimeout(3)
asking.sendto(struct.pack("!BBHHH", 144, 0, 0, 0x1234, int(sys.argv[2])), (sys.argv[1], 0))
try:
    while (data := asking.recv(2000))[0] != 145:
        pass
except TimeoutError:
    print("null")
    sys.exit()
identifier, flags = struct.unpack_from("!HH", data, 4)
assert identifier == 0x1234
print(json.dumps([flags, [str(ipaddress.IPv6Address(data[at:at + 16])) for at in range(8, len(data), 16)]]))
"""

# Sends Mobile Prefix Solicitations from the care-of address; prints the routing header and prefix of an answer.
SOLICIT = """
import select, sys
from scapy.layers.inet6 import HAO, ICMPv6MPAdv, ICMPv6MPSol, ICMPv6NDOptPrefixInfo, IPv6, IPv6ExtHdrDestOpt
from hoaflow.mobility.extension_headers import ROUTING
from hoaflow.mobility.packet_io import PacketReceiver, addressed_to, send_packet
care_of_address, home_address, home_agent, times, seconds = sys.argv[1:]
receiver = PacketReceiver(addressed_to(care_of_address, (ROUTING,)))
option = IPv6ExtHdrDestOpt(options=[HAO(hoa=home_address)])
for _ in range(int(times)):
    send_packet(bytes(IPv6(src=care_of_address, dst=home_agent) / option / ICMPv6MPSol(id=7)))
while select.select([receiver], [], [], float(seconds))[0]:
    for packet in map(IPv6, receiver.packets()):
        if ICMPv6MPAdv in packet:
            prefix = packet[ICMPv6NDOptPrefixInfo]
            print(packet.addresses[0], packet[ICMPv6MPAdv].id, f"{prefix.prefix}/{prefix.prefixlen}")
            sys.exit()
"""


def told(lab: Lab, flags: int = 0) -> tuple[int, list[str]] | None:
    """Return with which flags a correspondent node is told of which home agents, None without an answer."""
    found = json.loads(lab.python("cn", ASK, ANYCAST, str(flags)))
    return None if found is None else tuple(found)


def answers(lab: Lab, *home_agents: str) -> None:
    """Wait until a correspondent node is told of these home agents, in this order."""
    wait_for(f"it is told of {home_agents}", lambda: told(lab) == (0, [*home_agents]))


def listed(lab: Lab, home_agent: str) -> bool:
    """Tell whether the terminal's Home Agents List has this."""
    return f"hl 2001:db8:99:0:0:0:{home_agent}" in lab.console("fancy no", "hal").decode()


def solicit(lab: Lab, home_address: str, times: int, seconds: int) -> str:
    """Return what is answered to a mobile node at its first care-of address within some seconds."""
    return lab.python("mn", SOLICIT, CARE_OF_1, home_address, HOME_AGENT, str(times), str(seconds))


def test_mobile_nodes_are_told_of_all_home_agents_by_preference_until_their_lifetimes_end(lab: Lab) -> None:
    first = lab.home_agent("--insecure", "--preference", "10", *OFTEN)
    answers(lab, HOME_AGENT)
    other = lab.other_home_agent("--insecure", "--preference", "20", *OFTEN)
    answers(lab, HOST, HOME_AGENT)
    wait_for("the terminal lists the other one", lambda: listed(lab, "0:200\n preference 20 lifetime "))
    assert listed(lab, "0:1\n preference 10 lifetime 6\n")

    # The kernel of a home agent that is killed has the anycast address no more, so the other one answers.
    other.logged("event=home-agent-heard", HOME_AGENT)
    first.stop(kill=True)
    other.logged("event=home-agent-gone", HOME_AGENT)
    answers(lab, HOST)

    # One that ends in order says so, and is forgotten at once.
    since = len(other.log.lines)
    again = lab.home_agent("--insecure", "--advertise", "1800")
    other.logged("event=home-agent-heard", HOME_AGENT, since=since)
    assert again.stop() == 0
    other.logged("event=home-agent-gone", HOME_AGENT, since=since)


def test_mobile_routers_are_told_of_home_agents_that_take_mobile_routers(lab: Lab, tmp_path: Path) -> None:
    table = prefix_table(tmp_path)
    first = lab.home_agent("--insecure", "--preference", "10", *OFTEN)
    answers(lab, HOME_AGENT)
    assert told(lab, MOBILE_ROUTER) == (0, [HOME_AGENT])  # none takes any, so without the flag
    lab.other_home_agent("--insecure", "--mobile-networks", table, *OFTEN)
    first.logged("event=home-agent-heard", HOST)
    assert told(lab, MOBILE_ROUTER) == (MOBILE_ROUTER, [HOST])
    answers(lab, HOME_AGENT, HOST)


def test_an_anycast_address_that_somebody_takes_away_is_made_anew(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure", *OFTEN)
    lab.run("ha", f"ip -6 route del {ANYCAST} dev hl table local")
    home_agent.logged("event=mended", "anycast address")
    answers(lab, HOME_AGENT)


def test_home_prefixes_are_told_to_registered_mobile_nodes_only_and_not_too_often(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure", *OFTEN)
    node = lab.mobile_node("--insecure")
    lab.link("m1", "up")
    node.event("registered", care_of_address=CARE_OF_1)
    wait_for(
        "the home prefix is told",
        lambda: solicit(lab, HOME_ADDRESS, 1, 3) == f"{HOME_ADDRESS} 7 {HOME_AGENT}/64\n",
    )
    assert not solicit(lab, "2001:db8:99::101", 1, 0)
    home_agent.logged("event=binding-error-sent", "home_address=2001:db8:99::101")
    solicit(lab, HOME_ADDRESS, 60, 0)
    home_agent.logged("reason=prefix_advertisements_suppressed")
