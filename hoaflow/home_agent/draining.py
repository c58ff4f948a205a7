# SPDX-License-Identifier: Apache-2.0
"""Drain a home agent: its mobile nodes move to others of the home link, and lose nothing (RFC 5142).

A mobile node registers at another home agent while this one still tunnels for it, and then deregisters here. The other
home agent first asks on the home link whether anybody has the home address (RFC 4862), for which this kernel would
answer. So it is not asked: nftables drops these solicitations. All others are answered until the binding ends.
"""

from ipaddress import IPv6Address

from hoaflow.home_agent.cache import BindingCache, Policy
from hoaflow.home_agent.discovery import Discovery
from hoaflow.home_agent.home_link import HomeLink
from hoaflow.home_agent.replies import Replies
from hoaflow.home_agent.switching import Switching
from hoaflow.logs import Log
from hoaflow.mobility.home_agent_switch import MOST_ADDRESSES
from hoaflow.mobility.messages import BindingError, BindingErrorStatus
from hoaflow.mobility.upkeep import Upkeep
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.nft_table import Table

TABLE = "hoaflow_ha_drain"
SOLICITED = "@th,64,128"
"""The target of a Neighbour Solicitation (RFC 4861, section 4.3)."""

LOG = Log("home-agent")


class Undefended:
    """Duplicate address detection of others gets no answer for mobile nodes' addresses while the home agent drains."""

    def __init__(self, home_link: HomeLink, home_agent: str) -> None:
        self._home_link, self._home_agent = home_link, home_agent
        self._table: Table | None = None

    def __str__(self) -> str:
        return f"mobile nodes' addresses {'defended' if self._table is None else 'left to other home agents'}"

    def leave(self, left: bool) -> None:
        """Leave the addresses to others, or defend them again. Raises one of KERNEL_ERRORS."""
        self._table = self._described() if left else None
        self.make()

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        if self._table is None:
            found = actual.nft_table(None, "ip6", TABLE, False)
            return None if found is None else f"nftables table ip6 {TABLE} is there, and nothing drains"
        state = self._table.difference(None, actual)
        return state and f"{self._table} is {state}"

    def make(self) -> None:
        """See `Declared`."""
        if self._table is None:
            self.remove()
        else:
            self._table.put(None)

    def remove(self) -> None:
        """See `Declared`."""
        Table("ip6", TABLE, "").remove(None)

    def _described(self) -> Table:
        own = sorted({self._home_agent, *self._home_link.own_addresses()})
        exceptions = "".join(f"{SOLICITED} {int(IPv6Address(address)):#034x} return\n" for address in own)
        text = f"""table ip6 {TABLE} {{
chain input {{ type filter hook input priority 0; policy accept;
iifname "{self._home_link.interface}" ip6 saddr :: icmpv6 type nd-neighbor-solicit jump detection
}}
chain detection {{
{exceptions}counter drop
}}
}}
"""
        return Table("ip6", TABLE, text)


class Draining:
    """Whether the home agent drains, and what it does then. Call `turn` when it is due."""

    def __init__(
        self,
        policy: Policy,
        cache: BindingCache,
        undefended: Undefended,
        discovery: Discovery,
        replies: Replies,
        upkeep: Upkeep,
    ) -> None:
        """Do not drain yet. `upkeep` keeps `undefended` as it is left."""
        self._policy, self._cache, self._upkeep = policy, cache, upkeep
        self._undefended, self._discovery, self._replies = undefended, discovery, replies
        self._switching = Switching(cache.get)
        self._drained = False

    def switch(self, wanted: bool | None, now: float) -> str:
        """Begin or end to drain for the terminal: see `Switch`."""
        draining = self._cache.draining
        if wanted is None or wanted is draining:
            return "yes" if draining else "no"
        if wanted and not self._discovery.others:
            return "no other home agent is heard on the home link"
        if (failure := self._upkeep.apply(lambda: self._undefended.leave(wanted))) is not None:
            LOG.error("draining-failed", reason=failure)
            return f"the kernel does not take it: {failure}"
        self._cache.draining = wanted
        self._drained = False
        self._discovery.withdraw(wanted)
        if wanted:
            self._switching.begin(self._cache, now)
        else:
            self._switching.end()
        LOG.info("draining" if wanted else "draining-ended", bindings=len(self._cache))
        return "yes" if wanted else "no"

    def turn(self, now: float) -> float | None:
        """Tell mobile nodes that are to be told, and return when that is due next."""
        if not self._cache.draining:
            return None
        for binding in self._switching.tick(now):
            others = tuple(self._discovery.others[:MOST_ADDRESSES])
            if others:  # else there is nowhere to go until one is heard again
                keys = self._policy.keys
                self._replies.switch(binding, others, None if keys is None else keys[binding.home_address])
        if not len(self._cache) and not self._drained:
            self._drained = True
            LOG.info("drained")
        return self._switching.next_due()

    def refused(self, error: BindingError) -> bool:
        """Take in a Binding Error; return whether a mobile node says by it that it knows no Home Agent Switch.

        Such a node is told no more (RFC 5142, section 5.3).
        """
        home_address = error.source if error.home_address == "::" else error.home_address
        if error.status != BindingErrorStatus.UNRECOGNISED_TYPE or not self._switching.refused(
            home_address, error.source
        ):
            return False
        LOG.warning("home-agent-switch-refused", home_address=home_address, source=error.source)
        return True
