# SPDX-License-Identifier: Apache-2.0
"""What a router's agent says: of its backend, and of the tunnels that its kernel holds.

Until an agent with the `route` backend has acknowledged a binding's tunnel, or when it falls silent, the router's flows
for the binding stay away: packets take the home agent's path. With the `flow` backend there is nothing to acknowledge.
"""

from typing import NamedTuple

from controller.core.bindings import Binding
from controller.core.tunnel_list import TunnelDifference, TunnelList
from hoaflow.addresses import Prefix


class EndpointName(NamedTuple):
    """A tunnel endpoint as its agent announces it: the OVS port's name and the MAC address behind it.

    ``problem``: why it carries nothing now, None if it does.
    """

    port: str
    mac: str
    problem: str | None = None


class FlowTunnelNames(NamedTuple):
    """A router's `flow` backend as its agent announces it: names of OVS ports, and what ``FlowBackend`` has.

    ``ipv4_problem``: why the router's kernel can't carry IPv4 home addresses, None if it can.
    ``problem``: why it carries nothing now, None if it does.
    """

    transmit_port: str
    receive_port: str
    decapsulation_address: bytes
    decapsulation_mac: str
    router_mac: str
    mtu: int
    ipv4_problem: str | None
    problem: str | None = None


class Tunnels:
    """What the agent of one router has said, and what follows for the tunnels of ``desired``."""

    def __init__(self, desired: TunnelList, expected_until: float) -> None:
        self.desired = desired
        # An agent that has not been heard of may only be on its way back to a restarted controller, until then. None:
        # it has said what it has, or is not expected any more.
        self.expected_until: float | None = expected_until
        self.acknowledged = 0
        self.endpoints: dict[bytes, EndpointName] = {}
        self.flow: FlowTunnelNames | None = None
        # The MAC addresses of the router's kernel: it is what frames for these are for. None: the agent does not say.
        self.macs: tuple[str, ...] | None = None
        # What the agent could not apply, and why.
        self.failures: dict[Prefix, str] = {}
        self.agent_lease_ends: float | None = None
        # What an earlier life of the agent had acknowledged, and until when that is believed.
        self._believed = 0
        self.believed_until: float | None = None

    @property
    def announced(self) -> tuple[dict[bytes, EndpointName], FlowTunnelNames | None, tuple[str, ...] | None]:
        """What the agent has announced of its router: endpoints, `flow` backend, MAC addresses."""
        return self.endpoints, self.flow, self.macs

    @property
    def revision(self) -> int:
        """The newest revision that the agent can acknowledge."""
        return self.desired.revision if self.flow is None else self.desired.first_revision

    def difference(self, after: int) -> TunnelDifference:
        """Return what is new to the agent since revision ``after``."""
        if self.flow is not None:
            first = self.desired.first_revision
            return TunnelDifference(first, after != first, [], [])  # the flows are all of it
        return self.desired.difference(after)

    def agent_alive(self, now: float) -> bool:
        """Tell whether the agent has been heard of within its lease."""
        return self.agent_lease_ends is not None and now < self.agent_lease_ends

    def acknowledge(self, revision: int, failures: dict[Prefix, str], believed_until: float) -> set[Prefix]:
        """Record that the agent's kernel holds the list as of ``revision``, but for the tunnels in ``failures``.

        An agent that starts anew acknowledges less than before: what it held then is in doubt, and believed until
        ``believed_until``. Returns the home addresses for which there is news.
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
        elif self.flow is None:
            news.update(self.desired.newer_than(self.acknowledged))
        self.acknowledged = acknowledged
        if acknowledged >= self._believed:
            self.believed_until, self._believed = None, 0
        self.failures = failures
        return news

    def in_doubt(self, now: float) -> bool:
        """Tell whether the agent has started anew and not said yet what its kernel holds."""
        return self.believed_until is not None and now < self.believed_until

    def doubt_ends(self, now: float) -> bool:
        """Tell, once, that the agent has not said in time that its kernel holds what it held before."""
        if self.believed_until is None or now < self.believed_until:
            return False
        self.believed_until, self._believed = None, 0
        return True

    def is_applied(self, home_address: Prefix) -> bool:
        """Tell whether the router's kernel sends packets for a bound home address to its care-of address."""
        if self.flow is not None:
            return self.failure(home_address) is None
        return self.desired.revision_of(home_address) <= self.acknowledged and home_address not in self.failures

    def failure(self, home_address: Prefix) -> str | None:
        """Return why the router can't carry a home address's packets, None if nothing is known against it."""
        if self.flow is not None and home_address.is_ipv4:
            return self.flow.ipv4_problem
        return self.failures.get(home_address)

    def serving(self, binding: Binding, now: float) -> Binding | None:
        """Return the binding that the router's kernel may still serve while its agent is behind with ``binding``."""
        if self.flow is not None or binding.home_address in self.failures:
            return None
        held = max(self.acknowledged, self._believed)
        if self.desired.revision_of(binding.home_address) <= held:
            return binding
        return self.desired.former(binding.home_address, held, now)
