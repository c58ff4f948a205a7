# SPDX-License-Identifier: Apache-2.0
"""Ryu app that takes bindings by REST and sends their flows in bundles, without hoaflow: what the stack can do.

It serves port REFERENCE_REST by eventlet's HTTP server, as Ryu's own REST does, and answers any GET with the connected
switches. What is posted to

- PATH, one binding, is sent by Ryu's classes; nothing is checked or kept, and no answer of the switch awaited,
- PREPARED, one binding or several, is sent in messages that were serialised once (`handover_bundle.Prepared`), and
  answered when the switches have confirmed it; nothing is checked, and each mobile node's care-of address kept, to
  delete the former flows,
- CHECKED likewise, but each binding is checked, kept (`CheckedBindings`) and has a result of its own in the answer,
- any other path is only answered.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, starmap
from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING, Any, TypeVar

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

from tools.benchmarks.checked_bindings import CheckedBindings, Reported, Reports, Step
from tools.benchmarks.handover_bundle import Prepared, arrival
from tools.benchmarks.ports import REFERENCE_REST

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/v1/bindings"
PREPARED = "/prepared"
CHECKED = "/checked"
BUNDLE = 300  # bindings in one bundle
UNDER_WAY = 4  # bundles that the switches have not answered


T = TypeVar("T")
Confirm = Callable[[int, Sequence[Step]], None]


@dataclass(slots=True)
class UnderWay:
    """A bundle that has been sent: how many switches have not answered, and whom to tell when they do."""

    missing: int
    steps: Sequence[Step]
    confirm: Confirm
    answered: Event


class BareRest(RyuApp):
    """Answer each POST with the binding that it has, or with how many."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._datapaths: dict[int, Datapath] = {}
        self._numbers = count(1)
        self._prepared = Prepared()
        self._care_of: dict[bytes, bytes] = {}
        self._checked = CheckedBindings()
        self._lanes = Semaphore(UNDER_WAY)
        self._under_way: dict[int, UnderWay] = {}  # by the number of the bundle

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
        under_way = self._under_way.get(number)
        if under_way is None:
            return
        under_way.confirm(event.msg.datapath.id, under_way.steps)
        under_way.missing -= 1
        if not under_way.missing:
            del self._under_way[number]
            self._lanes.release()
            under_way.answered.send()

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            body = json.dumps(list(self._datapaths)).encode()
        elif environ["PATH_INFO"] == CHECKED:
            body = self._check(environ["wsgi.input"].read())
        else:
            content = msgspec.json.decode(environ["wsgi.input"].read())
            if environ["PATH_INFO"] == PATH:
                bundle = arrival(content["home_address"], content["care_of_address"], next(self._numbers))
                for datapath in self._datapaths.values():
                    datapath.send(bundle)
            elif environ["PATH_INFO"] == PREPARED:
                self._carry_out(content.get("bindings", [content]), self._step, lambda *_: None)
            body = msgspec.json.encode({"taken": len(content["bindings"])} if "bindings" in content else content)
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _check(self, body: bytes) -> bytes:
        """Check bindings and carry them out, and return a result for each."""
        now = time.monotonic()
        results: list[dict[str, object]] = []

        def take(reported: Reported) -> Step | None:
            try:
                step = self._checked.take(reported, now)
            except ValueError as error:
                results.append({"index": len(results), "status": 422, "detail": str(error)})
                return None
            results.append({"index": len(results), "status": 200})
            return step

        self._carry_out(_reported(body), take, self._checked.confirm)
        return msgspec.json.encode({"results": results})

    def _carry_out(self, bindings: Sequence[T], take: Callable[[T], Step | None], confirm: Confirm) -> None:
        """Send the flows of bindings, and wait until the switches have confirmed them all."""
        answered = []
        for start in range(0, len(bindings), BUNDLE):
            steps = [step for binding in bindings[start : start + BUNDLE] if (step := take(binding)) is not None]
            if not steps:
                continue
            number = next(self._numbers)
            bundle = self._prepared.bundle(starmap(self._prepared.changes, steps), number)
            self._lanes.acquire()
            under_way = self._under_way[number] = UnderWay(len(self._datapaths), steps, confirm, Event())
            answered.append(under_way.answered)
            for datapath in self._datapaths.values():
                datapath.send(bundle)
            eventlet.sleep(0)
        for each in answered:
            each.wait()

    def _step(self, binding: Any) -> Step | None:
        home_address, care_of_address = (
            inet_pton(AF_INET6, binding[name]) for name in ("home_address", "care_of_address")
        )
        former = self._care_of.get(home_address)
        self._care_of[home_address] = care_of_address
        return None if former == care_of_address else Step(home_address, care_of_address, former)


def _reported(body: bytes) -> list[Reported]:
    """Decode one binding, or several."""
    if body.startswith(b'{"bindings"'):
        return msgspec.json.decode(body, type=Reports).bindings
    return [msgspec.json.decode(body, type=Reported)]
