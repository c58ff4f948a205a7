# SPDX-License-Identifier: Apache-2.0
"""What a home agent and a binding become: golden flows, and a real switch asked what it does with packets."""

from pathlib import Path

import pytest

from controller.core import pipeline
from controller.core.addresses import parse_address, parse_prefix
from controller.core.flows import Goto, Kind, Normal, Output, match

GOLDEN = Path(__file__).parent / "golden"
HOME_AGENT = parse_address("2001:db8:99::1")
HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESS = parse_prefix("2001:db8:99::100")
CARE_OF_ADDRESS = parse_address("2001:db8:2::2")
ENDPOINT = pipeline.Endpoint(3, "02:00:00:00:00:0a")

FEATURES = {
    "misses": pipeline.miss_flows((Normal(),)),
    "home-agent": [
        *pipeline.guard_flows(HOME_PREFIX),
        pipeline.uplink_gate(HOME_AGENT),
        pipeline.downlink_gate(HOME_PREFIX),
    ],
    "binding": [
        pipeline.downlink_flow(HOME_ADDRESS, ENDPOINT),
        pipeline.uplink_flow(CARE_OF_ADDRESS, HOME_AGENT, ENDPOINT),
    ],
    "mobile-network-prefix": [pipeline.downlink_flow(parse_prefix("2001:db8:aa:1::/64"), ENDPOINT)],
}


@pytest.mark.parametrize("feature", FEATURES)
def test_golden_flows(feature: str) -> None:
    expected = (GOLDEN / f"{feature}.txt").read_text().splitlines()
    assert [str(flow) for flow in FEATURES[feature]] == expected


def test_a_shorter_prefix_ranks_below_a_longer_one_and_above_the_miss() -> None:
    lengths = range(pipeline.SHORTEST_MOBILE_NETWORK_PREFIX, 129)
    priorities = [pipeline.downlink_flow(parse_prefix(f"2000::/{length}"), ENDPOINT).priority for length in lengths]
    assert priorities == sorted(set(priorities))
    assert priorities[0] > pipeline.MISS_PRIORITY
    assert priorities[-1] == pipeline.BINDING_PRIORITY


@pytest.mark.parametrize(
    ("table", "wrong_match", "action"),
    [
        (pipeline.CLASSIFY, match(ipv6_src=HOME_PREFIX), Normal()),
        (pipeline.CLASSIFY, (), Output(1)),
        (pipeline.DOWNLINK, (), Goto(pipeline.UPLINK)),
    ],
)
def test_a_flow_that_does_not_fit_its_table_fails_where_it_is_built(
    table: str, wrong_match: tuple[tuple[str, int]], action: Normal | Output | Goto
) -> None:
    with pytest.raises(pipeline.WrongFlow, match=table):
        pipeline._flow(Kind.GUARD, table, 1, wrong_match, (action,))
