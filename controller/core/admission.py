# SPDX-License-Identifier: Apache-2.0
"""Check which home agents and bindings may be offloaded at all: their addresses, and how they fit together."""

from controller.core.bindings import Binding, BindingTable
from controller.core.home_agents import HomeAgent, HomeAgents
from controller.core.pipeline import SUPPRESS_PRIORITY, downlink_priority
from controller.core.protocols import IN_OTHER_TUNNELS
from hoaflow.addresses import Prefix, format_address, host, why_not_global_unicast
from hoaflow.errors import HoaflowError

# How many other bindings the packets for a home address may pass through, as for mobile nodes in mobile networks. Each
# adds a header; RFC 2473 allows four by default (section 6.6). The limit bounds what a report costs as well.
MOST_NESTED = 8


class Refused(HoaflowError):
    """A field of a report has a value that can't be taken."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class NotAnnounced(HoaflowError):
    """No bridge has announced this home agent."""

    def __init__(self, home_agent: bytes) -> None:
        super().__init__(f"home agent {format_address(home_agent)} is not announced; its bridge has to do that first")


def check_home_agent(address: bytes, home_prefixes: tuple[Prefix, ...]) -> None:
    """Raise Refused if this can't be a home agent's address or can't be home prefixes."""
    _check_unicast("address", host(address))
    if not home_prefixes:
        raise Refused("home_prefixes", "expected at least one prefix, got none")
    for index, prefix in enumerate(home_prefixes):
        _check_unicast(f"home_prefixes[{index}]", prefix)


def check_binding(binding: Binding, ends: bool, home_agents: HomeAgents) -> None:
    """Raise Refused for a binding that may not be offloaded; ``ends``: it is a deregistration."""
    home_agent = home_agents.get(binding.home_agent)
    if home_agent is None:
        raise Refused("home_agent", str(NotAnnounced(binding.home_agent)))
    if binding.protocol not in home_agent.protocols:
        announced = " and ".join(sorted(each.value for each in home_agent.protocols))
        raise Refused(
            "protocol",
            f"{format_address(home_agent.address)} is announced with {announced}, not {binding.protocol.value}",
        )
    _check_home_address(binding.home_address, home_agent, home_agents)
    if not ends:
        _check_care_of_address(binding, home_agents)


def check_nesting(binding: Binding, bindings: BindingTable) -> None:
    """Raise Refused if a binding's packets could come back to it, or would be encapsulated too often.

    A care-of address may be a home address itself, or lie in a mobile network. All bindings that cover it count, not
    only the one that its packets take now: that one may go.
    """
    if not bindings.covers(binding.care_of_address):
        return  # as nearly always
    looked_at: set[Prefix] = set()
    ends = [host(binding.care_of_address)]
    while ends:
        for step in bindings.all_covering(ends.pop()):
            if step.home_address in looked_at or step.home_address == binding.home_address:
                continue
            looked_at.add(step.home_address)
            if len(looked_at) > MOST_NESTED:
                raise Refused(
                    "care_of_address", f"its packets would pass through more than {MOST_NESTED} other bindings"
                )
            end = host(step.care_of_address)
            if binding.home_address.contains(end):
                raise Refused("care_of_address", "the bindings from there lead back to the home address: a loop")
            ends.append(end)


def is_deregistration(binding: Binding) -> bool:
    """Tell whether an update ends its binding: lifetime 0, or where its protocol says so, CoA = HoA."""
    home_address = binding.home_address
    if binding.lifetime == 0:
        return True
    return binding.care_of_address == home_address.packed and home_address.is_host and binding.rules.ends_at_home


def _check_home_address(home_address: Prefix, home_agent: HomeAgent, home_agents: HomeAgents) -> None:
    _check_unicast("home_address", home_address)
    # Most have one home prefix; only where there are many is a search cheaper than a look at each.
    if not home_agent.home_prefixes[0].contains(home_address) and home_agent not in home_agents.all_covering(
        home_address
    ):
        prefixes = ", ".join(map(str, home_agent.home_prefixes))
        home = format_address(home_agent.address)
        raise Refused("home_address", f"{home_address} lies outside the home prefixes of {home}: {prefixes}")
    if len(home_address.packed) == 4 and (link := _broadcast_on(home_address, home_agent)) is not None:
        raise Refused(
            "home_address", f"{home_address} stands for all hosts of home prefix {link} (RFC 1122), not for one"
        )
    anchor = home_agents.within(home_address)
    if anchor is not None:
        whose = "the home agent's own address" if anchor is home_agent else "another home agent's address"
        raise Refused("home_address", f"{home_address} holds {whose}")
    if not home_address.is_host and downlink_priority(home_address) <= SUPPRESS_PRIORITY:
        raise Refused("home_address", f"{home_address} is too short for a mobile network prefix")


def _broadcast_on(home_address: Prefix, home_agent: HomeAgent) -> Prefix | None:
    """Return the home prefix of whose link an IPv4 address is the broadcast address, in today's or the older form."""
    address = int.from_bytes(home_address.packed, "big")
    for prefix in home_agent.home_prefixes:
        of_host = (1 << (prefix.bits - prefix.length)) - 1  # 1 where there are two hosts and no broadcasts (RFC 3021)
        if home_address.is_host and prefix.contains(home_address) and of_host > 1 and address & of_host in (0, of_host):
            return prefix
    return None


def _check_care_of_address(binding: Binding, home_agents: HomeAgents) -> None:
    care_of_address = host(binding.care_of_address)
    if len(binding.care_of_address) != len(binding.home_agent) and binding.withheld not in IN_OTHER_TUNNELS:
        family = "IPv4" if host(binding.home_agent).is_ipv4 else "IPv6"
        raise Refused("care_of_address", f"expected {family}, as of the home agent: these are the ends of one tunnel")
    _check_unicast("care_of_address", care_of_address)
    if binding.care_of_address == binding.home_agent:
        raise Refused("care_of_address", "this is the home agent's own address")
    if home_agents.get(binding.care_of_address) is not None:
        raise Refused("care_of_address", "this is another home agent's address")
    if binding.home_address.contains(care_of_address):
        raise Refused("care_of_address", f"it lies in the mobile network {binding.home_address} itself")


def _check_unicast(field: str, prefix: Prefix) -> None:
    reason = why_not_global_unicast(prefix)
    if reason is not None:
        raise Refused(field, f"expected global unicast, but {reason}")
