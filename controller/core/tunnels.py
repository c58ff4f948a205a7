# SPDX-License-Identifier: Apache-2.0
"""What a router's agent says of its backend, and the tunnels that the `route` backend should have.

The agent follows the list by revision and acknowledges what its kernel holds. Until it has, or when it falls silent,
the router's flows for a binding stay away: packets take the home agent's path. With the `flow` backend there is nothing
to acknowledge.
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from controller.core.addresses import Prefix
from controller.core.bindings import Binding

# How many removals are remembered for agents that ask for what is new; who asks for older gets the whole list.
REMEMBERED_REMOVALS = 100_000


class EndpointName(NamedTuple):
    """A tunnel endpoint as its agent announces it: the OVS port's name and the MAC address behind it."""

    port: str
    mac: str


class FlowTunnelNames(NamedTuple):
    """A router's `flow` backend as its agent announces it: names of OVS ports, and what ``FlowBackend`` has.

    ``ipv4_problem``: why the router's kernel can't carry IPv4 home addresses, None if it can.
    """

    transmit_port: str
    receive_port: str
    decapsulation_address: bytes
    decapsulation_mac: str
    router_mac: str
    mtu: int
    ipv4_problem: str | None


@dataclass(slots=True)
class Tunnel:
    """One binding's tunnel: the binding as last published, and the revision in which that was."""

    binding: Binding
    revision: int


@dataclass(frozen=True, slots=True)
class News:
    """What an agent is told: everything (``full``) or what is new since the revision it named."""

    revision: int
    full: bool
    tunnels: list[Binding]
    removed: list[Prefix]


class Tunnels:
    """The tunnel list of one router.

    ``first_revision`` has to be higher than any that an earlier life of the controller gave out: the wall clock in
    milliseconds is. Agents thus notice a restart and get the whole list.
    """

    def __init__(self, first_revision: int) -> None:
        self._first_revision = first_revision
        self.revision = first_revision
        self.acknowledged = 0
        self.endpoints: dict[bytes, EndpointName] = {}
        self.flow: FlowTunnelNames | None = None
        # What the agent could not apply, and why.
        self.failures: dict[Prefix, str] = {}
        self.agent_lease_ends: float | None = None
        self._tunnels: dict[Prefix, Tunnel] = {}  # in order of revision
        self._removed: dict[Prefix, int] = {}  # in order of revision
        self._forgotten_up_to = first_revision

    def agent_alive(self, now: float) -> bool:
        """Tell whether the agent has been heard of within its lease."""
        return self.agent_lease_ends is not None and now < self.agent_lease_ends

    def publish(self, binding: Binding) -> None:
        """Put a binding's tunnel on the list. Idempotent: the same path gives no new revision."""
        held = self._tunnels.get(binding.home_address)
        if held is not None and held.binding.same_path(binding):
            held.binding = binding
            return
        self.revision += 1
        self._removed.pop(binding.home_address, None)
        self._tunnels.pop(binding.home_address, None)
        self._tunnels[binding.home_address] = Tunnel(binding, self.revision)

    def withdraw(self, home_address: Prefix) -> None:
        """Take a tunnel off the list. Idempotent."""
        if self._tunnels.pop(home_address, None) is None:
            return
        self.revision += 1
        self._removed[home_address] = self.revision
        while len(self._removed) > REMEMBERED_REMOVALS:
            oldest = next(iter(self._removed))
            self._forgotten_up_to = self._removed.pop(oldest)

    def demand_full(self) -> None:
        """Have the agent compare the whole list with what its kernel holds: a home agent's snapshot has come, so
        routes of that home agent that are not on the list are none of its bindings."""
        self.revision += 1
        self._removed.clear()
        self._forgotten_up_to = self.revision

    def news(self, after: int) -> News:
        """Return what is new since revision ``after``; everything if that is too long ago or not from this list.

        To an agent of the `flow` backend nothing ever is: the flows are all of it.
        """
        if self.flow is not None:
            return News(self._first_revision, after != self._first_revision, [], [])
        if not self._forgotten_up_to <= after <= self.revision:
            return News(self.revision, True, [tunnel.binding for tunnel in self._tunnels.values()], [])
        tunnels = [tunnel.binding for tunnel in self._newer_than(after)]
        removed = [home_address for home_address, revision in self._removed.items() if revision > after]
        return News(self.revision, False, tunnels, removed)

    def acknowledge(self, revision: int, failures: dict[Prefix, str]) -> set[Prefix]:
        """Record that the agent's kernel holds the list as of ``revision``, but for the tunnels in ``failures``.

        Returns the home addresses for which that is news.
        """
        news = {
            home_address
            for home_address in failures.keys() | self.failures.keys()
            if failures.get(home_address) != self.failures.get(home_address)
        }
        acknowledged = min(revision, self.revision)
        # An agent that starts anew acknowledges less than before: what it held then is in doubt until it says so again.
        since, until = sorted((acknowledged, self.acknowledged))
        news.update(t.binding.home_address for t in self._newer_than(since) if t.revision <= until)
        self.acknowledged = acknowledged
        self.failures = failures
        return news

    def failure(self, home_address: Prefix) -> str | None:
        """Return why the router can't carry a home address's packets, None if nothing is known against it."""
        if self.flow is not None and home_address.is_ipv4:
            return self.flow.ipv4_problem
        return self.failures.get(home_address)

    def is_applied(self, binding: Binding) -> bool:
        """Tell whether the router's kernel sends this binding's packets to its care-of address."""
        if self.flow is not None:
            return self.failure(binding.home_address) is None
        tunnel = self._tunnels.get(binding.home_address)
        return (
            tunnel is not None
            and tunnel.binding.same_path(binding)
            and tunnel.revision <= self.acknowledged
            and binding.home_address not in self.failures
        )

    def _newer_than(self, revision: int) -> list[Tunnel]:
        """Return the tunnels newer than ``revision``, oldest first, looking at no more than those."""
        newer = list(takewhile(lambda tunnel: tunnel.revision > revision, reversed(self._tunnels.values())))
        return newer[::-1]
