# SPDX-License-Identifier: Apache-2.0
"""What is read back from a switch is what was sent to it, whatever was read before."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.bindings import Binding
from controller.core.flow_changes import FlowChange
from controller.core.flow_sets import flows_of, gates_of
from controller.core.flows import ETH_TYPE_IPV4, Flow, Kind, make_flow, match
from controller.core.home_agents import HomeAgent, Status
from controller.core.installed import one_by_one
from controller.core.pipeline import TABLES, Table
from controller.southbound.decoder import FIELDS, Decoder
from controller.southbound.encoder import NICIRA_FIELDS, Encoder
from hoaflow.addresses import Prefix, host
from tests.controller.southbound.test_encoder import OUTER, backends, macs, prefixes

ENCODER = Encoder(first_table=3)

# ofp_flow_mod and ofp_flow_stats, each up to its match (OpenFlow 1.3.5, sections 7.3.4.1 and 7.3.5.2).
FLOW_MOD = 48
STATISTICS = struct.Struct("!HBxIIHHHH4xQQQ")
FLOW_MOD_TABLE = 24
# ofp_header and ofp_flow_removed, up to its match (OpenFlow 1.3.5, section 7.4.2).
REMOVED = struct.Struct("!BBHIQHBBIIHHQQ")

# With so few to choose from, a flow has the same address twice, or one that stands elsewhere in its bytes as well.
SIMILAR = {n: st.sampled_from([bytes(n), bytes(n - 1) + b"\1", b"\1" * n]) for n in OUTER}


@st.composite
def flows(draw: st.DrawFn) -> list[Flow]:
    """Flows of bindings, and gates, that a switch tells with the fields with which they were sent."""
    octets = draw(st.sampled_from([*OUTER]))
    backend, addresses = draw(backends(OUTER[octets])), SIMILAR[octets] | OUTER[octets]
    made: list[Flow] = []
    for _ in range(draw(st.integers(1, 4))):
        home_agent = HomeAgent(draw(addresses), (draw(prefixes()),), 10, 0.0, Status.UP, 0.0)
        home_address = draw(prefixes() | st.one_of(*SIMILAR.values()).map(host))
        binding = Binding(home_address, draw(addresses), home_agent.address)
        made += (
            *flows_of(binding, backend).all(),
            *gates_of(home_agent, draw(st.none() | st.tuples(macs, macs)), backend),
        )
    return draw(st.permutations([flow for flow in made if NICIRA_FIELDS.isdisjoint(name for name, _ in flow.match)]))


def told(flow: Flow, timeout: int = 0, seconds: int = 0) -> bytes:
    """Return a flow as a switch tells it."""
    rest = ENCODER.serialise(FlowChange(flow, add=True), 0)[FLOW_MOD:]
    table = next(number for number, name in ENCODER.names.items() if name == flow.table)
    length = STATISTICS.size + len(rest)
    head = STATISTICS.pack(length, table, seconds, 0, flow.priority, 0, timeout, 0, flow.cookie, 7, 700)
    return head + rest


@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_each_field_that_a_table_may_match_on_is_read_back(table: Table) -> None:
    unknown = table.matches - set(FIELDS.values())
    assert not unknown, "controller.southbound.decoder.FIELDS lacks them, so their flows would not be read back"


@given(flows())
def test_what_is_read_back_is_what_was_sent(sent: list[Flow]) -> None:
    unknown = {name for flow in sent for name, _ in flow.match} - set(FIELDS.values())
    assert not unknown, "controller.southbound.decoder.FIELDS lacks them, so their flows are not read back"
    found = list(one_by_one(Decoder(ENCODER.names).decode(b"".join(map(told, sent)), 0.0)))
    assert [each.entry and each.entry.flow for each in found] == sent
    assert [each.key for each in found] == [flow.key for flow in sent]
    assert {(each.packets, each.bytes) for each in found} <= {(7, 700)}


def test_an_address_that_looks_like_a_priority_is_not_taken_for_one() -> None:
    def sent(priority: int) -> Flow:
        prefix = Prefix(bytes([0, 100, 0, 0]), 32)
        return make_flow(Kind.DOWNLINK, "downlink", priority, match(eth_type=ETH_TYPE_IPV4, ipv4_dst=prefix), ())

    flows = [sent(priority) for priority in (100, 100, 101)]
    found = list(one_by_one(Decoder(ENCODER.names).decode(b"".join(map(told, flows)), 0.0)))
    assert [each.key for each in found] == [flow.key for flow in flows]


@given(flows().map(lambda found: found[0]), st.integers(1, 0xFFFF), st.integers(0, 100))
def test_what_is_left_of_its_time_is_read_as_well(flow: Flow, timeout: int, seconds: int) -> None:
    for found in one_by_one(Decoder(ENCODER.names).decode(told(flow, timeout, seconds) * 2, 1000.0)):
        assert found.entry is not None
        assert found.entry.expires_at == 1000.0 + timeout - seconds


@given(flows())
def test_a_notice_of_removal_names_the_flow_that_was_sent(sent: list[Flow]) -> None:
    decoder = Decoder(ENCODER.names)
    for flow in sent:
        message = ENCODER.serialise(FlowChange(flow, add=True), 0)
        match = message[FLOW_MOD : FLOW_MOD + match_length(message)]
        table = message[FLOW_MOD_TABLE]
        head = REMOVED.pack(
            4, 11, REMOVED.size + len(match), 0, flow.cookie, flow.priority, 2, table, 0, 0, 0, 0, 7, 700
        )
        assert decoder.removed(head + match) == (flow.key, 2, (7, 700))


def match_length(message: bytes) -> int:
    """Return the padded length of a FlowMod's match."""
    (length,) = struct.unpack_from("!2xH", message, FLOW_MOD)
    return (int(length) + 7) // 8 * 8
