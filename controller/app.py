# SPDX-License-Identifier: Apache-2.0
"""The Ryu application: ``ryu-manager controller/app.py``. It translates Ryu's events into calls, and no more."""

import logging
import os
import time
from collections.abc import Callable

from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

from controller.access.exposure import exposure
from controller.changes import ChangeSignal, KeyedSignal
from controller.core.events import EVENTS, MOVES
from controller.core.offload import Offload
from controller.core.router import Timing
from controller.core.sessions import Sessions
from controller.events import EventBuffer
from controller.garbage import spare_full_collections
from controller.hangup import Hangup
from controller.listening import CannotListen
from controller.metrics import Metrics
from controller.openflow_server import install
from controller.openflow_tls import openflow_tls
from controller.rest.api import RestApi
from controller.rest.calls import Controlled
from controller.rest.gate import Gate
from controller.rest.server import RestServer
from controller.settings import load
from controller.southbound.channel import SwitchChannel
from controller.southbound.encoder import Encoder
from controller.traffic_history import EVERY, TrafficHistory
from logs import Log

LOG = Log("controller")

# How long the clock may sleep when nothing is planned, in seconds.
LONGEST_SLEEP = 60.0
# How long it sleeps at least, however much happens.
SHORTEST_SLEEP = 0.01


class HoaflowController(RyuApp):
    """Takes the data traffic of Mobile IPv6 off the home agent."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        try:
            settings = load(self.CONF)
            switch_tls = openflow_tls(self.CONF)
            self._exposure = exposure(self.CONF, settings)
            self._server = RestServer(self._exposure, settings.request_timeout, settings.connections_per_client)
        except CannotListen as error:
            raise SystemExit(f"hoaflow: {error}") from None
        install(switch_tls, self._vital)
        read = {
            "tokens": self._exposure.tokens,
            "rest-certificates": self._exposure.tls,
            "openflow-certificates": switch_tls,
        }
        self._hangup = Hangup({what: files.reload for what, files in read.items() if files is not None})
        self._settings = settings
        timing = Timing(
            settings.agent_lease, settings.acknowledge_within, settings.forget_after, settings.changes_a_second
        )
        # Numbers of revisions and events go up across restarts because the wall clock does; all else runs on the
        # monotonic clock.
        microseconds = int(time.time() * 1e6)
        self._offload = Offload(timing, settings.classify_miss, first_revision=microseconds)
        self._events = EventBuffer(settings.event_buffer, first=microseconds)
        self._encoder = Encoder(settings.first_table)
        self._sessions = Sessions(self._offload)
        self._channels: dict[int, SwitchChannel] = {}
        self._changed = ChangeSignal()
        self._moved = KeyedSignal()
        self._metrics = Metrics(self._offload, self._channels)
        self._traffic = TrafficHistory(self._offload)
        self._api = RestApi(
            Controlled(
                self._offload,
                settings,
                self._channels,
                self._changed,
                self._moved,
                self._notify,
                self._events,
                self._metrics,
                self._traffic,
            ),
            Gate(self._exposure.tokens, settings),
        )

    def start(self) -> None:
        """Start the clock and the REST API besides Ryu's event loop."""
        super().start()
        spare_full_collections()
        LOG.info("started", rest=self._exposure.url)
        if self._exposure.tokens is None:
            LOG.warning("no-tokens", reason="no tokens_file is set: the REST API answers on this host alone")
        elif self._exposure.in_clear:
            LOG.warning("tokens-in-clear", reason="without rest_certificate others can read the tokens")
        self.threads.append(hub.spawn(self._vital, self._hangup.serve))
        self.threads.append(hub.spawn(self._vital, self._run_clock))
        self.threads.append(hub.spawn(self._vital, self._server.serve, self._api))
        hub.spawn(self._sample_traffic)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _on_state_change(self, event: ofp_event.EventOFPStateChange) -> None:
        datapath = event.datapath
        if event.state == MAIN_DISPATCHER:
            self._open_channel(datapath)
        elif datapath.id is not None:
            self._close_channel(datapath)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, MAIN_DISPATCHER)
    def _on_error(self, event: ofp_event.EventOFPErrorMsg) -> None:
        channel = self._channel(event)
        if channel:
            channel.conversation.on_error(event.msg)

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)
    def _on_barrier_reply(self, event: ofp_event.EventOFPBarrierReply) -> None:
        channel = self._channel(event)
        if channel:
            channel.conversation.on_barrier_reply(event.msg.xid)

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def _on_statistics(self, event: ofp_event.EventOFPFlowStatsReply) -> None:
        channel = self._channel(event)
        if channel:
            channel.conversation.on_statistics(event.msg)

    @set_ev_cls(ofp_event.EventOFPAggregateStatsReply, MAIN_DISPATCHER)
    def _on_total(self, event: ofp_event.EventOFPAggregateStatsReply) -> None:
        channel = self._channel(event)
        if channel:
            channel.conversation.on_total(event.msg)

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)
    def _on_flow_removed(self, event: ofp_event.EventOFPFlowRemoved) -> None:
        channel = self._channel(event)
        if channel:
            channel.on_flow_removed(event.msg)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def _on_port_status(self, event: ofp_event.EventOFPPortStatus) -> None:
        channel = self._channel(event)
        if channel:
            channel.on_ports()

    def _open_channel(self, datapath: Datapath) -> None:
        former = self._channels.get(datapath.id)
        if former is not None:
            LOG.warning(
                "switch-replaced",
                router=f"{datapath.id:016x}",
                former=former.datapath.address,
                present=datapath.address,
            )
            former.end()
        channel = SwitchChannel(
            datapath,
            self._sessions.open(datapath.id, time.monotonic()),
            self._encoder,
            self._settings.answer_within,
            self._settings.read_back_every,
            self._notify,
        )
        self._channels[datapath.id] = channel
        hub.spawn(channel.run)

    def _close_channel(self, datapath: Datapath) -> None:
        channel = self._channels.get(datapath.id)
        if channel is None or channel.datapath is not datapath:
            return  # its switch has connected anew already
        del self._channels[datapath.id]
        channel.end()
        self._sessions.close(channel.session, time.monotonic())

    def _channel(self, event: ofp_event.EventOFPMsgBase) -> SwitchChannel | None:
        channel = self._channels.get(event.msg.datapath.id)
        return channel if channel is not None and channel.datapath is event.msg.datapath else None

    def _notify(self) -> None:
        """Whatever changed in the core: log its events, and wake whom it may concern."""
        events = self._offload.take_events()
        activated, self._offload.activated = self._offload.activated, []
        self._metrics.activated(activated)
        self._metrics.happened(events)
        self._events.add(events, time.time())
        for event in events:
            level = logging.WARNING if EVENTS[event.name].trouble else logging.INFO
            if LOG.wants(level, event.name):
                LOG.write(level, event.name, event.shown())
        for channel in self._channels.values():
            if channel.router is not None and channel.router.flows.dirty:
                channel.wake()
        self._moved.notify(event.fields["home_address"] for event in events if event.name in MOVES)
        self._changed.notify()

    def _run_clock(self) -> None:
        """Tell the core the time when it matters."""
        while self.is_active:
            now = time.monotonic()
            deadline = self._offload.next_deadline()
            if deadline is not None and deadline <= now:
                self._offload.tick(now)
                self._notify()
                hub.sleep(0)
            else:
                self._changed.wait(LONGEST_SLEEP if deadline is None else deadline - now)
                hub.sleep(SHORTEST_SLEEP)

    def _sample_traffic(self) -> None:
        """Take down what the routers carry, for those who look later."""
        while self.is_active:
            self._metrics.observe_traffic()
            self._traffic.take(time.time())
            hub.sleep(EVERY)

    def _vital(self, loop: Callable[..., None], *arguments: object) -> None:
        """Run what the controller can't do without; if it fails, so does the process, and the gates close."""
        try:
            loop(*arguments)
        except Exception:
            LOG.exception("failed", loop=loop.__name__)
            os._exit(1)  # a failure, which who supervises it answers by a new start
