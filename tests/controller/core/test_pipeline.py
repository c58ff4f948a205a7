# SPDX-License-Identifier: Apache-2.0
"""What a home agent and a binding become: golden flows, and a real switch asked what it does with packets."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from controller.core import pipeline
from controller.core.backends import Backend, FlowBackend, RouteBackend
from controller.core.bindings import Binding
from controller.core.flow_sets import flows_of, gates_of, guards_of, keys_of, packet_ins_of, path_of, suppression_of
from controller.core.flows import Flow, Goto, Kind, Normal, Output, match
from controller.core.home_agents import HomeAgent, Status
from hoaflow.addresses import Prefix, parse_address, parse_prefix

GOLDEN = Path(__file__).parent / "golden"
HOME_AGENT = parse_address("2001:db8:99::1")
HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESS = parse_prefix("2001:db8:99::100")
CARE_OF_ADDRESS = parse_address("2001:db8:2::2")
BINDING = Binding(HOME_ADDRESS, CARE_OF_ADDRESS, HOME_AGENT)
IPV4_HOME_PREFIX = parse_prefix("10.99.0.0/24")
IPV4_BINDING = Binding(parse_prefix("10.99.0.100"), CARE_OF_ADDRESS, HOME_AGENT)
IPV4_HOME_AGENT = parse_address("10.99.0.1")
IPV4_CARE_OF_ADDRESS = parse_address("10.2.0.2")
# Home address in the care-of address's family: all four combinations.
BINDINGS = {
    "6-in-6": BINDING,
    "4-in-6": IPV4_BINDING,
    "6-in-4": Binding(HOME_ADDRESS, IPV4_CARE_OF_ADDRESS, IPV4_HOME_AGENT),
    "4-in-4": Binding(IPV4_BINDING.home_address, IPV4_CARE_OF_ADDRESS, IPV4_HOME_AGENT),
}
MACS = ("02:00:00:00:00:0c",)
ROUTE = RouteBackend(3, "02:00:00:00:00:0a")
FLOW = FlowBackend(
    transmit=5,
    receive=6,
    decapsulation_address=parse_address("2001:db8:2::f1"),
    decapsulation_mac="02:00:00:00:00:0b",
    router_mac="02:00:00:00:00:0c",
    mtu=1460,
)
IPV4_FLOW = FLOW._replace(transmit=7, receive=8, decapsulation_address=parse_address("10.2.0.241"), mtu=1480)
IPV4_ANCHOR = HomeAgent(IPV4_HOME_AGENT, (IPV4_HOME_PREFIX, HOME_PREFIX), 10, 0.0, Status.UP, 0.0)


def home_agent_flows(*prefixes: Prefix) -> list[Flow]:
    """Return the guards and gates of a home agent."""
    agent = HomeAgent(HOME_AGENT, prefixes, 10, 0.0, Status.UP, 0.0)
    return [*(flow for prefix in prefixes for flow in pipeline.guard_flows(prefix)), *gates_of(agent, MACS)]


FEATURES = {
    "misses": pipeline.miss_flows((Normal(),)),
    "markers": [pipeline.drain_marker(), pipeline.cluster_marker(bytes.fromhex("0123456789abcdef"))],
    "home-agent": home_agent_flows(HOME_PREFIX),
    "home-agent-ipv4": home_agent_flows(IPV4_HOME_PREFIX, HOME_PREFIX)[:3]
    + home_agent_flows(IPV4_HOME_PREFIX, HOME_PREFIX)[-6:],
    "home-agent-ipv4-flow": [
        *guards_of(HomeAgent(HOME_AGENT, (IPV4_HOME_PREFIX,), 10, 0.0, Status.UP, 0.0), FLOW)[3:],
        *gates_of(HomeAgent(HOME_AGENT, (IPV4_HOME_PREFIX,), 10, 0.0, Status.UP, 0.0), MACS, FLOW),
    ],
    "home-agent-flow": [
        *guards_of(HomeAgent(HOME_AGENT, (HOME_PREFIX,), 10, 0.0, Status.UP, 0.0), FLOW)[9:],
        *gates_of(HomeAgent(HOME_AGENT, (HOME_PREFIX,), 10, 0.0, Status.UP, 0.0), MACS, FLOW)[:1],
    ],
    "home-agent-over-ipv4": gates_of(IPV4_ANCHOR, MACS),
    "home-agent-over-ipv4-flow": [*guards_of(IPV4_ANCHOR, IPV4_FLOW)[12:], *gates_of(IPV4_ANCHOR, MACS, IPV4_FLOW)],
    **{f"binding-route-{which}": flows_of(binding, ROUTE).all() for which, binding in BINDINGS.items()},
    **{
        f"binding-flow-{which}": flows_of(binding, IPV4_FLOW if which.endswith("4") else FLOW).all()
        for which, binding in BINDINGS.items()
    },
    "binding-without-reverse-tunnel": flows_of(replace(BINDINGS["4-in-4"], reverse_tunnel=False), IPV4_FLOW).all(),
    "on-demand": [
        *packet_ins_of(HomeAgent(HOME_AGENT, (HOME_PREFIX, IPV4_HOME_PREFIX), 10, 0.0, Status.UP, 0.0), ROUTE),
        *(suppression_of(each.home_address, None, marked=False) for each in (BINDING, IPV4_BINDING)),
        *(suppression_of(each.home_address, path_of(each), marked=False) for each in (BINDING, IPV4_BINDING)),
    ],
    "on-demand-flow": [
        *packet_ins_of(IPV4_ANCHOR, FLOW)[-1:],
        suppression_of(HOME_ADDRESS, path_of(BINDING), marked=True),
    ],
    "mobile-network-prefix": flows_of(
        Binding(parse_prefix("2001:db8:aa:1::/64"), CARE_OF_ADDRESS, HOME_AGENT), FLOW
    ).all(),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_golden_flows(feature: str) -> None:
    expected = (GOLDEN / f"{feature}.txt").read_text().splitlines()
    assert [str(flow) for flow in FEATURES[feature]] == expected


def test_a_shorter_prefix_ranks_below_a_longer_one_and_above_what_no_binding_takes() -> None:
    priorities = [pipeline.downlink_priority(parse_prefix(f"2000::/{length}")) for length in range(32, 129)]
    assert priorities == sorted(set(priorities))
    assert priorities[0] > pipeline.SUPPRESS_PRIORITY > pipeline.PACKET_IN_PRIORITY > pipeline.MISS_PRIORITY
    assert priorities[-1] == pipeline.BINDING_PRIORITY == pipeline.downlink_priority(IPV4_BINDING.home_address)


@pytest.mark.parametrize("backend", [ROUTE, FLOW])
@pytest.mark.parametrize("home_address", [HOME_ADDRESS, IPV4_BINDING.home_address, parse_prefix("2001:db8:aa:1::/64")])
@pytest.mark.parametrize(
    ("care_of_address", "home_agent"), [(CARE_OF_ADDRESS, HOME_AGENT), (IPV4_CARE_OF_ADDRESS, IPV4_HOME_AGENT)]
)
def test_a_bindings_flows_are_those_that_the_pipeline_declares(
    care_of_address: bytes, home_agent: bytes, home_address: Prefix, backend: Backend
) -> None:
    binding = Binding(home_address, care_of_address, home_agent)
    expected = [
        pipeline.downlink_flow(home_address, backend.downlink(binding)),
        pipeline.uplink_flow(*path_of(binding), backend.uplink()),
    ]
    if (verified := backend.verified()) is not None:
        expected.append(pipeline.verify_flow(care_of_address, home_address, verified))
    assert flows_of(binding, backend).all() == tuple(expected)
    assert keys_of(binding).all[: len(expected)] == tuple(flow.key for flow in expected)


def test_without_reverse_tunnelling_there_is_a_downlink_flow_alone() -> None:
    binding = replace(BINDINGS["4-in-4"], reverse_tunnel=False)
    for backend in (ROUTE, IPV4_FLOW):
        unit = flows_of(binding, backend)
        assert [flow.kind for flow in unit.all()] == [Kind.DOWNLINK]
        assert (unit.flows, unit.size, unit.shared) == (unit.all(), 1, None)
    assert keys_of(binding).all == (unit.downlink_key,)


@pytest.mark.parametrize(
    ("table", "wrong_match", "action"),
    [
        (pipeline.CLASSIFY, match(tun_ipv6_src=HOME_PREFIX), Normal()),
        (pipeline.UPLINK, (), Goto(pipeline.VERIFY)),
        (pipeline.VERIFY, (), Normal()),
        (pipeline.DOWNLINK, (), Goto(pipeline.UPLINK)),
    ],
)
def test_a_flow_that_does_not_fit_its_table_fails_where_it_is_built(
    table: str, wrong_match: tuple[tuple[str, int]], action: Normal | Output | Goto
) -> None:
    with pytest.raises(pipeline.WrongFlow, match=table):
        pipeline._flow(Kind.GUARD, table, 1, wrong_match, (action,))
