# SPDX-License-Identifier: Apache-2.0
"""What stands together on a router or not at all: the flows of one home address, and what several of them share."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from controller.core.flows import Flow, FlowKey
from controller.core.installed import Entry
from hoaflow.addresses import Prefix


class Unit(NamedTuple):
    """The flows that a home address should have for itself, none if it is not carried here, and when they end.

    ``shared``: the key of an uplink flow that it shares with other home addresses; it has none for itself then.
    """

    flows: Sequence[Flow]
    ends: float | None
    shared: FlowKey | None


class SharedUplink(NamedTuple):
    """An uplink flow that several home addresses share: it takes the packets of them all.

    ``members``: those that are carried here. ``left_out``: one whose mobile node uses the path, too, but that is not
    carried, so that the flow would lose its packets; None if there is none. ``sole``: the one home address to which the
    flow belongs if nobody else uses its path at all: it is a flow of that one's ``Unit`` then.
    """

    entry: Entry
    members: Sequence[Prefix]
    left_out: Prefix | None
    sole: Prefix | None


class Desired(Protocol):
    """What a reconciliation asks: `DesiredFlows` answers."""

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses that may have flows."""

    def unit_of(self, home_address: Prefix, now: float) -> Unit:
        """Return what should stand for a home address."""

    def uplink_at(self, key: FlowKey, now: float) -> SharedUplink | None:
        """Return the uplink flow with this key and whom it serves, None if nobody desires it."""

    def users(self, key: FlowKey, now: float) -> list[Prefix]:
        """Return the home addresses that desire the flow with this key."""

    def uplinks_before(self, verify: FlowKey) -> list[FlowKey]:
        """Return the keys of uplink flows that may lead packets to a flow that verifies them."""

    def uplinks_beside(self, key: FlowKey) -> list[FlowKey]:
        """Return the keys of the uplink flows that may take the packets of a home address for which another flow
        stands."""

    def all_flows(self, now: float) -> Iterator[Entry]:
        """Iterate over the flows of all home addresses."""

    def may_delete(self, key: FlowKey, now: float) -> bool:
        """Decide on a flow of an earlier life that nobody desires."""
