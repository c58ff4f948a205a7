# SPDX-License-Identifier: Apache-2.0
"""Tell whether the controller does its work: all leases hold, all switches are in step, all gates are open."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from controller.core import reasons
from controller.core.home_agents import HomeAgent
from controller.core.offload import Offload
from controller.core.reasons import Reason
from controller.core.router import Router


class NotReady(NamedTuple):
    """What is not as it should be, of a home agent (address), of a router (datapath id) or of all (None)."""

    subject: bytes | int | None
    reason: Reason


class Readiness(NamedTuple):
    """What is missing, and how many home agents and routers lack nothing."""

    missing: list[NotReady]
    home_agents: int
    routers: int


def readiness(offload: Offload, behind_since: Mapping[int, float], patience: float, now: float) -> Readiness:
    """Say what is missing.

    ``behind_since``: since when switches have lacked some of their flows; up to ``patience`` seconds are normal. A
    switch may take as long to come back after this controller has left it to another one of its cluster. A drained
    router may be away.
    """
    agents = list(offload.home_agents)
    home_agents = [agent.why_not_offloaded(now) for agent in agents]
    routers = [_trouble(each, agents, behind_since.get(each.dpid), patience, now) for each in offload.routers.values()]
    missing = [
        *(NotReady(each.address, why) for each, why in zip(offload.home_agents, home_agents, strict=True) if why),
        *(NotReady(dpid, why) for dpid, why in zip(offload.routers, routers, strict=True) if why),
    ]
    if not any(each.switch.is_there or _comes_back(each, patience, now) for each in offload.routers.values()):
        missing.append(NotReady(None, reasons.no_switch()))
    return Readiness(missing, home_agents.count(None), routers.count(None))


def _trouble(
    router: Router, home_agents: Sequence[HomeAgent], behind_since: float | None, patience: float, now: float
) -> Reason | None:
    if router.gates.draining:
        return None
    if router.switch.taken_by_stranger is not None:
        return reasons.taken_by_stranger(router.switch.taken_by_stranger)
    if not router.switch.connected:
        return _why_not_written_to(router, patience, now)
    lease_ends = router.tunnels.agent_lease_ends
    if lease_ends is not None and not router.tunnels.agent_alive(now):
        return reasons.agent_silent(lease_ends)
    refused = list(router.flows.refused.all().values())
    if refused:
        return reasons.flows_refused(len(refused), refused[0].reason, min(each.since for each in refused))
    if behind_since is not None and now - behind_since > patience:
        return reasons.not_in_step(behind_since)
    closed = (
        router.gates.why_closed(each, now)
        for each in home_agents
        if each.may_offload(now) and router.has_backend_for(each)
    )
    return next((why for why in closed if why is not None), None)


def _why_not_written_to(router: Router, patience: float, now: float) -> Reason | None:
    """Say why this controller does not write to a switch, unless its cluster has another master or is choosing one."""
    if _comes_back(router, patience, now):
        return None
    standby = router.switch.standby
    if standby is not None and standby.stranger is None and (router.switch.master or now - standby.since <= patience):
        return None
    return router.switch.why_not_connected()


def _comes_back(router: Router, patience: float, now: float) -> bool:
    """Tell whether this controller has just left a switch to another one, so that it is about to come back."""
    left_at = router.switch.left_at
    return left_at is not None and now - left_at <= patience
