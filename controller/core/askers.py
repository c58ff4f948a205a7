# SPDX-License-Identifier: Apache-2.0
"""Find the on-demand routers that an update of a home address concerns, without a look at any other."""

from controller.core.holders import Holders, PrefixHolders
from hoaflow.addresses import Prefix


class Askers:
    """The routers that are asked for each home address, so that an update looks at no others, by datapath id.

    ``asked``: by home address, the on-demand routers that are asked for it. ``adopting``: by care-of address, those
    with an adopted uplink flow, which takes the packets of whoever comes there. ``suppressed``: by home address, those
    whose switches tell nothing of it for a while; also of home addresses without a binding.
    """

    def __init__(self) -> None:
        self.on_demand: dict[int, None] = {}
        self.with_everything: dict[int, None] = {}
        self.asked: Holders[Prefix, int] = Holders()
        self.adopting: Holders[bytes, int] = Holders()
        self.suppressed: PrefixHolders[int] = PrefixHolders()

    def note_mode(self, dpid: int, on_demand: bool) -> None:
        """Record which bindings' flows a router has. Idempotent."""
        former, present = self.with_everything, self.on_demand
        if not on_demand:
            former, present = present, former
        former.pop(dpid, None)
        present[dpid] = None

    def forget(self, dpid: int) -> None:
        """Forget a router that is asked for nothing. Idempotent."""
        self.on_demand.pop(dpid, None)
        self.with_everything.pop(dpid, None)
