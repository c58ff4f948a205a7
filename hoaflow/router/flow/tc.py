# SPDX-License-Identifier: Apache-2.0
"""Divert all packets of an interface to another one by tc (matchall and mirred, tc-mirred(8)).

Interfaces are given by index, in the current network namespace. pyroute2 does not know `vlan push_eth`, so the messages
are packed here. Formats: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h,
linux/tc_act/tc_vlan.h.
"""

import contextlib
import errno
import os
import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from hoaflow.linux import (
    ETH_P_ALL,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELTFILTER,
    RTM_GETQDISC,
    RTM_GETTFILTER,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
)
from hoaflow.router.errors import RouterError
from hoaflow.tunnel.rtnetlink import RouteSocket
from hoaflow.tunnel.rtnetlink import attribute as nla
from hoaflow.tunnel.rtnetlink import attributes as nlas

TCMSG = struct.Struct("=BxxxiIII")  # family, interface index, handle, parent, info
CLSACT_HANDLE, CLSACT_PARENT = 0xFFFF0000, 0xFFFFFFF1
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_MATCHALL_ACT = 2
TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 2
TC_ACT_PIPE, TC_ACT_STOLEN = 3, 4
ACTION = struct.Struct("=IIiii")  # index, capab, action, refcnt, bindcnt
TCA_PARMS = 2  # of mirred and of vlan
MIRRED = struct.Struct("=iI")  # eaction, interface index
EGRESS_REDIRECT, INGRESS_REDIRECT = 1, 3
VLAN_PUSH_ETH = struct.pack("=i", 5)
TCA_VLAN_PUSH_ETH_DST, TCA_VLAN_PUSH_ETH_SRC = 7, 8

PREFERENCE = 6941  # of our filters, by which they are recognized


class Hook(IntEnum):
    """Where on an interface a filter acts (tc: its parent)."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


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


class Filter(NamedTuple):
    """A filter in the kernel; `diversion` is None if it does anything else."""

    preference: int
    kind: str
    diversion: Diversion | None


def divert(wanted: Diversion) -> None:
    """Make the diversion in place of a stale one. Raises RouterError if the hook has somebody else's filters."""
    filters = installed(wanted.interface, wanted.hook)
    if not all(map(_is_ours, filters)):
        raise RouterError(
            f"tc at {wanted.hook.name.lower()} of interface {_name(wanted.interface)} belongs to someone else "
            f"(`tc filter show dev {_name(wanted.interface)} {wanted.hook.name.lower()}`): remove it, or use "
            f"--backend route"
        )
    undivert(wanted.interface, wanted.hook)
    _add_clsact(wanted.interface)
    _request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, _message(wanted), "tc filter")


def undivert(interface: int, hook: Hook) -> bool:
    """Remove our diversion from the hook; returns False if there was none."""
    there = any(map(_is_ours, installed(interface, hook)))
    if there:
        message = TCMSG.pack(0, interface, 0, hook, PREFERENCE << 16 | socket.htons(ETH_P_ALL))
        _request(RTM_DELTFILTER, 0, message + nla(TCA_KIND, b"matchall\0"), "tc filter")
    return there


def installed(interface: int, hook: Hook) -> list[Filter]:
    """Return all filters at a hook, ours and others."""
    found = []
    for payload in _listing(RTM_GETTFILTER, TCMSG.pack(0, interface, 0, hook, 0)):
        _, where, handle, parent, info = TCMSG.unpack_from(payload)
        options = dict(nlas(payload[TCMSG.size :]))
        # A filter's chain has a message of its own, without handle.
        if (where, parent) != (interface, hook) or not handle:
            continue
        kind = options[TCA_KIND].rstrip(b"\0").decode()
        diversion = _diversion(interface, hook, options.get(TCA_OPTIONS, b"")) if kind == "matchall" else None
        found.append(Filter(info >> 16, kind, diversion))
    return found


def _is_ours(found: Filter) -> bool:
    return found.preference == PREFERENCE and found.kind == "matchall"


def _add_clsact(interface: int) -> None:
    message = TCMSG.pack(0, interface, CLSACT_HANDLE, CLSACT_PARENT, 0) + nla(TCA_KIND, b"clsact\0")
    for payload in _listing(RTM_GETQDISC, TCMSG.pack(0, interface, 0, 0, 0)):
        _, where, handle, _, _ = TCMSG.unpack_from(payload)
        if (where, handle) == (interface, CLSACT_HANDLE):
            kind = dict(nlas(payload[TCMSG.size :]))[TCA_KIND].rstrip(b"\0").decode()
            if kind == "clsact":
                return
            raise RouterError(
                f"tc on interface {_name(interface)} belongs to someone else: it has the qdisc {kind} where "
                f"clsact is needed. Remove it (`tc qdisc del dev {_name(interface)} {kind}`), or use "
                f"--backend route"
            )
    _request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, message, "tc qdisc clsact")


def _message(wanted: Diversion) -> bytes:
    actions = []
    if wanted.header is not None:
        push = nla(TCA_PARMS, ACTION.pack(0, 0, TC_ACT_PIPE, 0, 0) + VLAN_PUSH_ETH)
        push += nla(TCA_VLAN_PUSH_ETH_DST, _mac(wanted.header.destination))
        push += nla(TCA_VLAN_PUSH_ETH_SRC, _mac(wanted.header.source))
        actions.append(nla(TCA_ACT_KIND, b"vlan\0") + nla(TCA_ACT_OPTIONS, push))
    direction = INGRESS_REDIRECT if wanted.receive else EGRESS_REDIRECT
    redirect = nla(TCA_PARMS, ACTION.pack(0, 0, TC_ACT_STOLEN, 0, 0) + MIRRED.pack(direction, wanted.to))
    actions.append(nla(TCA_ACT_KIND, b"mirred\0") + nla(TCA_ACT_OPTIONS, redirect))
    chain = b"".join(nla(order, action) for order, action in enumerate(actions, 1))
    message = TCMSG.pack(0, wanted.interface, 0, wanted.hook, PREFERENCE << 16 | socket.htons(ETH_P_ALL))
    return message + nla(TCA_KIND, b"matchall\0") + nla(TCA_OPTIONS, nla(TCA_MATCHALL_ACT, chain))


def _diversion(interface: int, hook: Hook, options: bytes) -> Diversion | None:
    """Return the diversion that a matchall filter's actions amount to, or None."""
    header: Ethernet | None = None
    chain = dict(nlas(options)).get(TCA_MATCHALL_ACT, b"")
    for _, action in sorted(nlas(chain)):
        parts = dict(nlas(action))
        details = dict(nlas(parts.get(TCA_ACT_OPTIONS, b"")))
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


def _request(kind: int, flags: int, body: bytes, what: str) -> None:
    with contextlib.closing(RouteSocket()) as netlink:
        (code,) = netlink.request(kind, flags, [body])
    if code:
        hint = " (does the kernel have sch_ingress, cls_matchall, act_mirred and act_vlan?)" * (
            code in (errno.ENOENT, errno.EOPNOTSUPP)
        )
        raise RouterError(f"{what}: {os.strerror(code)}{hint}")


def _listing(kind: int, body: bytes) -> list[bytes]:
    with contextlib.closing(RouteSocket()) as netlink:
        return list(netlink.listing(kind, body))


def _name(interface: int) -> str:
    return socket.if_indextoname(interface)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _mac_text(octets: bytes) -> str:
    return octets.hex(":")
