# SPDX-License-Identifier: Apache-2.0
"""Ryu app that changes flows and measures the time until each switch has answered, without hoaflow.

Whoever connects to port BARE_TRIGGER sends an `Order` as a line of JSON; the answer is a JSON list of seconds from
before a change was made until the last switch had answered its barrier.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass

import eventlet
from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

from tools.benchmarks.handover_bundle import COOKIE, PRIORITY, handover
from tools.benchmarks.ports import BARE_TRIGGER

TIMEOUT = 10.0  # seconds, for the last replies
TABLE = 1  # among the bindings' downlink flows


@dataclass(frozen=True, slots=True)
class Order:
    """Ask for `count` changes at `rate` a second.

    `handovers`: each is a whole handover, on all of so many `switches`; else one FlowMod, on one.
    """

    count: int
    rate: float
    handovers: bool = False
    switches: int = 1


class BareApp(RyuApp):
    """Send flow changes at a steady rate, for comparison with hoaflow."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._datapaths: dict[int, Datapath] = {}
        self._sent: dict[int, float] = {}
        self._missing: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._run_number = 0

    def start(self) -> None:
        """Listen on port BARE_TRIGGER for how many changes to send, and how many a second."""
        super().start()
        self.threads.append(hub.spawn(self._serve))

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _on_state(self, event: ofp_event.EventOFPStateChange) -> None:
        datapath = event.datapath
        if datapath is None:
            return
        if event.state == MAIN_DISPATCHER:
            self._datapaths[datapath.id] = datapath
        else:
            self._datapaths.pop(datapath.id, None)

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)
    def _on_barrier_reply(self, event: ofp_event.EventOFPBarrierReply) -> None:
        xid = event.msg.xid
        self._missing[xid] -= 1
        if xid in self._sent and not self._missing[xid]:
            self._latencies.append(time.monotonic() - self._sent.pop(xid))

    def _serve(self) -> None:
        server = eventlet.listen(("127.0.0.1", BARE_TRIGGER))
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as stream:
                json.dump(self._run(Order(**json.loads(stream.readline()))), stream)

    def _run(self, order: Order) -> list[float]:
        while len(self._datapaths) < order.switches:
            hub.sleep(0.05)  # whoever asked has a time-out
        self._latencies = []
        self._sent.clear()
        self._missing.clear()
        self._run_number += 1
        datapaths = list(self._datapaths.values())[: order.switches]
        started = time.monotonic()
        for index in range(order.count):
            hub.sleep(max(0.0, started + index / order.rate - time.monotonic()))
            if order.handovers:
                self._hand_over(datapaths, index)
            else:
                self._change(datapaths[0], index)
        with eventlet.Timeout(TIMEOUT):
            while self._sent:
                hub.sleep(0.005)
        return self._latencies

    def _hand_over(self, datapaths: list[Datapath], index: int) -> None:
        """Send handover INDEX: in each run, the same mobile nodes move, each to the next link."""
        xid = index + 1
        self._sent[xid] = time.monotonic()
        self._missing[xid] = len(datapaths)
        bundle = handover(index, self._run_number, xid)
        for datapath in datapaths:
            datapath.send(bundle)

    def _change(self, datapath: Datapath, index: int) -> None:
        """Send a change of flow INDEX with this run's care-of address, and a barrier."""
        started = time.monotonic()
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        actions = [
            parser.OFPActionDecNwTtl(),
            parser.OFPActionSetField(tun_ipv6_src="2001:db8:ba2e::1"),
            parser.OFPActionSetField(tun_ipv6_dst=f"2001:db8:ba2e:{self._run_number:x}::{index & 0xFFFF:x}"),
            parser.OFPActionOutput(1),
        ]
        change = parser.OFPFlowMod(
            datapath,
            cookie=COOKIE,
            table_id=TABLE,
            priority=PRIORITY,
            match=parser.OFPMatch(eth_type=0x86DD, ipv6_dst=f"2001:db8:ba2e::{index & 0xFFFF:x}"),
            instructions=[parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)],
        )
        barrier = parser.OFPBarrierRequest(datapath)
        datapath.set_xid(barrier)
        self._sent[barrier.xid] = started
        self._missing[barrier.xid] = 1
        datapath.send_msg(change)
        datapath.send_msg(barrier)
