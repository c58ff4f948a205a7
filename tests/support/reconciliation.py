# SPDX-License-Identifier: Apache-2.0
"""Desired flows of a few bindings for a reconciliation, and a switch that takes everything."""

from collections.abc import Iterable, Iterator

from controller.core import pipeline
from controller.core.backends import RouteBackend
from controller.core.batches import Batch
from controller.core.flow_changes import FlowChange
from controller.core.flow_keys import home_end, uplink_source
from controller.core.flow_units import FlowUnit, SharedUplink, UnitShapes
from controller.core.flows import Flow, FlowKey, Kind
from controller.core.installed import FlowEntry
from controller.core.reconciliation import Reconciliation
from controller.core.switch_state import SwitchState
from controller.core.timeouts import LONGEST_TIMEOUT
from hoaflow.addresses import Prefix, parse_address, parse_prefix
from tests.support.told_flows import tell

HOME_AGENT = parse_address("2001:db8:99::1")
HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESSES = [parse_prefix(f"2001:db8:99::{number:x}") for number in range(1, 6)]
CARE_OF_ADDRESSES = [parse_address(f"2001:db8:{link}::2") for link in (2, 3)]
BACKENDS = [RouteBackend(3, "02:00:00:00:00:0a"), RouteBackend(4, "02:00:00:00:00:0b")]


def downlink(home_address: Prefix = HOME_ADDRESSES[0], backend: int = 0) -> Flow:
    """Return a binding's flow."""
    return pipeline.downlink_flow(home_address, BACKENDS[backend].uplink())


def uplink(care_of_address: bytes) -> Flow:
    """Return a flow that all home addresses behind a care-of address share."""
    return pipeline.uplink_flow(care_of_address, HOME_AGENT, pipeline.IPPROTO_IPV6, BACKENDS[0].uplink())


class Bindings:
    """What is desired: by home address where to, and how."""

    def __init__(self) -> None:
        self.held: dict[Prefix, tuple[bytes, int]] = {}

    def home_addresses(self) -> list[Prefix]:
        return list(self.held)

    def at(self, care_of_address: bytes) -> list[Prefix]:
        return [home_address for home_address, held in self.held.items() if held[0] == care_of_address]

    def unit_of(self, home_address: Prefix, now: float) -> FlowUnit | None:
        if home_address not in self.held:
            return None
        care_of_address, backend = self.held[home_address]
        shapes = UnitShapes(downlink(home_address, backend).shape, False, uplink(care_of_address).shape, (), None)
        return FlowUnit(shapes, home_address, care_of_address, HOME_AGENT, len(self.at(care_of_address)) == 1)

    def units_of(self, home_addresses: Iterable[Prefix], now: float) -> list[FlowUnit]:
        units = (self.unit_of(each, now) for each in home_addresses)
        return [unit for unit in units if unit is not None]

    def uplink_at(self, key: FlowKey, now: float) -> SharedUplink | None:
        care_of_address = uplink_source(key) or b""
        users = self.at(care_of_address)
        flow = next((flow for flow in self.all_flows(now) if flow.key == key), None)
        return None if flow is None else SharedUplink(flow, None, users[0] if len(users) == 1 else None)

    def users(self, key: FlowKey, now: float) -> list[Prefix]:
        care_of_address, home_address = uplink_source(key), home_end(key)
        if care_of_address is not None:
            return self.at(care_of_address)
        return [home_address] if home_address is not None and home_address in self.held else []

    def uplinks_before(self, verify: FlowKey) -> list[FlowKey]:
        return []

    def uplinks_beside(self, key: FlowKey) -> list[FlowKey]:
        held = self.held.get(home_end(key) or HOME_PREFIX)
        return [] if held is None else [uplink(held[0]).key]

    def all_flows(self, now: float) -> Iterator[Flow]:
        for home_address, (_, backend) in self.held.items():
            yield downlink(home_address, backend)
        for care_of_address in CARE_OF_ADDRESSES:
            if self.at(care_of_address):
                yield uplink(care_of_address)

    def may_delete(self, key: FlowKey, now: float) -> bool:
        return True


def reconciliation(entries: tuple[FlowEntry, ...] = ()) -> tuple[Reconciliation, Bindings]:
    """Return a reconciliation whose switch has been read."""
    bindings = Bindings()
    flows = Reconciliation(bindings, SwitchState())
    load(flows, entries, [], 0.0)
    return flows, bindings


def load(flows: Reconciliation, entries: Iterable[FlowEntry], foreign: Iterable[FlowKey], now: float) -> None:
    """Read the switch."""
    reading = flows.begin_reading()
    tell(reading, entries)
    for key in foreign:
        reading.add_foreign(key)
    flows.end_reading(now)


def take(flows: Reconciliation, now: float) -> Batch | None:
    """Return what is due, None for nothing, after as many calls as it takes."""
    while (batch := flows.next_urgent_batch(now, limit=4) or flows.next_batch(now, limit=4)) is None and flows.dirty:
        pass
    return batch


def apply(flows: Reconciliation, now: float) -> list[FlowChange]:
    """Send what is due to a switch that takes everything."""
    sent: list[FlowChange] = []
    while (batch := take(flows, now)) is not None:
        sent += batch.changes
        flows.confirm(batch, now)
        assert len(sent) < 100, "it never comes to rest"
    return sent


def carry_out(switch: dict[FlowKey, FlowEntry], change: FlowChange) -> None:
    """Carry out a batch, as a switch does."""
    if change.add:
        assert (1 <= change.hard_timeout <= LONGEST_TIMEOUT) == (change.flow.kind is Kind.GATE), (
            "gates end, and only they"
        )
        switch[change.flow.key] = FlowEntry(change.flow, change.expires_at)
    else:
        switch.pop(change.flow.key, None)
