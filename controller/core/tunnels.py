# SPDX-License-Identifier: Apache-2.0
"""Keep what a router's agent has announced of its backend and acknowledged of its tunnels.

A `route` router gets no flows for a binding before its agent has acknowledged the tunnel: packets take the home agent's
path. With the `flow` backend there is nothing to acknowledge.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

from controller.core.bindings import Binding
from controller.core.tunnel_list import TunnelDifference, TunnelList
from hoaflow.addresses import Prefix


class EndpointName(NamedTuple):
    """A tunnel endpoint as its agent announces it: the name of its OVS port and the MAC address behind that.

    ``problem``: why it carries nothing now, None if it works.
    """

    port: str
    mac: str
    problem: str | None = None


class FlowTunnelNames(NamedTuple):
    """A `flow` backend's device as its agent announces it: names of OVS ports, and the fields of ``FlowBackend``.

    ``ipv4_problem`` and ``ipv6_problem``: why the router's kernel can't carry home addresses of that family in it, None
    if it can. ``problem``: why it carries nothing now, None if it works.
    """

    transmit_port: str
    receive_port: str
    decapsulation_address: bytes
    decapsulation_mac: str
    router_mac: str
    mtu: int
    ipv4_problem: str | None
    problem: str | None = None
    ipv6_problem: str | None = None


# The devices of a `flow` backend, by the octets of the outer addresses; empty with another backend.
FlowTunnels = Mapping[int, FlowTunnelNames]
NO_FLOW_TUNNELS: FlowTunnels = {}


class Tunnels:
    """What one router's agent has announced and acknowledged, against the ``desired`` tunnels."""

    def __init__(self, desired: TunnelList, expected_until: float) -> None:
        self.desired = desired
        # Until when an agent that has not reported may be on its way back to a restarted controller. None: it has
        # reported, or is not expected any more.
        self.expected_until: float | None = expected_until
        self.acknowledged = 0
        self.endpoints: dict[bytes, EndpointName] = {}
        self.flow = NO_FLOW_TUNNELS
        # The MAC addresses of the router's kernel, to which frames for it are sent. None: the agent does not say.
        self.macs: tuple[str, ...] | None = None
        # Home addresses whose tunnels the agent could not set up, and why.
        self.failures: dict[Prefix, str] = {}
        self.agent_lease_ends: float | None = None
        # What the agent had acknowledged before it started anew, and until when that is taken for true.
        self._believed = 0
        self.believed_until: float | None = None
        self._overdue = 0  # the newest revision that the agent has been late with, as far as that was looked at

    @property
    def announced(self) -> tuple[dict[bytes, EndpointName], FlowTunnels, tuple[str, ...] | None]:
        """What the agent has announced: endpoints, `flow` backend, MAC addresses."""
        return self.endpoints, self.flow, self.macs

    @property
    def is_flow(self) -> bool:
        """Whether the router has the `flow` backend."""
        return bool(self.flow)

    @property
    def revision(self) -> int:
        """Newest revision that the agent can acknowledge."""
        return self.desired.first_revision if self.is_flow else self.desired.revision

    def difference(self, after: int) -> TunnelDifference:
        """Return what the agent has to change since a revision."""
        if self.is_flow:
            first = self.desired.first_revision
            return TunnelDifference(first, after != first, [], [])  # the flows are all of it
        return self.desired.difference(after)

    def agent_alive(self, now: float) -> bool:
        """Tell whether the agent has reported within its lease."""
        return self.agent_lease_ends is not None and now < self.agent_lease_ends

    def acknowledge(self, revision: int, failures: dict[Prefix, str], believed_until: float) -> set[Prefix]:
        """Record that the agent's kernel has all tunnels up to a revision, but for those in ``failures``.

        An agent that starts anew acknowledges less than before: until ``believed_until``, its kernel is taken to have
        what it had acknowledged then. Returns the home addresses for which something has changed.
        """
        news = {
            home_address
            for home_address in failures.keys() | self.failures.keys()
            if failures.get(home_address) != self.failures.get(home_address)
        }
        acknowledged = min(revision, self.desired.revision)
        if acknowledged < self.acknowledged:
            self._believed = max(self.acknowledged, self._believed)
            self.believed_until = believed_until
        elif not self.is_flow:
            news.update(self.desired.newer_than(self.acknowledged))
        self.acknowledged = acknowledged
        if acknowledged >= self._believed:
            self.believed_until, self._believed = None, 0
        self.failures = failures
        return news

    def in_doubt(self, now: float) -> bool:
        """Tell whether the agent has started anew and not acknowledged again what it had."""
        return self.believed_until is not None and now < self.believed_until

    def doubt_ends(self, now: float) -> bool:
        """Tell, once, that the agent has not acknowledged again in time what it had."""
        if self.believed_until is None or now < self.believed_until:
            return False
        self.believed_until, self._believed = None, 0
        return True

    def is_applied(self, binding: Binding) -> bool:
        """Tell whether the router's kernel is ready to send packets for a home address to its care-of address."""
        if self.flow:
            return self.failure(binding) is None
        home_address = binding.home_address
        return self.desired.revision_of(home_address) <= self.acknowledged and home_address not in self.failures

    def overdue(self, now: float) -> Iterable[Prefix]:
        """Return the home addresses whose tunnels the agent could not set up, or has not within its time."""
        if self.is_flow:
            return ()
        return chain(self.failures, self.desired.overdue(self.acknowledged, now))

    def take_overdue(self, now: float) -> list[Prefix]:
        """Return, once, the home addresses whose tunnels the agent has not set up within its time."""
        late = self.desired.overdue_revision(now)
        if not self.endpoints or late <= max(self.acknowledged, self._overdue):
            return []
        since, self._overdue = max(self.acknowledged, self._overdue), late
        return [each for each in self.desired.newer_than(since) if self.desired.revision_of(each) <= late]

    def next_overdue(self) -> float | None:
        """Return when ``take_overdue`` has to be called next, None for not at all."""
        return self.desired.next_overdue(max(self.acknowledged, self._overdue)) if self.endpoints else None

    def failure(self, binding: Binding) -> str | None:
        """Return why the router can't carry a home address's packets, None if no problem is known."""
        device = self.flow.get(len(binding.home_agent))
        if device is not None:
            return device.ipv4_problem if binding.home_address.is_ipv4 else device.ipv6_problem
        return self.failures.get(binding.home_address)

    def serving(self, binding: Binding, now: float) -> Binding | None:
        """Return the binding that the router's kernel may still serve while its agent is behind, None for none."""
        if self.is_flow or binding.home_address in self.failures:
            return None
        applied = max(self.acknowledged, self._believed)
        if self.desired.revision_of(binding.home_address) <= applied:
            return binding
        return self.desired.former(binding.home_address, applied, now)
