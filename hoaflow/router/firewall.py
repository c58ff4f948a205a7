# SPDX-License-Identifier: Apache-2.0
"""Whether the packet filter of the router's kernel lets through what leaves a tunnel, tried with a real packet.

Rules can be read, but what they come to is for the kernel to say: whoever wrote them (nft, iptables, firewalld, ufw),
a packet like an answer of an offloaded connection goes the way that all of them go, then one like a tunnel packet to a
care-of address, and the kernel traces which rule drops them. Source and destination are the home agent's address, which
no packet has; `hoaflow.router.packet_filter` drops them after everybody's rules, so they leave nowhere.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable

from hoaflow.linux import ETH_P_IPV6
from hoaflow.logs import Log
from hoaflow.router.endpoint import TOUT, Endpoint
from hoaflow.router.errors import RouterError
from hoaflow.router.packet_filter import FORWARD_CHAIN, PROBE_CHAIN
from hoaflow.tunnel import links
from hoaflow.tunnel.changes import Changes, Of
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import in_namespace

LOG = Log("router")

TIMEOUT = 3.0  # seconds
AGAIN = 0.2  # seconds between packets: the first may come before the trace is listened to
LOOK = 30.0  # seconds between tries while the rules stay
ALLOW = 'accept packets from hfk-*, for example: nft insert rule inet filter forward iifname "hfk-*" accept'
TCP, SYN_ACK, HOP_LIMIT = 6, 0x12, 64
HEADERS = 14 + 40  # octets, Ethernet's and IPv6's


def what_drops(endpoint: Endpoint, ended: threading.Event | None = None) -> str | None:
    """Say what drops packets that leave the endpoint, None if they get through. Only IPv6 is tried.

    Raises TunnelError when that cannot be told, and when it is `ended`.
    """
    kernel_side = links.link(endpoint.kernel_namespace, endpoint.kernel_port)
    if kernel_side is None:
        raise RouterError(f"interface {endpoint.kernel_port} is missing")
    for said, payload in (
        ("", _answer(endpoint)),
        (" (tunnel packets, IPv6 next header 41)", _tunnel_packet(endpoint)),
    ):
        reason = _try(endpoint, _frame(kernel_side["mac"], payload), ended or threading.Event())
        if reason is not None:
            return reason + said
    return None


def _try(endpoint: Endpoint, frame: bytes, ended: threading.Event) -> str | None:
    def listen() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["nft", "monitor", "trace"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def open_link() -> socket.socket:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        link.bind((TOUT, 0))
        return link

    try:
        monitor = in_namespace(endpoint.kernel_namespace, listen)
    except FileNotFoundError as error:
        raise RouterError("nft was not found: install Debian's package nftables") from error
    try:
        with in_namespace(endpoint.namespace, open_link) as link:
            return _verdict(monitor, link, frame, endpoint, ended)
    finally:
        monitor.kill()
        monitor.communicate()


class Firewall:
    """The packet filter of one endpoint's router kernel, tried anew when its rules change and every LOOK seconds.

    `problem`: what drops the packets that leave the tunnel, as last seen; None where they get through. Tried at once,
    and later in a thread, as a try may take seconds: `tell` is called there when `problem` has changed. Raises OSError
    and NamespaceError when its rules cannot be followed.
    """

    def __init__(self, endpoint: Endpoint, tell: Callable[[], None]) -> None:
        self.problem: str | None = None
        self._endpoint = endpoint
        self._tell = tell
        self._changes = Changes(endpoint.kernel_namespace, Of.RULESETS)
        self._closed = threading.Event()
        self._trying = threading.Thread()
        self._due = time.monotonic() + LOOK
        self._try()

    def look(self, now: float) -> None:
        """Have it tried if that is due."""
        if self._trying.is_alive():
            return  # what has changed meanwhile is there the next time
        if self._changes.drain() or now >= self._due:
            self._due = now + LOOK
            self._trying = threading.Thread(target=self._try, daemon=True, name=f"filter {self._endpoint.home_agent}")
            self._trying.start()

    def close(self) -> None:
        """End what is being tried."""
        self._closed.set()
        if self._trying.is_alive():
            self._trying.join()
        self._changes.close()

    def _try(self) -> None:
        before = self.problem
        try:
            self.problem = what_drops(self._endpoint, self._closed)
        except (TunnelError, OSError) as error:
            if not self._closed.is_set():
                LOG.warning("firewall-not-tried", home_agent=self._endpoint.home_agent, reason=error)
        if self.problem != before:
            self._tell()


def _verdict(
    monitor: subprocess.Popen[bytes], link: socket.socket, frame: bytes, endpoint: Endpoint, ended: threading.Event
) -> str | None:
    assert monitor.stdout is not None
    deadline, forwarded, rest = time.monotonic() + TIMEOUT, False, b""
    # Others may try at the same time, and what was tried before may be late: known by the length in its IPv6 header.
    length, ours = f" ip6 length {len(frame) - HEADERS} ", set[str]()
    while time.monotonic() < deadline:
        if ended.is_set():
            raise RouterError("the packet filter was not tried to the end")
        link.send(frame)
        while select.select([monitor.stdout], [], [], AGAIN)[0]:
            part = os.read(monitor.stdout.fileno(), 1 << 16)
            if not part:
                raise RouterError("`nft monitor trace` ended: is this root?")
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                _, _, trace, family, table, chain, *what = text.split()
                if what[0] == "packet:" and length in f"{text} ":
                    ours.add(trace)
                if trace not in ours:
                    continue
                if table == endpoint.namespace and chain == PROBE_CHAIN:
                    return None
                forwarded = forwarded or (table == endpoint.namespace and chain == FORWARD_CHAIN)
                if what[-2:] == ["(verdict", "drop)"] or what[:2] == ["policy", "drop"]:
                    rule = " ".join(what).removesuffix(" (verdict drop)")
                    return f"chain {chain} of table {family} {table}: {rule}"
    if forwarded:
        return "something that nftables does not trace (rules of iptables-legacy?)"
    raise RouterError(f"the router's kernel did not forward a packet to {endpoint.home_agent}: has it a route there?")


def _answer(endpoint: Endpoint) -> bytes:
    """An IPv6 packet as it leaves the tunnel: the second packet of a TCP connection's beginning."""
    tcp = struct.pack("!HHIIBBHHH", 443, 50000, 1, 1, 5 << 4, SYN_ACK, 1024, 0, 0)
    return _ipv6(endpoint, TCP, tcp)


def _tunnel_packet(endpoint: Endpoint) -> bytes:
    """An IPv6 packet as it enters the tunnel, with an empty one inside."""
    return _ipv6(endpoint, socket.IPPROTO_IPV6, _ipv6(endpoint, socket.IPPROTO_NONE, b""))


def _ipv6(endpoint: Endpoint, next_header: int, payload: bytes) -> bytes:
    address = socket.inet_pton(socket.AF_INET6, endpoint.home_agent)
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, HOP_LIMIT) + address + address + payload


def _frame(mac: str, packet: bytes) -> bytes:
    return bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("020000000001") + struct.pack("!H", ETH_P_IPV6) + packet
