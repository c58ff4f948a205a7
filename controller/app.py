# SPDX-License-Identifier: Apache-2.0
"""Adapt Ryu's events: `ryu-manager controller/app.py`. What the controller does is in `controller.runtime`."""

from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

from controller.listening import CannotListen
from controller.runtime import Runtime
from controller.southbound import server
from controller.southbound.tls import openflow_tls


class HoaflowController(RyuApp):
    """Take the data traffic of Mobile IPv6 off the home agents."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        switch_tls = openflow_tls(self.CONF)
        try:
            self._runtime = Runtime(self.CONF, switch_tls)
        except CannotListen as error:
            raise SystemExit(f"hoaflow: {error}") from None
        self._channels = self._runtime.channels
        server.install(switch_tls, self._runtime.vital)

    def start(self) -> None:
        """Start what runs beside Ryu's event loop."""
        super().start()
        self.threads += self._runtime.start(hub.spawn)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _on_state_change(self, event: ofp_event.EventOFPStateChange) -> None:
        if event.state == MAIN_DISPATCHER:
            hub.spawn(self._channels.open(event.datapath).run)
        else:
            self._channels.close(event.datapath)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def _on_port_status(self, event: ofp_event.EventOFPPortStatus) -> None:
        if channel := self._channels.of(event.msg.datapath):
            channel.on_ports()
