# SPDX-License-Identifier: Apache-2.0
"""Ryu app that sends a FlowMod with a barrier and measures the time until the barrier's reply.

Whoever connects to port BARE_TRIGGER says how many changes, and how many a second, in a line each; the answer is a JSON
list of seconds from sending to the barrier's reply. It shows what Ryu and the switch take without anything of hoaflow.
"""

import json
import time

import eventlet
from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.handler import MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

from tools.benchmarks.ports import BARE_TRIGGER

TIMEOUT = 10.0  # seconds, for the last replies
TABLE, PRIORITY = 1, 100  # among the bindings' downlink flows
COOKIE = 0xBA2E


class BareApp(RyuApp):
    """Send flow changes at a steady rate, for comparison with hoaflow."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._datapath: Datapath | None = None
        self._sent: dict[int, float] = {}
        self._latencies: list[float] = []
        self._run_number = 0

    def start(self) -> None:
        """Listen on port BARE_TRIGGER for how many changes to send, and how many a second."""
        super().start()
        self.threads.append(hub.spawn(self._serve))

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def _on_connected(self, event: ofp_event.EventOFPStateChange) -> None:
        self._datapath = event.datapath

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)
    def _on_barrier_reply(self, event: ofp_event.EventOFPBarrierReply) -> None:
        sent = self._sent.pop(event.msg.xid, None)
        if sent is not None:
            self._latencies.append(time.monotonic() - sent)

    def _serve(self) -> None:
        server = eventlet.listen(("127.0.0.1", BARE_TRIGGER))
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as stream:
                count, rate = int(stream.readline()), float(stream.readline())
                json.dump(self._run(count, rate), stream)

    def _run(self, count: int, rate: float) -> list[float]:
        while self._datapath is None:
            hub.sleep(0.05)  # whoever asked has a time-out
        self._latencies, self._sent = [], {}
        self._run_number += 1
        started = time.monotonic()
        for index in range(count):
            hub.sleep(max(0.0, started + index / rate - time.monotonic()))
            self._change(self._datapath, index)
        with eventlet.Timeout(TIMEOUT):
            while self._sent:
                hub.sleep(0.005)
        return self._latencies

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
        datapath.send_msg(change)
        datapath.send_msg(barrier)
