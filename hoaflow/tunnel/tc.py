# SPDX-License-Identifier: Apache-2.0
"""List and change the filters at the ends of an interface: tc's qdisc clsact (tc-bpf(8), tc-mirred(8)).

Formats: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h.
"""

import os
import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from hoaflow.linux import (
    ETH_P_ALL,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_DELQDISC,
    RTM_DELTFILTER,
    RTM_GETQDISC,
    RTM_GETTFILTER,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
)
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.rtnetlink import RouteSocket, attribute, attributes

TCMSG = struct.Struct("=BxxxiIII")  # family, interface index, handle, parent, info
CLSACT_HANDLE, CLSACT_PARENT = 0xFFFF0000, 0xFFFFFFF1
TCA_KIND, TCA_OPTIONS = 1, 2


class TcError(TunnelError):
    """The kernel refused a filter or a qdisc. `code`: its errno."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: {os.strerror(code)}")
        self.code = code


class Hook(IntEnum):
    """Where on an interface a filter acts (tc: its parent)."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


class Filter(NamedTuple):
    """A filter in the kernel. `options`: the attributes that its kind has."""

    preference: int
    handle: int
    kind: str
    options: dict[int, bytes]
    info: int


class Tc:
    """The filters of a namespace's interfaces, which are given by index. Raises TcError, OSError."""

    def __init__(self, netlink: RouteSocket) -> None:
        self._netlink = netlink

    def filters(self, interface: int, hook: Hook) -> list[Filter]:
        """Return all filters at a hook."""
        found = []
        for payload in self._netlink.listing(RTM_GETTFILTER, TCMSG.pack(0, interface, 0, hook, 0)):
            _, where, handle, parent, info = TCMSG.unpack_from(payload)
            facts = dict(attributes(payload[TCMSG.size :]))
            # A filter's chain has a message of its own, without handle.
            if (where, parent) == (interface, hook) and handle:
                kind = facts[TCA_KIND].rstrip(b"\0").decode()
                found.append(Filter(info >> 16, handle, kind, dict(attributes(facts.get(TCA_OPTIONS, b""))), info))
        return found

    def qdisc(self, interface: int) -> str | None:
        """Return the kind of the qdisc that stands where clsact would, or None."""
        for payload in self._netlink.listing(RTM_GETQDISC, TCMSG.pack(0, interface, 0, 0, 0)):
            _, where, handle, _, _ = TCMSG.unpack_from(payload)
            if (where, handle) == (interface, CLSACT_HANDLE):
                return dict(attributes(payload[TCMSG.size :]))[TCA_KIND].rstrip(b"\0").decode()
        return None

    def add_clsact(self, interface: int) -> None:
        """Make the qdisc that filters are attached to, where there is none."""
        message = TCMSG.pack(0, interface, CLSACT_HANDLE, CLSACT_PARENT, 0) + attribute(TCA_KIND, b"clsact\0")
        self._request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, message, "tc qdisc clsact")

    def remove_qdisc(self, interface: int, kind: str) -> None:
        """Remove the qdisc that stands where clsact would."""
        message = TCMSG.pack(0, interface, CLSACT_HANDLE, CLSACT_PARENT, 0) + attribute(TCA_KIND, kind.encode() + b"\0")
        self._request(RTM_DELQDISC, 0, message, f"removing tc qdisc {kind}")

    def put(self, interface: int, hook: Hook, kind: str, preference: int, handle: int, options: bytes) -> None:
        """Add a filter for all packets, or have it take the place of one with this preference and handle."""
        message = TCMSG.pack(0, interface, handle, hook, preference << 16 | socket.htons(ETH_P_ALL))
        message += attribute(TCA_KIND, kind.encode() + b"\0") + attribute(TCA_OPTIONS, options)
        self._request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, message, f"tc filter {kind}")

    def remove(self, interface: int, hook: Hook, found: Filter) -> None:
        """Remove a filter, with all others of its preference."""
        message = TCMSG.pack(0, interface, 0, hook, found.info) + attribute(TCA_KIND, found.kind.encode() + b"\0")
        self._request(RTM_DELTFILTER, 0, message, f"removing tc filter {found.kind}")

    def _request(self, kind: int, flags: int, body: bytes, what: str) -> None:
        (code,) = self._netlink.request(kind, flags, [body])
        if code:
            raise TcError(what, code)
