# SPDX-License-Identifier: Apache-2.0
"""Show on the home link that this pod has the addresses, and keep a former owner's kernel silent there.

The kernel answers neighbour solicitations for the home agent and its mobile nodes by itself, also after this process
was stopped or killed. So it may do that only while a timer runs that this process winds up: nftables drops its
advertisements as soon as the timer has run down, which is no later than the lease ends.
"""

from collections.abc import Iterable
from ipaddress import IPv6Address

from hoaflow.home_agent.home_link import HomeLink
from hoaflow.home_agent.pods.ownership import Ownership
from hoaflow.logs import Log
from hoaflow.mobility.tunnels import KERNEL_ERRORS
from hoaflow.mobility.upkeep import Upkeep
from hoaflow.tunnel import nft
from hoaflow.tunnel.nft_table import Table

TABLE = "hoaflow_ha_owner"
TARGET = "@th,64,128"  # of a neighbour advertisement (RFC 4861, section 4.4)
HOME_LINK_DOWN = "the home link is down"
TURN_SECONDS = 0.5
LONGEST_HOLD = 1.0
"""Seconds after which the home agent's address is announced though not all restored bindings are in the kernel: after a
former owner's death nobody else takes its messages."""
ANNOUNCED_TIMES = 3
"""Times that mobile nodes' addresses are announced: MAX_NEIGHBOR_ADVERTISEMENT (RFC 4861, section 10)."""

LOG = Log("home-agent")


class Gate:
    """An nftables table that drops neighbour advertisements on the home link unless the gate was opened of late."""

    def __init__(self, interface: str, own: Iterable[str]) -> None:
        """Describe it. `own`: addresses of the interface that are this host's whoever serves."""
        self._interface = interface
        exceptions = "".join(f"{TARGET} {_number(address)} return\n" for address in sorted(own))
        text = f"""table ip6 {TABLE} {{
set open {{ type ifname; flags timeout; }}
chain output {{ type filter hook output priority 0; policy accept;
oifname "{interface}" icmpv6 type nd-neighbor-advert jump advertisements
}}
chain advertisements {{
{exceptions}oifname != @open counter drop
}}
}}
"""
        self.table = Table("ip6", TABLE, text, "the owner's gate", terse=True)

    def open(self, seconds: float) -> None:
        """Let advertisements pass for this long from now on. Raises NftError."""
        element = f'element ip6 {TABLE} open {{ "{self._interface}"'
        add = f"add {element} timeout {max(1, round(1000 * seconds))}ms }}\n"
        nft.load(None, f"{add}delete {element} }}\n{add}")  # only a new element gets a new timeout

    def shut(self) -> None:
        """Drop advertisements from now on. Raises NftError."""
        nft.load(None, f"flush set ip6 {TABLE} open\n")


def remove_gate() -> None:
    """Remove the gate of a pod that was killed, where a home agent without other pods follows it. Raises NftError."""
    Table("ip6", TABLE, "").remove(None)


class Serving:
    """What the owner does beside serving: call `turn` when it is due."""

    def __init__(self, ownership: Ownership, gate: Gate, home_link: HomeLink, upkeep: Upkeep) -> None:
        self._ownership, self._gate, self._home_link, self._upkeep = ownership, gate, home_link, upkeep
        self._due = 0.0
        self._held_until: float | None = None  # monotonic seconds; None before the first turn
        self._announced = 0
        self._had_carrier: float | None = None  # when the home link last had one (monotonic seconds)

    @property
    def over(self) -> bool:
        """Whether another pod has the address, or may have it."""
        return self._ownership.lost is not None

    def turn(self, now: float, installed: bool) -> float:
        """Open the gate and announce ourselves, if that is due; return when it is due next (monotonic seconds).

        `installed`: the kernel has all restored bindings. Before, what mobile nodes send into their tunnels had better
        go to a former owner that gave the address back: its kernel serves until ours is announced.

        The gate stays open while etcd does not answer: it may be away for all pods, and traffic needs nothing of it. If
        it is only this pod that gets no answer, the next owner's announcements show that (`claimed`).
        """
        if self._held_until is None:
            self._held_until = now + LONGEST_HOLD
        if not installed and now < self._held_until:
            return self._held_until
        if now < self._due or self.over:
            return self._due
        self._held_until, self._due = now, now + TURN_SECONDS
        try:
            self._check_carrier(now)
            if self._ownership.unanswered:
                self._open(self._ownership.seconds)
            elif self._ownership.certain:
                self._open(self._ownership.left)
            if self._ownership.certain:
                self._announce()
        except KERNEL_ERRORS as error:
            LOG.debug("not-announced", reason=error, action="retry")
        return self._due

    def claimed(self) -> None:
        """Take in that another node announces the home agent's address: if etcd can't be asked, it is the owner."""
        if not self._ownership.certain:
            self._ownership.lose("another pod announces the address")

    def _check_carrier(self, now: float) -> None:
        """Give way to a pod whose home link works, if ours has worked and does not any more."""
        if self._home_link.has_carrier:
            self._had_carrier = now
        elif self._had_carrier is not None and now - self._had_carrier >= self._ownership.seconds:
            self._ownership.lose(HOME_LINK_DOWN)

    def _open(self, seconds: float) -> None:
        with self._upkeep.own_changes():
            self._gate.open(seconds)

    def _announce(self) -> None:
        self._home_link.announce_home_agent()
        if self._announced < ANNOUNCED_TIMES:
            self._home_link.announce_mobile_nodes()
            self._announced += 1

    def close(self) -> None:
        """Fall silent on the home link, give the address back, and let the kernel go on until another pod has it all.

        So nothing is lost if there is one: neighbours send here until the other announces an address. Whether there is
        one shows within the time that a lease lasts.
        """
        was_lost = self.over
        try:
            with self._upkeep.own_changes():
                self._gate.shut()
        except KERNEL_ERRORS as error:
            LOG.warning("gate-not-shut", reason=error, effect=f"it ends within {self._ownership.seconds} s by itself")
        self._ownership.close()
        if not was_lost:
            LOG.info("handed-over", complete=self._home_link.wait_for_successor(self._ownership.seconds))


def _number(address: str) -> str:
    return hex(int(IPv6Address(address)))
