# SPDX-License-Identifier: Apache-2.0
"""What templates make is what Ryu makes, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser
from ryu.ofproto.ofproto_protocol import ProtocolDesc

from controller.core import pipeline
from controller.core.backends import Backend, FlowBackend, RouteBackend
from controller.core.batches import Batch
from controller.core.bindings import Binding
from controller.core.flow_changes import FlowChange
from controller.core.flow_sets import flows_of, gates_of, guards_of, packet_ins_of, path_of, suppression_of
from controller.core.flow_transitions import Transition
from controller.core.flow_units import FlowUnit
from controller.core.flows import ETH_TYPE_IPV6, Flow, Goto, Kind, Normal, make_flow, match
from controller.core.home_agents import HomeAgent, Status
from controller.southbound.encoder import BUNDLE_FLAGS, REMEMBERED, Encoder, Meter
from controller.southbound.templates import Template, TemplateMismatch
from hoaflow.addresses import Prefix, host

ENCODER = Encoder(first_table=3)  # one for all examples, as its templates are what is tested

OUTER = {octets: st.binary(min_size=octets, max_size=octets) for octets in (4, 16)}
mtus = st.integers(1280, 65535 - 14)
macs = st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))
xids = st.integers(0, 0xFFFFFFFF)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """IPv6 and IPv4 prefixes and addresses."""
    bits = draw(st.sampled_from([128, 32]))
    length = draw(st.one_of(st.just(bits), st.integers(29, bits)))
    number = draw(st.integers(0, 2**bits - 1)) >> (bits - length) << (bits - length)
    return Prefix(number.to_bytes(bits // 8, "big"), length)


def backends(addresses: st.SearchStrategy[bytes]) -> st.SearchStrategy[Backend]:
    """Backends for home agents with such addresses."""
    return st.one_of(
        st.builds(RouteBackend, st.integers(1, 0xFF00), macs),
        st.builds(FlowBackend, st.integers(1, 0xFF00), st.integers(1, 0xFF00), addresses, macs, macs, mtus),
    )


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """Any flow that the controller sends."""
    home_address, addresses = draw(prefixes()), draw(st.sampled_from([*OUTER.values()]))
    home_agent = HomeAgent(draw(addresses), (draw(prefixes()),), 10, 0.0, Status.UP, 0.0)
    binding = Binding(home_address, draw(addresses), home_agent.address, reverse_tunnel=draw(st.booleans()))
    backend = draw(backends(addresses))
    miss = draw(st.sampled_from([None, (Normal(),), (Goto("200"),)]))
    return draw(
        st.sampled_from(
            [
                *flows_of(binding, backend).all(),
                *gates_of(home_agent, draw(st.none() | st.tuples(macs, macs)), backend),
                *guards_of(home_agent, backend),
                *packet_ins_of(home_agent, backend),
                suppression_of(home_address, draw(st.sampled_from([None, path_of(binding)])), draw(st.booleans())),
                *pipeline.miss_flows(miss),
            ]
        )
    )


@given(flows(), st.booleans(), st.integers(0, 0xFFFF), xids)
def test_templates_make_the_bytes_that_ryu_makes(flow: Flow, add: bool, timeout: int, xid: int) -> None:
    change = FlowChange(flow, add, None, timeout if add else 0)
    assert ENCODER.flow_mod(change, xid) == ENCODER.serialise(change, xid)


@given(flows(), st.booleans(), xids, xids)
def test_bundles_are_the_bytes_that_ryu_makes(flow: Flow, add: bool, bundle: int, xid: int) -> None:
    change = FlowChange(flow, add)
    inner = ENCODER._flow_mod(change)
    message = parser.ONFBundleAddMsg(ProtocolDesc(ofp.OFP_VERSION), bundle, BUNDLE_FLAGS, inner, [])
    message.set_xid(xid)
    message.serialize()
    assert ENCODER.bundle_add(bundle, change, xid) == bytes(message.buf)


@given(xids, xids)
def test_what_bundles_are_opened_and_committed_with_and_barriers_are_the_bytes_that_ryu_makes(
    bundle: int, xid: int
) -> None:
    protocol = ProtocolDesc(ofp.OFP_VERSION)
    kinds = {ofp.ONF_BCT_OPEN_REQUEST: ENCODER.bundle_open, ofp.ONF_BCT_COMMIT_REQUEST: ENCODER.bundle_commit}
    for kind, encode in kinds.items():
        control = parser.ONFBundleCtrlMsg(protocol, bundle, kind, BUNDLE_FLAGS, [])
        assert encode(bundle, xid) == ENCODER._bytes(control, xid)
    assert ENCODER.barrier(xid) == ENCODER._bytes(parser.OFPBarrierRequest(protocol), xid)


def test_a_packet_is_told_of_by_the_bytes_that_open_vswitch_expects() -> None:
    """Struct nx_action_controller2 and its properties (Open vSwitch, lib/ofp-actions.c)."""
    home_prefix = Prefix(bytes.fromhex("20010db8009900000000000000000000"), 64)
    message = ENCODER.flow_mod(FlowChange(pipeline.downlink_packet_in(home_prefix, 0x6801), add=True), xid=1)
    action = "ffff 0020 00002320 0025 000000000000"  # experimenter, 32 octets, NXAST_CONTROLLER2
    properties = "0000 0006 0080 0000 0005 0008 00006801"  # max_len 128, padded; meter_id
    assert message.endswith(bytes.fromhex(action + properties))


def test_a_meter_is_made_and_changed_by_the_bytes_of_the_specification() -> None:
    """ofp_meter_mod with ofp_meter_band_drop (OpenFlow 1.3.5, section 7.3.4.4)."""
    for add, command in ((True, "0000"), (False, "0001")):
        expected = f"04 1d 0020 00000007 {command} 0006 00006800 0001 0010 000001f4 000000fa 00000000"
        assert ENCODER.meter_mod(0x6800, add, Meter(500, 250), xid=7) == bytes.fromhex(expected)


def test_all_meters_are_asked_for_by_the_bytes_of_the_specification() -> None:
    """ofp_multipart_request and ofp_meter_multipart_request (sections 7.3.5 and 7.3.5.13)."""
    for kind, number in ((ofp.OFPMP_METER, "0009"), (ofp.OFPMP_METER_CONFIG, "000a")):
        expected = f"04 12 0018 00000007 {number} 0000 00000000 ffffffff 00000000"
        assert ENCODER.meters_request(kind, xid=7) == bytes.fromhex(expected)


def handover(number: int) -> list[FlowChange]:
    """Return changes of a binding's flows, the same for the same number."""
    care_of_address, backend = number.to_bytes(16, "big"), RouteBackend(3, "02:00:00:00:00:0a")
    binding = Binding(host(bytes([1] * 16)), care_of_address, bytes([2] * 16))
    return [FlowChange(flow, add=True) for flow in flows_of(binding, backend).all()]


@pytest.mark.parametrize("handovers", [1, 20], ids=["few changes", "many changes"])
def test_a_bundle_is_made_of_its_messages_in_order_each_with_its_xid(handovers: int) -> None:
    changes = [change for number in range(handovers) for change in handover(number)]
    xids, messages, _ = ENCODER.bundle(changes)
    number, *of_changes, closing, barrier = xids
    additions = [ENCODER.bundle_add(number, change, xid) for change, xid in zip(changes, of_changes, strict=True)]
    ends = ENCODER.bundle_commit(number, closing), ENCODER.barrier(barrier)
    assert messages == b"".join((ENCODER.bundle_open(number, number), *additions, *ends))


def unit_of(node: int, link: int) -> FlowUnit:
    """Return the flows of a mobile node on a link, with one of three home agents."""
    number, mac = node.to_bytes(4, "big"), "02:00:00:00:00:0a"
    backend = FlowBackend(1, 2, bytes([7] * 16), mac, mac, 1460)
    binding = Binding(host(bytes([1] * 12) + number), bytes([link] * 12) + number, bytes([2] * 15 + [node % 3]))
    return flows_of(binding, backend)


@pytest.mark.parametrize("step", ["come", "move", "go"])
def test_many_bindings_are_encoded_at_once_as_one_after_the_other(step: str) -> None:
    batch = Batch(0, single=[FlowChange(pipeline.downlink_gate(Prefix(bytes(16), 64)), True, 10.0, 10)], size=1)
    for node in range(300):
        former = None if step == "come" else unit_of(node, link=4)
        batch.add_step(Transition(former, None if step == "go" else unit_of(node, link=5)))
    to_send, changes = batch.to_send(), batch.changes
    assert len(to_send) < 10 < len(changes) == batch.size
    xids, messages, _ = ENCODER.bundle(to_send)
    number, *of_changes, closing, barrier = xids
    one_by_one = [ENCODER.bundle_add(number, change, xid) for change, xid in zip(changes, of_changes, strict=True)]
    ends = ENCODER.bundle_commit(number, closing), ENCODER.barrier(barrier)
    assert messages == b"".join((ENCODER.bundle_open(number, number), *one_by_one, *ends))
    worked_out = {change for each in batch.steps for change in each.changes}
    assert set(changes) == worked_out | set(batch.single)


def test_routers_that_follow_the_same_handovers_get_the_same_bundles() -> None:
    several = [handover(number) for number in range(REMEMBERED)]
    made = [ENCODER.bundle(changes) for changes in several]
    assert [ENCODER.bundle(list(changes)) for changes in several] == made
    assert len({xid for bundle in made for xid in bundle.xids}) == sum(len(bundle.xids) for bundle in made)


def test_a_bundle_that_was_made_for_others_is_never_taken_whatever_becomes_of_their_list() -> None:
    for number in range(1000, 1000 + REMEMBERED):
        changes = handover(number)[-1:]
        assert changes[-1].flow.addresses[-1] in ENCODER.bundle(changes).messages
        changes.clear()  # the next change may stand in its place in memory


def test_a_flow_that_no_template_can_be_made_of_is_deleted_as_ryu_would() -> None:
    """Somebody has put it into the switch with hoaflow's cookie: its mask is all that the prefix has."""
    everything = match(eth_type=ETH_TYPE_IPV6, ipv6_dst=Prefix(bytes([0x80, *bytes(15)]), 1))
    change = FlowChange(make_flow(Kind.DOWNLINK, "downlink", 7, everything, ()), add=False)
    for xid in (1, 2):
        assert ENCODER.flow_mod(change, xid) == ENCODER.serialise(change, xid)


def test_a_mark_that_stands_in_a_message_by_chance_is_no_template() -> None:
    with pytest.raises(TemplateMismatch, match="found 2"):
        Template(bytes(100) + b"mark" + b"mark", [b"mark"])
