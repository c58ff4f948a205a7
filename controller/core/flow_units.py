# SPDX-License-Identifier: Apache-2.0
"""Define flow units, the flows that stand together on a router or not at all, and who is asked for them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from controller.core.flows import Flow, FlowKey
from hoaflow.addresses import Prefix


class FlowUnit(NamedTuple):
    """The flows that one home address should have, none if it is not carried here.

    ``shared``: the key of the uplink flow if it is shared with other home addresses; it is not in ``flows`` then.
    """

    flows: Sequence[Flow]
    shared: FlowKey | None


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

    def unit_of(self, home_address: Prefix, now: float) -> FlowUnit:
        """Return what should stand for a home address."""

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
