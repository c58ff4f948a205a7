# SPDX-License-Identifier: Apache-2.0
"""Put the controller together and run it: core, channels to switches, REST API, clock, metrics. Knows no Ryu."""

import logging
import os
import time
from collections.abc import Callable, Sequence

import eventlet
from oslo_config import cfg

from controller.access.exposure import exposure
from controller.changes import ChangeSignal, KeyedSignal, WorkSignal, give_way
from controller.cluster.joining import member_of, membership_of
from controller.cluster.metrics import ClusterCollector
from controller.cluster.peers import peers_of
from controller.cluster.view import Alone
from controller.core.events import EVENTS, MOVES, Event
from controller.core.offload import Offload
from controller.core.router import Timing
from controller.core.sessions import Sessions
from controller.events import EventBuffer
from controller.garbage_collection import make_full_collections_rare
from controller.large_blocks import give_back_large_blocks
from controller.metrics import Metrics
from controller.rest.api import RestApi
from controller.rest.authorization import Authorization
from controller.rest.context import ApiContext
from controller.rest.http.server import RestServer
from controller.rest.members import Members
from controller.settings import load
from controller.signals import Signals
from controller.southbound.channels import Channels
from controller.tls import ServerTls
from controller.traffic_history import EVERY, TrafficHistory
from hoaflow.logs import Log

LOG = Log("controller")

# Longest sleep of the clock when nothing is planned, in seconds.
LONGEST_SLEEP = 60.0
# Shortest sleep of the clock, in seconds.
SHORTEST_SLEEP = 0.01


class Runtime:
    """Run the controller without Ryu, which passes its events to `channels`."""

    def __init__(self, conf: cfg.ConfigOpts, switch_tls: ServerTls | None) -> None:
        """Listen for REST; `start` serves it. The certificates of `switch_tls` are read again on SIGHUP.

        Raises WrongSettings, CannotListen.
        """
        settings = load(conf)
        self._exposure = exposure(conf, settings)
        self._server = RestServer(self._exposure, settings.request_timeout, settings.connections_per_client)
        read = {
            "tokens": self._exposure.tokens,
            "rest-certificates": self._exposure.tls,
            "openflow-certificates": switch_tls,
        }
        timing = Timing(
            settings.agent_lease,
            settings.acknowledge_within,
            settings.forget_after,
            settings.changes_a_second,
            settings.idle_after,
        )
        # Revisions and event numbers begin at the wall clock, so they go up across restarts. All else uses the
        # monotonic clock.
        microseconds = int(time.time() * 1e6)
        self._offload = Offload(timing, settings.classify_miss, microseconds, settings.install)
        self._events = EventBuffer(settings.event_buffer, first=microseconds)
        self._news = WorkSignal()
        self.channels = Channels(Sessions(self._offload), settings, self._news.notify)
        member = member_of(settings)
        peers = peers_of(settings)
        self._membership = membership_of(settings, member, peers, self._reporting_home_agents, self._announce)
        self.channels.mastership = self._membership
        reloads = {what: files.reload for what, files in read.items() if files is not None}
        self._signals = Signals(reloads, None if self._membership is None else self._membership.stop)
        self._changed = ChangeSignal()
        self._moved = KeyedSignal()
        self._metrics = Metrics(self._offload, self.channels)
        cluster = self._membership or Alone(member)
        self._metrics.registry.register(ClusterCollector(cluster.view))
        self._traffic = TrafficHistory(self._offload)
        self._api = RestApi(
            ApiContext(
                self._offload,
                settings,
                self.channels,
                self._changed,
                self._moved,
                self._notify,
                self._events,
                self._metrics,
                self._traffic,
                Members(cluster, peers, settings.request_timeout),
            ),
            Authorization(self._exposure.tokens, settings),
        )

    def start(self, spawn: Callable[..., object]) -> list[object]:
        """Start REST API, clock, signals and sampling; return the greenlets, made by `spawn`."""
        give_back_large_blocks()
        make_full_collections_rare()
        LOG.info("started", rest=self._exposure.url)
        if self._exposure.tokens is None:
            LOG.warning("no-tokens", reason="no tokens_file is set: the REST API answers on this host alone")
        elif self._exposure.in_clear:
            LOG.warning("tokens-in-clear", reason="without rest_certificate others can read the tokens")
        cluster = [] if self._membership is None else self._membership.loops(self.channels)
        return [
            *(spawn(self.vital, loop) for loop in cluster),
            spawn(self.vital, self._signals.serve),
            spawn(self.vital, self._run_clock),
            spawn(self.vital, self._publish_news),
            spawn(self.vital, self._server.serve, self._api),
            spawn(self._sample_traffic),
        ]

    def vital(self, loop: Callable[..., None], *arguments: object) -> None:
        """Run a loop that the controller can't do without: if it fails, the process ends, and the gates close."""
        try:
            loop(*arguments)
        except Exception:
            LOG.exception("failed", loop=loop.__name__)
            os._exit(1)  # a failure, so that its supervisor starts it again

    def _publish_news(self) -> None:
        """Publish what has changed in the core, once for all that report something at a time."""
        while True:
            self._news.wait()
            self._publish_changes()

    def _notify(self) -> None:
        """Have the channels send what the core has for their switches, and then publish what has changed.

        What a switch says changes nothing for another one, so its channel asks for the latter alone.
        """
        for dpid in self._offload.routers.touched.take_to_wake():
            if (channel := self.channels.get(dpid)) is not None:
                channel.wake()
        self._news.notify()

    def _publish_changes(self) -> None:
        """Log the core's events, and wake the greenlets that may be concerned."""
        events = self._offload.take_events()
        self._metrics.activated(self._offload.activation_events.take_times())
        self._publish(events)
        self._moved.notify(event.fields["home_address"] for event in events if event.name in MOVES)
        self._changed.notify()

    def _reporting_home_agents(self) -> frozenset[str]:
        return self._offload.home_agents.reporting(time.monotonic())

    def _announce(self, event: Event) -> None:
        """Publish an event of the cluster, which the core knows nothing of."""
        self._publish([event])
        self._changed.notify()

    def _publish(self, events: Sequence[Event]) -> None:
        self._metrics.happened(events)
        self._events.add(events, time.time())
        for event in events:
            level = logging.WARNING if EVENTS[event.name].trouble else logging.INFO
            if LOG.wants(level, event.name):
                LOG.write(level, event.name, event.shown())

    def _run_clock(self) -> None:
        """Call the core whenever a deadline of its own has come."""
        while True:
            now = time.monotonic()
            deadline = self._offload.next_deadline()
            if deadline is not None and deadline <= now:
                self._offload.tick(now)
                self._notify()
                give_way()
            else:
                self._changed.wait(LONGEST_SLEEP if deadline is None else deadline - now)
                eventlet.sleep(SHORTEST_SLEEP)

    def _sample_traffic(self) -> None:
        """Sample the routers' traffic regularly."""
        while True:
            self._metrics.observe_traffic()
            self._traffic.take(time.time())
            eventlet.sleep(EVERY)
