# SPDX-License-Identifier: Apache-2.0
"""Follow the kernel in the home agent's network namespace: rtnetlink for tunnels, xfrm for IPsec policies.

pyroute2 decodes the messages. The sockets are plain ones, so that an overrun (ENOBUFS) does not go unnoticed:
everything is read again after one. Only the kernel is heard: whoever has CAP_NET_ADMIN may send to these sockets, too,
and pyroute2 never ends with a nested attribute of no length, which no kernel makes.
"""

import errno
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from ha_bridge.ipsec_policies import (
    XFRM_MSG_DELPOLICY,
    XFRM_MSG_GETPOLICY,
    Policy,
    Protection,
    messages,
    protecting_policy,
)
from ha_bridge.kernel_view import KernelView
from ha_bridge.model import Observed
from hoaflow.linux import RTMGRP_LINK
from hoaflow.logs import Log

LOG = Log("bridge")

NETLINK_XFRM = 6
RTMGRP_IPV6_ROUTE = 0x400
ROUTE_GROUPS: dict[int, int] = {socket.AF_INET: 0x40, socket.AF_INET6: RTMGRP_IPV6_ROUTE}
XFRMGRP_POLICY = 1 << 3
RECEIVE_BUFFER = 4 << 20
CHUNK = 1 << 18
TIMEOUT = 10.0  # seconds for one part of a dump
_SO_RCVBUFFORCE = 33  # socket(7); no name in Python's socket module
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_RTM_PROTOCOL_AT = 5
_KERNEL = 0  # as the port of a sender (netlink(7))


def multicast_socket(family: int, groups: int) -> socket.socket:
    """Return a netlink socket that receives the multicast `groups` of `family`."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:  # as much as net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.bind((0, groups))
    sock.setblocking(False)
    return sock


def read_view(home_agent: str, home_prefixes: list[str], prefix_length: int = 128) -> KernelView:
    """Return all tunnels of `home_agent` that the kernel has now."""
    view = KernelView(home_agent, home_prefixes, prefix_length)
    with IPRoute() as route:
        for message in route.get_links():
            view.apply(message)
        for protocol in view.kind.protocols:
            for family in view.kind.families:
                for message in route.get_routes(family=family, proto=protocol):
                    view.apply(message)
    return view


def read_policies() -> list[Policy]:
    """Return the policies of this network namespace that encrypt or authenticate.

    A kernel without xfrm has none. Raises PermissionError without CAP_NET_ADMIN.
    """
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            return []
        raise
    with sock:
        sock.settimeout(TIMEOUT)
        sock.bind((0, 0))
        body = struct.pack("=64x")  # struct xfrm_userpolicy_id, unused in a dump
        sock.send(struct.pack("=IHHII", 16 + len(body), XFRM_MSG_GETPOLICY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0) + body)
        return list(_dumped(sock))


def _dumped(sock: socket.socket) -> Iterator[Policy]:
    while True:
        for kind, payload in messages(sock.recv(CHUNK)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                raise OSError(code, f"the kernel does not list the IPsec policies: {errno.errorcode.get(code, code)}")
            if (policy := protecting_policy(kind, payload)) is not None:
                yield policy


class KernelWatch:
    """Follow the kernel in a thread and call `changed` for each relevant event.

    With `keep_view`, the tunnels are kept up to date for `bindings`; without, an event is only a trigger.
    """

    def __init__(
        self,
        home_agent: str,
        home_prefixes: list[str],
        changed: Callable[[], None],
        keep_view: bool,
        prefix_length: int = 128,
    ) -> None:
        self._kept = home_agent, home_prefixes, prefix_length
        self._home_agent = home_agent
        self._changed = changed
        self._keep_view = keep_view
        self._lock = threading.Lock()
        self._marshal = MarshalRtnl()
        self._selector = selectors.DefaultSelector()
        families = KernelView(*self._kept).kind.families
        routes = sum(ROUTE_GROUPS[family] for family in families)
        self._rtnl = multicast_socket(socket.NETLINK_ROUTE, RTMGRP_LINK | routes)
        self._selector.register(self._rtnl, selectors.EVENT_READ, self._on_rtnl)
        self._watch_policies()
        self._resync()

    def _watch_policies(self) -> None:
        try:
            sock = multicast_socket(NETLINK_XFRM, XFRMGRP_POLICY)
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:
                raise
            return
        self._selector.register(sock, selectors.EVENT_READ, self._on_xfrm)

    def _resync(self) -> None:
        # The sockets are subscribed already, so changes during the reading are applied after it.
        view = KernelView(*self._kept)
        if self._keep_view:
            view = read_view(*self._kept)
        policies = read_policies()
        with self._lock:
            self._view = view
            self._protected = bool(policies)
            self._protection = Protection(policies, self._home_agent)

    def bindings(self) -> list[Observed]:
        """Return the bindings that the kernel shows. Needs `keep_view`."""
        with self._lock:
            return self._view.bindings()

    def confirmed(self) -> dict[str, str]:
        """Read the care-of address of each home address from the kernel."""
        found = read_view(*self._kept).bindings()
        return {binding.home_address: binding.care_of_address for binding in found}

    def protection(self) -> Protection:
        """Return the current IPsec protection."""
        with self._lock:
            return self._protection

    def run(self) -> None:
        """Follow the kernel, without end."""
        while True:
            for key, _events in self._selector.select():
                key.data(key.fileobj)

    def _on_rtnl(self, sock: socket.socket) -> None:
        data = self._receive(sock)
        if data is None:
            return
        relevant = False
        for kind, payload in messages(data):
            if kind in (_RTM_NEWROUTE, _RTM_DELROUTE) and payload[_RTM_PROTOCOL_AT] not in self._view.kind.protocols:
                continue  # not decoded: a home agent that is also a router sees many of these
            packet = struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload
            for message in self._marshal.parse(packet):
                with self._lock:
                    relevant |= self._view.apply(message)
        if relevant:
            self._changed()

    def _on_xfrm(self, sock: socket.socket) -> None:
        data = self._receive(sock)
        if data is None:
            return
        # Even a home agent without IPsec changes policies at each handover; those need no new dump.
        kinds = list(messages(data))
        if any(protecting_policy(kind, payload) is not None for kind, payload in kinds) or (
            self._protected and any(kind >= XFRM_MSG_DELPOLICY for kind, _payload in kinds)
        ):
            self._reread_policies()
            self._changed()

    def _reread_policies(self) -> None:
        policies = read_policies()
        with self._lock:
            self._protected = bool(policies)
            self._protection = Protection(policies, self._home_agent)

    def _receive(self, sock: socket.socket) -> bytes | None:
        """Return the kernel's next datagram.

        None if there is none or it is another's, or after an overrun, when everything has been read again.
        """
        try:
            data, (sender, _groups) = sock.recvfrom(CHUNK)
            return data if sender == _KERNEL else None
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        LOG.warning("netlink-overrun", does="reads everything anew")
        self._resync()
        self._changed()
        return None
