# SPDX-License-Identifier: Apache-2.0
"""Which flows a router should have for the bindings: they follow from these, from its backend and its agent's word."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from controller.core.addresses import Prefix
from controller.core.backends import Backend, backend_of
from controller.core.bindings import Binding, BindingTable
from controller.core.flow_sets import flows_of, home_end, keys_of, uplink_source
from controller.core.flows import Flow, FlowKey
from controller.core.installed import Entry
from controller.core.reasons import Reason
from controller.core.tunnel_list import TunnelList
from controller.core.tunnels import Tunnels


class BindingsDemand:
    """The `Demand` of one router. It keeps the switch's ports, and of the rest nothing: it looks when it is asked.

    ``is_held`` tells of a home address whether it is held back, ``stands`` of a home agent whether a gate of it stands
    here, and ``may_delete`` decides on a flow of an earlier life that nobody desires.
    """

    def __init__(
        self,
        bindings: BindingTable,
        tunnel_list: TunnelList,
        tunnels: Tunnels,
        is_held: Callable[[Prefix], bool],
        stands: Callable[[bytes, float], bool],
        may_delete: Callable[[FlowKey, float], bool],
    ) -> None:
        self.may_delete = may_delete
        self._bindings = bindings
        self._tunnel_list = tunnel_list
        self._tunnels = tunnels
        self._is_held = is_held
        self._stands = stands
        self._ports: dict[str, int] = {}
        # What encapsulates for each home agent, as far as anybody has asked.
        self._backends: dict[bytes, Backend | Reason] = {}

    def set_ports(self, ports: Mapping[str, int]) -> bool:
        """The switch has these ports (numbers by name). Tell whether that is news."""
        if ports == self._ports:
            return False
        self._ports = dict(ports)
        self.forget_backends()
        return True

    def forget_backends(self) -> None:
        """The agent has announced something else."""
        self._backends.clear()

    def backend(self, home_agent: bytes) -> Backend | Reason:
        """Return what encapsulates for a home agent here, or why nothing does."""
        found = self._backends.get(home_agent)
        if found is None:
            found = self._backends[home_agent] = backend_of(self._tunnels, home_agent, self._ports)
        return found

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses that may have flows."""
        return self._bindings.home_addresses()

    def shared_keys(self) -> list[FlowKey]:
        """Return the keys of all uplink flows that are looked at by themselves."""
        sources = self._bindings.shared().union(self._tunnel_list.former_care_of_addresses())
        behind = [address for source in sources for address in self._bindings.behind(source)]
        bindings = (self._bindings.get(home_address) for home_address in behind)
        return list(dict.fromkeys(keys_of(binding).uplink for binding in bindings if binding is not None))

    def flows_of(self, home_address: Prefix, now: float) -> Sequence[tuple[Flow, float | None]]:
        """Return the flows of a home address and their ends, but for an uplink flow that it shares with others."""
        binding = self._carried(home_address, now)
        if binding is None:
            return ()
        flows, ends = self._flows(binding), binding.expires_at
        if self.shares_uplink(binding):
            del flows[1]
        return [(flow, ends) for flow in flows]

    def flow_at(self, key: FlowKey, now: float) -> Entry | None:
        """Return the flow with this key, whosever it is."""
        source = uplink_source(key)
        if source is not None:
            return self._uplink(key, source, now)
        home_address = home_end(key)
        for flow, ends in () if home_address is None else self.flows_of(home_address, now):
            if flow.key == key:
                return Entry(flow, ends)
        return None

    def all_flows(self, now: float) -> Iterator[Entry]:
        """Iterate over the flows of all home addresses."""
        shared: dict[FlowKey, bytes] = {}
        for home_address in self.home_addresses():
            for flow, ends in self.flows_of(home_address, now):
                yield Entry(flow, ends)
            binding = self._carried(home_address, now)
            if binding is not None and self.shares_uplink(binding):
                shared[keys_of(binding).uplink] = binding.care_of_address
        yield from (entry for at in shared.items() if (entry := self._uplink(*at, now)) is not None)

    def shares_uplink(self, binding: Binding) -> bool:
        """Tell whether others may have the same uplink flow as a binding: a care-of address may be that of several home
        addresses. The flow is then looked at by itself."""
        behind = self._bindings.behind(binding.care_of_address)
        if len(behind) != 1 or binding.home_address not in behind:
            return True
        return self._tunnels.flow is None and bool(self._tunnel_list.formers_behind(binding.care_of_address))

    def users(self, uplink: FlowKey, care_of_address: bytes, now: float) -> list[Binding]:
        """Return the bindings that an uplink flow from a care-of address carries."""
        candidates = dict.fromkeys(self._bindings.behind(care_of_address))
        if self._tunnels.flow is None:
            candidates.update(dict.fromkeys(self._tunnel_list.formers_behind(care_of_address)))
        carried = (self._carried(home_address, now) for home_address in candidates)
        return [binding for binding in carried if binding is not None and keys_of(binding).uplink == uplink]

    def _carried(self, home_address: Prefix, now: float) -> Binding | None:
        """Return the binding whose flows there should be for a home address: that which is held, or a former one while
        its tunnel changes."""
        binding = self._bindings.get(home_address)
        if binding is None or self._is_held(home_address) or isinstance(self.backend(binding.home_agent), Reason):
            return None
        if self._tunnels.is_applied(home_address):
            return binding
        # Where no gate stands, nothing is lost with what is of before; and none may open onto it.
        serving = self._tunnels.serving(binding, now)
        return serving if serving is not None and self._stands(serving.home_agent, now) else None

    def _uplink(self, key: FlowKey, care_of_address: bytes, now: float) -> Entry | None:
        """Return the uplink flow of a care-of address: it stays for as long as the last of its bindings lives."""
        users = self.users(key, care_of_address, now)
        if not users:
            return None
        ends = [binding.expires_at for binding in users if binding.expires_at is not None]
        return Entry(self._flows(users[0])[1], max(ends) if len(ends) == len(users) else None)

    def _flows(self, binding: Binding) -> list[Flow]:
        backend = self.backend(binding.home_agent)
        if isinstance(backend, Reason):
            raise ValueError(f"nothing encapsulates for the home agent of {binding.home_address}: {backend.text}")
        return flows_of(binding, backend)
