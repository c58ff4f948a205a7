# SPDX-License-Identifier: Apache-2.0
"""Ryu app that takes bindings by POST and sends each one's flows in a bundle, without hoaflow: what the stack can do.

It serves port REFERENCE_REST by eventlet's HTTP server, as Ryu's own REST does. It checks nothing, keeps nothing, and
looks at no answer of the switch. Bindings posted to another path than PATH are only answered; any GET is answered with
the connected switches.
"""

import json
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

import eventlet
import eventlet.wsgi
from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

from tools.benchmarks.handover_bundle import arrival
from tools.benchmarks.ports import REFERENCE_REST

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/v1/bindings"


class BareRest(RyuApp):
    """Answer each POST with the binding that it has."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._datapaths: dict[int, Datapath] = {}
        self._numbers = count(1)

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

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            body = json.dumps(list(self._datapaths)).encode()
        else:
            binding = json.loads(environ["wsgi.input"].read())
            if environ["PATH_INFO"] == PATH:
                bundle = arrival(binding["home_address"], binding["care_of_address"], next(self._numbers))
                for datapath in self._datapaths.values():
                    datapath.send(bundle)
            body = json.dumps(binding).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]
