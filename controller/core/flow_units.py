# SPDX-License-Identifier: Apache-2.0
"""Define flow units, the flows that stand together on a router or not at all, and who is asked for them.

A unit is kept as the addresses and the shapes from which its flows follow: a tenth of the flows' size, the same object
for whoever asks, and compared at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from controller.core.flows import Flow, FlowKey, Row, Shape
from hoaflow.addresses import Prefix


class UnitShapes(Struct, frozen=True, gc=False, cache_hash=True):
    """What flow units that differ only in addresses have in common.

    ``sets_tunnel``: whether the downlink flow sets the tunnel's ends. ``uplink`` and ``verify`` are None without
    reverse tunnelling, ``verify`` also where the router's kernel verifies. ``uplink_values``: the addresses that the
    uplink flow sets.
    """

    downlink: Shape
    sets_tunnel: bool
    uplink: Shape | None
    uplink_values: tuple[bytes, ...]
    verify: Shape | None


class FlowUnit(Struct, frozen=True, gc=False):
    """The flows that one home address should have, or has, on a router.

    ``sole``: no other home address may use the uplink flow, which belongs to the unit then. Else it is a subject of its
    own (``shared`` is its key), or there is none.
    """

    shapes: UnitShapes
    home_address: Prefix
    care_of_address: bytes
    home_agent: bytes
    sole: bool

    @property
    def downlink(self) -> Flow:
        """The flow that encapsulates to the care-of address."""
        shape, values = self.shapes.downlink, (self.home_agent, self.care_of_address)
        return Flow(shape, (shape.pattern, self.home_address.packed), values if self.shapes.sets_tunnel else ())

    @property
    def downlink_key(self) -> FlowKey:
        """The key of the downlink flow."""
        return (self.shapes.downlink.pattern, self.home_address.packed)

    @property
    def uplink(self) -> Flow | None:
        """The flow that decapsulates what comes from the care-of address, None without reverse tunnelling."""
        shape = self.shapes.uplink
        if shape is None:
            return None
        return Flow(shape, (shape.pattern, self.home_agent, self.care_of_address), self.shapes.uplink_values)

    @property
    def uplink_key(self) -> FlowKey | None:
        """The key of the uplink flow, None if there is none."""
        shape = self.shapes.uplink
        return None if shape is None else (shape.pattern, self.home_agent, self.care_of_address)

    @property
    def verify(self) -> Flow | None:
        """The flow that lets decapsulated packets pass, None if there is none."""
        shape = self.shapes.verify
        if shape is None:
            return None
        return Flow(shape, (shape.pattern, self.home_address.packed, self.care_of_address))

    @property
    def verify_key(self) -> FlowKey | None:
        """The key of the verifying flow, None if there is none."""
        shape = self.shapes.verify
        return None if shape is None else (shape.pattern, self.home_address.packed, self.care_of_address)

    def has_own(self, key: FlowKey) -> bool:
        """Tell whether a key is that of one of the flows that no other binding can share."""
        return key in (self.downlink_key, self.verify_key)

    def own(self) -> tuple[Flow, ...]:
        """Return the flows that no other binding can share: all but the uplink flow."""
        verify = self.verify
        return (self.downlink,) if verify is None else (self.downlink, verify)

    def all(self) -> tuple[Flow, ...]:
        """Return all flows that carry the home address's packets, the uplink flow included."""
        uplink, verify = self.uplink, self.verify
        if uplink is None:
            return (self.downlink,)
        return (self.downlink, uplink) if verify is None else (self.downlink, uplink, verify)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The flows that belong to the unit."""
        return self.all() if self.sole else self.own()  # in the order of `place_of`, in which they may be deleted

    @property
    def keys(self) -> tuple[FlowKey, ...]:
        """The keys of the flows that belong to the unit, in the order of `place_of`."""
        found = (self.downlink_key, self.uplink_key if self.sole else None, self.verify_key)
        return tuple([key for key in found if key is not None])

    @property
    def shared(self) -> FlowKey | None:
        """The key of the uplink flow if it is shared with other home addresses, else None."""
        return None if self.sole else self.uplink_key

    @property
    def size(self) -> int:
        """How many flows belong to the unit."""
        return 1 + self.sole + (self.shapes.verify is not None)

    def place_of(self, flow: Flow) -> int | None:
        """Return the place of a flow among the unit's, None if it is none of them, without making these."""
        shapes, addresses = self.shapes, flow.key[1:]
        if flow.shape is shapes.downlink:
            values = (self.home_agent, self.care_of_address) if shapes.sets_tunnel else ()
            return 0 if addresses[0] == self.home_address.packed and flow.values == values else None
        if addresses[-1] != self.care_of_address:
            return None
        if flow.shape is shapes.uplink:
            return 1 if self.sole and addresses[0] == self.home_agent and flow.values == shapes.uplink_values else None
        if flow.shape is shapes.verify:
            return 1 + self.sole if addresses[0] == self.home_address.packed and not flow.values else None
        return None

    def flow_at(self, key: FlowKey) -> Flow | None:
        """Return the unit's flow with a key, None if it has none."""
        return next((flow for flow in self.flows if flow.key == key), None)

    def has_path(self, care_of_address: bytes, home_agent: bytes) -> bool:
        """Tell whether packets go to this care-of address in this home agent's tunnel."""
        return self.care_of_address == care_of_address and self.home_agent == home_agent


def rows_of(shapes: UnitShapes, units: Sequence[FlowUnit]) -> list[tuple[Shape, list[Row]]]:
    """Return the addresses of the flows that belong to units with these shapes, by shape, without making the flows.

    The downlink flows come first.
    """
    if shapes.sets_tunnel:
        rows: list[Row] = [(each.home_address.packed, each.home_agent, each.care_of_address) for each in units]
    else:
        rows = [(each.home_address.packed,) for each in units]
    found = [(shapes.downlink, rows)]
    if shapes.uplink is not None:
        values = shapes.uplink_values
        rows = [(each.home_agent, each.care_of_address, *values) for each in units if each.sole]
        found.append((shapes.uplink, rows))
    if shapes.verify is not None:
        found.append((shapes.verify, [(each.home_address.packed, each.care_of_address) for each in units]))
    return found


class SharedUplink(NamedTuple):
    """An uplink flow that takes the packets of all home addresses on a path.

    Those that are carried here are its ``users``, of which there may be thousands. ``left_out``: one that is not
    carried although its mobile node uses the path, so that the flow would lose its packets; None if there is none.
    ``sole``: the only home address on the path, in whose ``FlowUnit`` the flow is then; None if there are others.
    """

    flow: Flow
    left_out: Prefix | None
    sole: Prefix | None


class DesiredModel(Protocol):
    """What reconciliation asks about the desired flows of bindings; `DesiredFlows` answers."""

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses that may have flows."""

    def unit_of(self, home_address: Prefix, now: float) -> FlowUnit | None:
        """Return what should stand for a home address, None if it is not carried here."""

    def units_of(self, home_addresses: Iterable[Prefix], now: float) -> list[FlowUnit]:
        """Return what should stand for those of some home addresses that are carried here."""

    def uplink_at(self, key: FlowKey, now: float) -> SharedUplink | None:
        """Return the uplink flow with a key and whom it serves, None if no binding needs it."""

    def users(self, key: FlowKey, now: float) -> list[Prefix]:
        """Return the home addresses that need the flow with a key."""

    def uplinks_before(self, verify: FlowKey) -> list[FlowKey]:
        """Return the keys of uplink flows that may lead packets to a verifying flow."""

    def uplinks_beside(self, key: FlowKey) -> list[FlowKey]:
        """Return the keys of uplink flows that may take packets of the home address that another flow serves."""

    def all_flows(self, now: float) -> Iterator[Flow]:
        """Iterate over the flows of all home addresses."""

    def may_delete(self, key: FlowKey, now: float) -> bool:
        """Tell whether an adopted flow that nobody needs may be deleted."""
