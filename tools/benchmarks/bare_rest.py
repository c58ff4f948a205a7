# SPDX-License-Identifier: Apache-2.0
"""Ryu app that takes bindings by REST and sends their flows in bundles, without hoaflow: what the stack can do.

It serves port REFERENCE_REST by eventlet's HTTP server, as Ryu's own REST does, and answers any GET with the connected
switches. It checks nothing. What is posted to

- PATH, one binding, is sent by Ryu's classes; nothing is kept, and no answer of the switch awaited,
- PREPARED, one binding or several, is sent in messages that were serialised once (`handover_bundle.Prepared`), and
  answered when the switches have confirmed it; each mobile node's care-of address is kept, to delete the former flows,
- any other path is only answered.
"""

import json
from collections.abc import Iterable
from itertools import count
from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING, Any

import eventlet
import eventlet.wsgi
import msgspec
from eventlet.event import Event
from eventlet.semaphore import Semaphore
from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

from tools.benchmarks.handover_bundle import Prepared, arrival
from tools.benchmarks.ports import REFERENCE_REST

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/v1/bindings"
PREPARED = "/prepared"
BUNDLE = 300  # bindings in one bundle
UNDER_WAY = 4  # bundles that the switches have not answered


class BareRest(RyuApp):
    """Answer each POST with the binding that it has, or with how many."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._datapaths: dict[int, Datapath] = {}
        self._numbers = count(1)
        self._prepared = Prepared()
        self._care_of: dict[bytes, bytes] = {}
        self._lanes = Semaphore(UNDER_WAY)
        # By the number of a bundle under way: how many switches have not answered, and what is sent when all have.
        self._missing: dict[int, int] = {}
        self._answered: dict[int, Event] = {}

    def start(self) -> None:
        """Listen on port REFERENCE_REST."""
        super().start()
        listening = eventlet.listen(("127.0.0.1", REFERENCE_REST))
        self.threads.append(hub.spawn(eventlet.wsgi.server, listening, self._answer, log_output=False))

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _on_state(self, event: ofp_event.EventOFPStateChange) -> None:
        if event.state == MAIN_DISPATCHER:
            self._datapaths[event.datapath.id] = event.datapath
        elif event.datapath is not None:
            self._datapaths.pop(event.datapath.id, None)

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)
    def _on_barrier_reply(self, event: ofp_event.EventOFPBarrierReply) -> None:
        number = event.msg.xid
        if number in self._missing:
            self._missing[number] -= 1
            if not self._missing[number]:
                del self._missing[number]
                self._lanes.release()
                self._answered.pop(number).send()

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            body = json.dumps(list(self._datapaths)).encode()
        else:
            content = msgspec.json.decode(environ["wsgi.input"].read())
            if environ["PATH_INFO"] == PATH:
                bundle = arrival(content["home_address"], content["care_of_address"], next(self._numbers))
                for datapath in self._datapaths.values():
                    datapath.send(bundle)
            elif environ["PATH_INFO"] == PREPARED:
                self._carry_out(content.get("bindings", [content]))
            body = msgspec.json.encode({"taken": len(content["bindings"])} if "bindings" in content else content)
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _carry_out(self, bindings: list[Any]) -> None:
        """Send the flows of bindings, and wait until the switches have confirmed them all."""
        answered = []
        for start in range(0, len(bindings), BUNDLE):
            changes = [self._changes(binding) for binding in bindings[start : start + BUNDLE]]
            number = next(self._numbers)
            bundle = self._prepared.bundle(changes, number)
            self._lanes.acquire()
            self._missing[number], self._answered[number] = len(self._datapaths), Event()
            answered.append(self._answered[number])
            for datapath in self._datapaths.values():
                datapath.send(bundle)
            eventlet.sleep(0)
        for each in answered:
            each.wait()

    def _changes(self, binding: Any) -> bytes:
        home_address, care_of_address = (
            inet_pton(AF_INET6, binding[name]) for name in ("home_address", "care_of_address")
        )
        former = self._care_of.get(home_address)
        self._care_of[home_address] = care_of_address
        return self._prepared.changes(home_address, care_of_address, former if former != care_of_address else None)
