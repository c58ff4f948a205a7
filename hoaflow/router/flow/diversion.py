# SPDX-License-Identifier: Apache-2.0
"""Divert all packets of an interface to another one by tc (matchall and mirred, tc-mirred(8)).

Interfaces are given by index, in the current network namespace. pyroute2 does not know `vlan push_eth`, so the actions
are packed here. Formats: linux/pkt_cls.h, linux/tc_act/tc_mirred.h, linux/tc_act/tc_vlan.h.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hoaflow.router.errors import RouterError
from hoaflow.tunnel.rtnetlink import RouteSocket, attribute, attributes
from hoaflow.tunnel.tc import Filter, Hook, Tc, TcError

TCA_MATCHALL_ACT = 2
TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 2
TC_ACT_PIPE, TC_ACT_STOLEN = 3, 4
ACTION = struct.Struct("=IIiii")  # index, capab, action, refcnt, bindcnt
TCA_PARMS = 2  # of mirred and of vlan
MIRRED = struct.Struct("=iI")  # eaction, interface index
EGRESS_REDIRECT, INGRESS_REDIRECT = 1, 3
VLAN_PUSH_ETH = struct.pack("=i", 5)
TCA_VLAN_PUSH_ETH_DST, TCA_VLAN_PUSH_ETH_SRC = 7, 8

KIND, PREFERENCE, HANDLE = "matchall", 6941, 1  # of our filters, by which they are recognized


class Ethernet(NamedTuple):
    """An Ethernet header's addresses, as text."""

    destination: str
    source: str


class Diversion(NamedTuple):
    """A diversion of all packets of `interface` at `hook` to interface `to`: sent there, or with `receive` received.

    `header`: the Ethernet header to prepend to packets that have none.
    """

    interface: int
    hook: Hook
    to: int
    receive: bool
    header: Ethernet | None = None


def divert(wanted: Diversion) -> None:
    """Make the diversion in place of a stale one. Raises RouterError if the hook has somebody else's filters."""
    with _tc() as tc:
        if not all(map(_is_ours, tc.filters(wanted.interface, wanted.hook))):
            raise RouterError(
                f"tc at {wanted.hook.name.lower()} of interface {_name(wanted.interface)} belongs to someone else "
                f"(`tc filter show dev {_name(wanted.interface)} {wanted.hook.name.lower()}`): remove it, or use "
                f"--backend route"
            )
        _remove(tc, wanted.interface, wanted.hook)
        _add_clsact(tc, wanted.interface)
        tc.put(wanted.interface, wanted.hook, KIND, PREFERENCE, HANDLE, _options(wanted))


def undivert(interface: int, hook: Hook) -> bool:
    """Remove our diversion from the hook; returns False if there was none. Raises RouterError."""
    with _tc() as tc:
        return _remove(tc, interface, hook)


def diversion_by(found: Filter, interface: int, hook: Hook) -> Diversion | None:
    """Return the diversion that a filter's actions amount to, or None if it does anything else."""
    if found.kind != KIND:
        return None
    header: Ethernet | None = None
    for _, action in sorted(attributes(found.options.get(TCA_MATCHALL_ACT, b""))):
        parts = dict(attributes(action))
        details = dict(attributes(parts.get(TCA_ACT_OPTIONS, b"")))
        special = details.get(TCA_PARMS, b"")[ACTION.size :]
        kind = parts[TCA_ACT_KIND].rstrip(b"\0")
        if kind == b"vlan" and special == VLAN_PUSH_ETH:
            header = Ethernet(_mac_text(details[TCA_VLAN_PUSH_ETH_DST]), _mac_text(details[TCA_VLAN_PUSH_ETH_SRC]))
        elif kind == b"mirred":
            direction, to = MIRRED.unpack(special)
            if direction in (EGRESS_REDIRECT, INGRESS_REDIRECT):
                return Diversion(interface, hook, to, direction == INGRESS_REDIRECT, header)
            return None
        else:
            return None
    return None


@contextlib.contextmanager
def _tc() -> Iterator[Tc]:
    """Yield the filters of the current network namespace. Raises RouterError for what the kernel refuses."""
    try:
        with contextlib.closing(RouteSocket()) as netlink:
            yield Tc(netlink)
    except TcError as error:
        hint = " (does the kernel have sch_ingress, cls_matchall, act_mirred and act_vlan?)" * (
            error.code in (errno.ENOENT, errno.EOPNOTSUPP)
        )
        raise RouterError(f"{error}{hint}") from error


def _is_ours(found: Filter) -> bool:
    return (found.kind, found.preference) == (KIND, PREFERENCE)


def _remove(tc: Tc, interface: int, hook: Hook) -> bool:
    ours = next(filter(_is_ours, tc.filters(interface, hook)), None)
    if ours is not None:
        tc.remove(interface, hook, ours)
    return ours is not None


def _add_clsact(tc: Tc, interface: int) -> None:
    kind = tc.qdisc(interface)
    if kind is None:
        tc.add_clsact(interface)
    elif kind != "clsact":
        raise RouterError(
            f"tc on interface {_name(interface)} belongs to someone else: it has the qdisc {kind} where "
            f"clsact is needed. Remove it (`tc qdisc del dev {_name(interface)} {kind}`), or use "
            f"--backend route"
        )


def _options(wanted: Diversion) -> bytes:
    actions = []
    if wanted.header is not None:
        push = attribute(TCA_PARMS, ACTION.pack(0, 0, TC_ACT_PIPE, 0, 0) + VLAN_PUSH_ETH)
        push += attribute(TCA_VLAN_PUSH_ETH_DST, _mac(wanted.header.destination))
        push += attribute(TCA_VLAN_PUSH_ETH_SRC, _mac(wanted.header.source))
        actions.append(attribute(TCA_ACT_KIND, b"vlan\0") + attribute(TCA_ACT_OPTIONS, push))
    direction = INGRESS_REDIRECT if wanted.receive else EGRESS_REDIRECT
    redirect = attribute(TCA_PARMS, ACTION.pack(0, 0, TC_ACT_STOLEN, 0, 0) + MIRRED.pack(direction, wanted.to))
    actions.append(attribute(TCA_ACT_KIND, b"mirred\0") + attribute(TCA_ACT_OPTIONS, redirect))
    chain = b"".join(attribute(order, action) for order, action in enumerate(actions, 1))
    return attribute(TCA_MATCHALL_ACT, chain)


def _name(interface: int) -> str:
    return socket.if_indextoname(interface)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _mac_text(octets: bytes) -> str:
    return octets.hex(":")
