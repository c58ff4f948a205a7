# SPDX-License-Identifier: Apache-2.0
"""Which flows a router should have for the bindings: they follow from these, from its backend and its agent's word."""

from collections.abc import Callable, Collection, Iterator, Mapping

from controller.core.backends import Backend, backend_of
from controller.core.bindings import Binding, BindingTable
from controller.core.flow_sets import UPLINK, flows_of, home_end, keys_of, uplink_source, verified_source
from controller.core.flows import Flow, FlowKey
from controller.core.home_agents import HomeAgents
from controller.core.installed import Entry
from controller.core.reasons import Reason
from controller.core.refused import Unoffloaded
from controller.core.tunnel_list import TunnelList
from controller.core.tunnels import Tunnels
from controller.core.units import SharedUplink, Unit
from hoaflow.addresses import Prefix

NOTHING = Unit((), None, None)


class BindingsDemand:
    """The `Demand` of one router. It keeps the switch's ports, and of the rest nothing: it looks when it is asked.

    ``is_held`` tells of a home address whether it is held back, ``serves`` of a binding whether its packets are being
    carried here, and ``may_delete`` decides on a flow of an earlier life that nobody desires.
    """

    def __init__(
        self,
        bindings: BindingTable,
        unoffloaded: Unoffloaded,
        home_agents: HomeAgents,
        tunnel_list: TunnelList,
        tunnels: Tunnels,
        is_held: Callable[[Prefix], bool],
        serves: Callable[[Binding, float], bool],
        may_delete: Callable[[FlowKey, float], bool],
    ) -> None:
        self.may_delete = may_delete
        self._bindings = bindings
        self._unoffloaded = unoffloaded
        self._home_agents = home_agents
        self._tunnel_list = tunnel_list
        self._tunnels = tunnels
        self._is_held = is_held
        self._serves = serves
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

    @property
    def takes_any(self) -> bool:
        """Tell whether the agent has announced that packets of any home agent are carried here."""
        return self._tunnels.flow is not None or bool(self._tunnels.endpoints)

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses that may have flows."""
        return self._bindings.home_addresses() if self.takes_any else []

    def unit_of(self, home_address: Prefix, now: float) -> Unit:
        """Return what should stand for a home address."""
        binding = self._carried(home_address, now)
        if binding is None:
            return NOTHING
        flows = self._flows(binding)
        if self.shares_uplink(binding):
            uplink = flows.pop(UPLINK)
            return Unit(flows, binding.expires_at, uplink.key)
        return Unit(flows, binding.expires_at, None)

    def uplink_at(self, key: FlowKey, now: float) -> SharedUplink | None:
        """Return the uplink flow with this key and whom it serves, None if nobody desires it: it stays for as long as
        the last of its bindings lives."""
        users = self._users(key, now)
        if not users:
            return None
        ends = [binding.expires_at for binding in users if binding.expires_at is not None]
        entry = Entry(self._flows(users[0])[UPLINK], max(ends) if len(ends) == len(users) else None)
        members = [binding.home_address for binding in users]
        sole = None if self.shares_uplink(users[0]) else members[0]
        return SharedUplink(entry, members, self._left_out(key, members), sole)

    def users(self, key: FlowKey, now: float) -> list[Prefix]:
        """Return the home addresses that desire the flow with this key."""
        if uplink_source(key) is not None:
            return [binding.home_address for binding in self._users(key, now)]
        home_address = home_end(key)
        if home_address is None or all(flow.key != key for flow in self.unit_of(home_address, now).flows):
            return []
        return [home_address]

    def uplinks_before(self, verify: FlowKey) -> list[FlowKey]:
        """Return the keys of uplink flows that may lead packets to a flow that verifies them."""
        home_address, care_of_address = home_end(verify), verified_source(verify)
        if home_address is None or care_of_address is None:
            return []
        return [keys_of(Binding(home_address, care_of_address, each.address)).uplink for each in self._home_agents]

    def uplinks_beside(self, key: FlowKey) -> list[FlowKey]:
        """Return the keys of the uplink flows that may take the packets of a home address for which another flow
        stands: of its binding, and of former ones."""
        home_address = home_end(key)
        binding = None if home_address is None else self._bindings.get(home_address)
        if home_address is None or binding is None:
            return []
        formers = self._tunnel_list.formers(home_address) if self._tunnels.flow is None else ()
        return [keys_of(each).uplink for each in (binding, *(former.binding for former in formers))]

    def left_out(self, binding: Binding, now: float) -> Prefix | None:
        """Return another home address at a binding's care-of address that is not carried here, None if all are."""
        key = keys_of(binding).uplink
        return self._left_out(key, [each.home_address for each in self._users(key, now)])

    def all_flows(self, now: float) -> Iterator[Entry]:
        """Iterate over the flows of all home addresses."""
        shared: dict[FlowKey, None] = {}
        for home_address in self.home_addresses():
            unit = self.unit_of(home_address, now)
            yield from (Entry(flow, unit.ends) for flow in unit.flows)
            if unit.shared is not None:
                shared[unit.shared] = None
        yield from (uplink.entry for key in shared if (uplink := self.uplink_at(key, now)) is not None)

    def shares_uplink(self, binding: Binding) -> bool:
        """Tell whether others may use the same path as a binding: a care-of address may be that of several home
        addresses. Its uplink flow is then looked at by itself."""
        behind = self._bindings.behind(binding.care_of_address)
        if len(behind) != 1 or binding.home_address not in behind or self._unoffloaded.any_at(binding.care_of_address):
            return True
        return self._tunnels.flow is None and bool(self._tunnel_list.formers_behind(binding.care_of_address))

    def _users(self, uplink: FlowKey, now: float) -> list[Binding]:
        """Return the bindings that are carried here whose packets an uplink flow takes."""
        care_of_address = uplink_source(uplink) or b""
        candidates = dict.fromkeys(self._bindings.behind(care_of_address))
        if self._tunnels.flow is None:
            candidates.update(dict.fromkeys(self._tunnel_list.formers_behind(care_of_address)))
        carried = (self._carried(home_address, now) for home_address in candidates)
        return [binding for binding in carried if binding is not None and keys_of(binding).uplink == uplink]

    def bound_at(self, uplink: FlowKey, but: Collection[Prefix] = ()) -> Iterator[Binding]:
        """Iterate over the bindings whose mobile nodes send packets along a path, offloaded or left to home agents,
        ``but`` those of some home addresses."""
        care_of_address = uplink_source(uplink) or b""
        held = (self._bindings.get(each) for each in self._bindings.behind(care_of_address) if each not in but)
        others = (each for each in self._unoffloaded.at(care_of_address) if each.home_address not in but)
        return (each for each in (*held, *others) if each is not None and keys_of(each).uplink == uplink)

    def _left_out(self, uplink: FlowKey, members: Collection[Prefix]) -> Prefix | None:
        """Return a home address whose mobile node sends packets along a path, but that is none of its members."""
        return next((each.home_address for each in self.bound_at(uplink, set(members))), None)

    def _carried(self, home_address: Prefix, now: float) -> Binding | None:
        """Return the binding whose flows there should be for a home address: that which is held, or a former one while
        its tunnel changes."""
        binding = self._bindings.get(home_address)
        if binding is None or self._is_held(home_address) or isinstance(self.backend(binding.home_agent), Reason):
            return None
        if self._tunnels.is_applied(home_address):
            return binding
        # What serves, stays. Where no gate stands, nothing is lost with what is of before; and none may open onto it.
        former = self._tunnels.serving(binding, now)
        return former if former is not None and self._serves(former, now) else None

    def _flows(self, binding: Binding) -> list[Flow]:
        backend = self.backend(binding.home_agent)
        if isinstance(backend, Reason):
            raise ValueError(f"nothing encapsulates for the home agent of {binding.home_address}: {backend.text}")
        return flows_of(binding, backend)
