# SPDX-License-Identifier: Apache-2.0
"""Make the bundles of new and moved bindings with Ryu alone, as the baselines send them.

Three flows come, and two go if it moves, as in the tables of a router with the `flow` backend. The cookie is no one's.
"""

from collections.abc import Iterable
from socket import AF_INET6, inet_pton

from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser
from ryu.ofproto.ofproto_protocol import ProtocolDesc

COOKIE = 0xBA2E
DOWNLINK, UPLINK, VERIFY = 1, 2, 3  # table numbers
PRIORITY = 100  # among the bindings' flows
HOME_AGENT = "2001:db8:ba2e::1"
FLAGS = ofp.ONF_BF_ATOMIC | ofp.ONF_BF_ORDERED
_PROTOCOL = ProtocolDesc(ofp.OFP_VERSION)
_MAC = "02:00:00:00:00:01"
_DECAPSULATION = "fdb1:b792:6c09::41"
_TRANSMIT = 1


def arrival(home_address: str, care_of_address: str, number: int) -> bytes:
    """Return the messages that install a new binding, and a barrier.

    number: of the bundle, and the xid of all its messages.
    """
    return _bundle(_additions(home_address, care_of_address), number)


def handover(node: int, link: int, number: int, idle_timeout: int = 0) -> bytes:
    """Return the messages that move mobile node `node` from the previous link to `link`, and a barrier.

    number: of the bundle, and the xid of all its messages. idle_timeout: of the new flows, in seconds, 0 for none.
    """
    home_address, former = _home_address(node), _care_of_address(node, link - 1)
    additions = _additions(home_address, _care_of_address(node, link))
    for addition in additions:
        addition.idle_timeout = idle_timeout
    return _bundle([*additions, *_deletions(home_address, former)], number)


def flows(node: int, link: int, idle_timeout: int = 0) -> list[str]:
    """Return the flows of mobile node `node` on `link` as ovs-ofctl(8) has them."""
    home_address, care_of_address = _home_address(node), _care_of_address(node, link)
    common = f"cookie={COOKIE:#x},priority={PRIORITY}" + (f",idle_timeout={idle_timeout}" if idle_timeout else "")
    to_kernel = f"set_field:{_MAC}->eth_dst,LOCAL"
    decapsulated = f"set_field:{_DECAPSULATION}->ipv6_dst,{to_kernel}"
    tunnel = f"set_field:{HOME_AGENT}->tun_ipv6_src,set_field:{care_of_address}->tun_ipv6_dst"
    return [
        f"table={VERIFY},{common},ipv6,ipv6_src={home_address},tun_ipv6_src={care_of_address},actions={to_kernel}",
        f"table={UPLINK},{common},ipv6,nw_proto=41,ipv6_src={care_of_address},ipv6_dst={HOME_AGENT},"
        f"actions={decapsulated}",
        f"table={DOWNLINK},{common},ipv6,ipv6_dst={home_address},actions=dec_ttl,{tunnel},output:{_TRANSMIT}",
    ]


class Prepared:
    """Make bundles from messages that Ryu has serialised once, by replacing their addresses and numbers in the bytes.

    That is about as little as Python can do for a flow.
    """

    def __init__(self) -> None:
        self._opening, self._closing = (
            b"".join(_bytes(message, _NUMBER) for message in messages) for messages in _ends(_NUMBER)
        )
        self._coming = _added(_additions(_HOME, _NEW), _NUMBER)
        self._going = _added(_deletions(_HOME, _FORMER), _NUMBER)

    def changes(self, home_address: bytes, care_of_address: bytes, former: bytes | None) -> bytes:
        """Return what brings a binding, and takes away what it had at a former care-of address (None: nothing)."""
        coming = self._coming.replace(_PACKED_HOME, home_address).replace(_PACKED_NEW, care_of_address)
        if former is None:
            return coming
        return coming + self._going.replace(_PACKED_HOME, home_address).replace(_PACKED_FORMER, former)

    def bundle(self, changes: Iterable[bytes], number: int) -> bytes:
        """Return a bundle of changes, and a barrier; number: of the bundle, and the xid of all its messages."""
        messages = b"".join([self._opening, *changes, self._closing])
        return messages.replace(_NUMBER.to_bytes(4, "big"), number.to_bytes(4, "big"))


# Unlike anything else in a message.
_NUMBER = 0xBA2EBA2E
_HOME, _NEW, _FORMER = (f"2001:db8:5ba2::b1d:{number}" for number in (1, 2, 3))
_PACKED_HOME, _PACKED_NEW, _PACKED_FORMER = (inet_pton(AF_INET6, address) for address in (_HOME, _NEW, _FORMER))


def _additions(home_address: str, care_of_address: str) -> list[parser.OFPFlowMod]:
    return [
        _addition(VERIFY, _verified(home_address, care_of_address), [_set(eth_dst=_MAC), _output(ofp.OFPP_LOCAL)]),
        _addition(
            UPLINK,
            _sent_by(care_of_address),
            [_set(vlan_tci=0), _set(ipv6_dst=_DECAPSULATION), _set(eth_dst=_MAC), _output(ofp.OFPP_LOCAL)],
        ),
        _addition(
            DOWNLINK,
            parser.OFPMatch(eth_type=0x86DD, ipv6_dst=home_address),
            [
                _set(vlan_tci=0),
                parser.OFPActionDecNwTtl(),
                _set(tun_ipv6_src=HOME_AGENT),
                _set(tun_ipv6_dst=care_of_address),
                _output(_TRANSMIT),
            ],
        ),
    ]


def _deletions(home_address: str, former: str) -> list[parser.OFPFlowMod]:
    return [_deletion(UPLINK, _sent_by(former)), _deletion(VERIFY, _verified(home_address, former))]


def _bundle(changes: list[parser.OFPFlowMod], number: int) -> bytes:
    opening, closing = (b"".join(_bytes(message, number) for message in messages) for messages in _ends(number))
    return opening + _added(changes, number) + closing


def _ends(number: int) -> tuple[list[object], list[object]]:
    """Return the messages before and after the changes of a bundle."""
    commit = parser.ONFBundleCtrlMsg(_PROTOCOL, number, ofp.ONF_BCT_COMMIT_REQUEST, FLAGS, [])
    return (
        [parser.ONFBundleCtrlMsg(_PROTOCOL, number, ofp.ONF_BCT_OPEN_REQUEST, FLAGS, [])],
        [commit, parser.OFPBarrierRequest(_PROTOCOL)],
    )


def _added(changes: list[parser.OFPFlowMod], number: int) -> bytes:
    """Return the messages that add changes to a bundle."""
    messages = (parser.ONFBundleAddMsg(_PROTOCOL, number, FLAGS, change, []) for change in changes)
    return b"".join(_bytes(message, number) for message in messages)


def _home_address(node: int) -> str:
    return f"2001:db8:ba2e::1:{node >> 16:x}:{node & 0xFFFF:x}"


def _care_of_address(node: int, link: int) -> str:
    return f"2001:db8:fba2:{link:x}::{node >> 16:x}:{node & 0xFFFF:x}"


def _sent_by(care_of_address: str) -> parser.OFPMatch:
    return parser.OFPMatch(eth_type=0x86DD, ip_proto=41, ipv6_src=care_of_address, ipv6_dst=HOME_AGENT)


def _verified(home_address: str, care_of_address: str) -> parser.OFPMatch:
    return parser.OFPMatch(eth_type=0x86DD, ipv6_src=home_address, tun_ipv6_src=care_of_address)


def _set(**field: object) -> parser.OFPActionSetField:
    return parser.OFPActionSetField(**field)


def _output(port: int) -> parser.OFPActionOutput:
    return parser.OFPActionOutput(port)


def _addition(table: int, match: parser.OFPMatch, actions: list[object]) -> parser.OFPFlowMod:
    apply = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)]
    return parser.OFPFlowMod(
        _PROTOCOL, cookie=COOKIE, table_id=table, priority=PRIORITY, match=match, instructions=apply
    )


def _deletion(table: int, match: parser.OFPMatch) -> parser.OFPFlowMod:
    # Not by the whole cookie: Open vSwitch would look at all flows that have it, which are all of them.
    return parser.OFPFlowMod(
        _PROTOCOL,
        table_id=table,
        command=ofp.OFPFC_DELETE_STRICT,
        priority=PRIORITY,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        match=match,
    )


def _bytes(message: parser.OFPFlowMod, xid: int) -> bytes:
    message.set_xid(xid)
    message.serialize()
    return bytes(message.buf)
