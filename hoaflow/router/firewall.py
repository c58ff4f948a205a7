# SPDX-License-Identifier: Apache-2.0
"""Find out with real packets whether the packet filter of the router's kernel drops direct traffic.

Rules can be read, but only the kernel knows what they come to, whoever wrote them (nft, iptables, firewalld, ufw). So
packets like those of offloaded connections take the same way, and the kernel traces which rule drops them.
`hoaflow.router.packet_filter` drops them after everybody's rules, so none leaves the router.
"""

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from hoaflow.addresses import parse_address
from hoaflow.linux import NETLINK_NETFILTER
from hoaflow.logs import Log
from hoaflow.router.errors import NoRoute, NotTakenIn, RouterError
from hoaflow.tunnel import nft
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.changes import Changes, Of
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import Namespace, in_namespace
from hoaflow.tunnel.objects import place

LOG = Log("router")

TIMEOUT = 10.0  # seconds, enough for a slow host to start nft and ovs-ofctl
AGAIN = 0.2  # seconds between packets: the first may be sent before the trace is listened to
TRY_SECONDS = 30.0  # seconds between tries while the rules stay
# Packets of each kind of which one has to come to the rules, and tries in a row without: a machine may stand still.
ENOUGH, NOT_TAKEN_IN = 10, 2

REVERSE_PATH = "fib saddr"
"""What rules check sources by their routes with (nft(8)); a rule that accepts later does not help against them."""
EXEMPT = (
    "exempt them from the check of sources, as home addresses have their routes elsewhere; firewalld: IPv6_rpfilter=no "
    "in firewalld.conf"
)

Send = Callable[[], object]


class Probe(NamedTuple):
    """A kind of packet to try: how to send one, and how to recognize what became of it.

    `what`: what it stands for, in words. `length`: the length in its header (IPv6: of the payload), which no other kind
    to the same address has. `table`: the nftables table (of its family) with the chains `begun`, which it meets before
    anybody's rules, and `passed`, which drops it after them. `to`: where the router's kernel routes it. `remedy`: a
    rule that lets such packets through.
    """

    what: str
    length: int
    table: str
    begun: str
    passed: str
    to: str
    remedy: str
    sender: Callable[[], contextlib.AbstractContextManager[Send]]


class Dropped(NamedTuple):
    """What the packet filter drops, the rule that does it, and what to do about it."""

    what: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"the router's packet filter drops {self.what}: {self.rule}"


def what_drops(namespace: Namespace, probes: Sequence[Probe], ended: threading.Event | None = None) -> Dropped | None:
    """Return the first thing that the packet filter of a namespace drops, or None.

    Raises TunnelError when that cannot be told (NoRoute if the kernel has no route for one, NotTakenIn if one never
    came to the rules), and when it is `ended`.
    """

    def listen() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["nft", "monitor", "trace"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    try:
        monitor = in_namespace(namespace, listen)
    except FileNotFoundError as error:
        raise RouterError("nft was not found: install Debian's package nftables") from error
    try:
        with contextlib.ExitStack() as opened:
            senders = {probe: opened.enter_context(probe.sender()) for probe in probes}
            return _verdict(namespace, monitor, senders, ended or threading.Event())
    finally:
        monitor.kill()
        monitor.communicate()


class Firewall:
    """A packet filter, tried anew when its rules change and every TRY_SECONDS seconds.

    `problem`: what it drops, or what is dropped before it, as last seen; None if nothing. The first try is made at
    once, all others in a thread, as one may take seconds: `notify` is called there when `problem` has changed.
    """

    def __init__(
        self, name: str, namespace: Namespace, probes: Callable[[], Sequence[Probe]], notify: Callable[[], None]
    ) -> None:
        """Try it. Raises OSError and NamespaceError when its rules cannot be followed."""
        self.problem: str | None = None
        self._name = name
        self._namespace = namespace
        self._probes = probes
        self._notify = notify
        self._changes = Changes(namespace, Of.RULESETS)
        self._closed = threading.Event()
        self._trying = threading.Thread()
        self._due = time.monotonic() + TRY_SECONDS
        self._not_taken_in = 0  # tries in a row
        self._try()

    def try_if_due(self, now: float) -> None:
        """Start a try if one is due."""
        if self._trying.is_alive():
            return  # changes wait for the next call
        if self._changes.drain() or now >= self._due or 0 < self._not_taken_in < NOT_TAKEN_IN:
            self._due = now + TRY_SECONDS
            self._trying = threading.Thread(target=self._try, daemon=True, name=f"filter {self._name}")
            self._trying.start()

    def close(self) -> None:
        """End the try that is under way, and stop following the rules."""
        self._closed.set()
        if self._trying.is_alive():
            self._trying.join()
        self._changes.close()

    def _try(self) -> None:
        before, not_taken_in = self.problem, 0
        try:
            dropped = what_drops(self._namespace, self._probes(), self._closed)
            self.problem = None if dropped is None else str(dropped)
        except (TunnelError, OSError) as error:
            if not self._closed.is_set():
                LOG.warning("firewall-not-tried", what=self._name, reason=error)
            if isinstance(error, NotTakenIn):
                not_taken_in = self._not_taken_in + 1
                if not_taken_in >= NOT_TAKEN_IN:
                    self.problem = str(error)
        self._not_taken_in = not_taken_in
        if self.problem != before:
            self._notify()


class Subject(NamedTuple):
    """A packet filter to try: a name for logs, its namespace, and the probes."""

    name: str
    namespace: Namespace
    probes: Callable[[], Sequence[Probe]]


class Firewalls:
    """All packet filters that concern an agent's tunnels, by any key. `notify`: as for Firewall."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._firewalls: dict[Hashable, Firewall] = {}

    def update(self, subjects: Mapping[Hashable, Subject]) -> None:
        """Start the tries that are due, try new packet filters at once, and close those that are not given."""
        for gone in self._firewalls.keys() - subjects.keys():
            self._firewalls.pop(gone).close()
        for key, subject in subjects.items():
            if key in self._firewalls:
                self._firewalls[key].try_if_due(time.monotonic())
                continue
            try:
                self._firewalls[key] = Firewall(*subject, self._notify)
            except (TunnelError, OSError) as error:
                LOG.warning("firewall-not-tried", what=subject.name, reason=error)

    def problem(self, key: Hashable) -> str | None:
        """Return what a packet filter drops, as last seen, or None."""
        firewall = self._firewalls.get(key)
        return None if firewall is None else firewall.problem

    def close(self) -> None:
        """Close all packet filters."""
        self.update({})


def _verdict(
    namespace: Namespace, monitor: subprocess.Popen[bytes], senders: Mapping[Probe, Send], ended: threading.Event
) -> Dropped | None:
    assert monitor.stdout is not None
    trace = _Trace(list(senders))
    deadline, rest, sent = time.monotonic() + TIMEOUT, b"", 0
    while time.monotonic() < deadline:
        if ended.is_set():
            raise RouterError("the packet filter was not tried to the end")
        sent += _listens(monitor.pid)
        for probe in trace.pending:
            senders[probe]()
        again = time.monotonic() + AGAIN  # however much else is traced meanwhile
        while (left := again - time.monotonic()) > 0 and select.select([monitor.stdout], [], [], left)[0]:
            part = os.read(monitor.stdout.fileno(), 1 << 16)
            if not part:
                raise RouterError("`nft monitor trace` ended: is this root?")
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if (dropped := trace.read(line.decode(errors="replace"))) is not None:
                    return dropped
            if not trace.pending:
                return None
    return trace.conclude(namespace, sent)


def _listens(monitor: int) -> bool:
    """Tell whether `nft monitor trace` listens already, by its process id: it takes seconds to start on a slow host."""
    try:
        with open(f"/proc/{monitor}/net/netlink", encoding="ascii") as sockets:
            found = [line.split() for line in sockets]
    except OSError:
        return False  # it has ended, as the end of its output tells
    return any(
        (protocol, port) == (str(NETLINK_NETFILTER), str(monitor)) and int(groups, 16)
        for _, protocol, port, groups, *_ in found
    )


class _Trace:
    """The kernel's trace of some probes. `pending`: those without a verdict."""

    def __init__(self, probes: list[Probe]) -> None:
        self.pending = probes
        # With the address, for other endpoints' probes pass the chains of this table as well.
        self._probes = {(probe.table, probe.length, probe.to): probe for probe in probes}
        self._traced: dict[str, Probe] = {}  # by the trace's number
        self._begun: set[Probe] = set()

    def read(self, line: str) -> Dropped | None:
        """Take in a line of `nft monitor trace`; returns what is dropped if it says that a probe was."""
        _, _, number, family, table, chain, *said = line.split()
        ip = next((each for each in ("ip6", "ip") if each in said), None)
        if said[0] == "packet:" and "length" in said and ip is not None:
            length = int(said[said.index("length") + 1])
            to = said[said.index("daddr", said.index(ip)) + 1]
            if (probe := self._probes.get((table, length, to))) is not None:
                self._traced[number] = probe
        if (probe := self._traced.get(number)) is None:
            return None  # somebody else's packet
        if table == probe.table:
            if chain == probe.begun:
                self._begun.add(probe)
            if chain == probe.passed and probe in self.pending:
                self.pending.remove(probe)
        elif said[-2:] == ["(verdict", "drop)"] or said[:2] == ["policy", "drop"]:
            rule = " ".join(said).removesuffix(" (verdict drop)")
            remedy = EXEMPT if REVERSE_PATH in rule else probe.remedy
            return Dropped(probe.what, f"chain {chain} of table {family} {table}: {rule}", remedy)
        return None

    def conclude(self, namespace: Namespace, sent: int) -> Dropped:
        """Return what is dropped without a trace, after so many packets of each kind.

        Raises NoRoute, NotTakenIn if it never met the packet filter, RouterError if it may yet have done so.
        """
        probe = self.pending[0]
        if probe in self._begun:
            return Dropped(
                probe.what, "something that nftables does not trace (rules of iptables-legacy?)", probe.remedy
            )
        with ActualState() as actual:
            if actual.route_to(namespace, parse_address(probe.to)) is None:
                raise NoRoute(f"the router's kernel{place(namespace)} has no route to {probe.to}")
        if sent < ENOUGH:
            raise RouterError(f"none of {sent} packets to {probe.to} has come to the router's packet filter yet")
        tables = sorted(name for family, name in nft.tables(namespace) if family == "netdev")
        suspects = "nftables table netdev " + ", ".join(tables) if tables else "a filter of tc?"
        raise NotTakenIn(f"the router's kernel drops {probe.what} before its packet filter: {suspects}")
