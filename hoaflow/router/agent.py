# SPDX-License-Identifier: Apache-2.0
"""Follow the controller's tunnel list and keep the kernel in line with it (`hoaflow-router run`).

With the `route` backend, the agent keeps a route and a pair per binding. With the `flow` backend it has nothing to keep
per binding. With both, it mends what is not as declared, and tells the controller what it cannot mend.

The agent only connects outwards. While the controller is unreachable it changes nothing: the controller's leases and
the switch's gates decide whether packets come here. It stores nothing and reads the kernel's state at the start, so it
may be killed and restarted at any time.
"""

import functools
import logging
import random
import signal
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from types import FrameType

from hoaflow.client.access import Access
from hoaflow.errors import HoaflowError
from hoaflow.logs import Log
from hoaflow.router.client import Controller, ControllerError, Refused, UnknownRouter
from hoaflow.router.database_changes import DatabaseChanges
from hoaflow.router.endpoint import TOUT, Endpoint
from hoaflow.router.endpoint_routes import EndpointRoutes
from hoaflow.router.error_relays import ErrorRelays
from hoaflow.router.errors import NoBridge, RouterError
from hoaflow.router.firewall import Firewalls, Subject
from hoaflow.router.flow.keeper import FlowKeeper
from hoaflow.router.flow.probes import flow_probes
from hoaflow.router.keeper import EndpointKeeper
from hoaflow.router.lock import alone
from hoaflow.router.macs import kernel_macs
from hoaflow.router.ovsdb import Bridge, Ovsdb
from hoaflow.router.poll import Poll
from hoaflow.router.probes import endpoint_probes
from hoaflow.router.record_upgrade import upgraded
from hoaflow.router.tunnel_plan import DesiredByHomeAgent, TunnelList, without_endpoint
from hoaflow.router.watch import Watch
from hoaflow.tunnel.errors import TunnelError

LOG = Log("router")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between attempts while the controller is unreachable
LONGEST_WAIT = 30  # seconds, the longest long poll that the controller allows
MOST_MACS = 64  # the most that the controller takes
COMPARE, LONGEST_COMPARE = 3.0, 10.0  # seconds between comparisons of everything declared, while nothing changes
# The least seconds between comparisons, and the share of the time that they may take with and without changes.
GAP, SHARE_OF_CHANGES, COMPARE_SHARE = 0.1, 0.2, 0.05
# Seconds between readings of all routes and pairs, and the share of the time that these may take without and with
# changes.
RESYNC, READING_SHARE, READING_SHARE_OF_CHANGES = 5.0, 0.02, 0.2


class Unreadable(HoaflowError):
    """The interfaces of the router's kernel cannot be read, so they cannot be announced."""


class Stop(BaseException):
    """SIGTERM or SIGINT has come: end, and leave the routes in place."""


class Interruption:
    """Raises Stop for SIGTERM and SIGINT, but only while the agent waits, never in the middle of a change."""

    def __init__(self) -> None:
        self._stopping = False
        self._waiting = False

    def install(self) -> None:
        """Handle SIGTERM and SIGINT from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Raise Stop as soon as a signal comes within this context, or at once if one came before."""
        self._waiting = True
        try:
            if self._stopping:
                raise Stop
            yield
        finally:
            self._waiting = False

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        if self._waiting:
            raise Stop


class Agent:
    """The agent of one bridge."""

    def __init__(
        self, controller_url: str, access: Access, bridge: str, ovsdb: Ovsdb, interruption: Interruption
    ) -> None:
        self._url = controller_url
        self._access = access
        self._ovsdb = ovsdb
        self._interruption = interruption
        self._bridge_name = bridge
        self._bridge: Bridge | None = None
        self._controller: Controller | None = None
        self._poller: Controller | None = None  # of its own, as a poll waits while other calls are made
        self._endpoints: dict[str, EndpointRoutes] = {}
        self._desired = DesiredByHomeAgent()
        self._revision = 0  # of the controller's list, up to which everything is applied; 0: nothing is known
        self._failed: dict[str, str] = {}
        self._macs: tuple[str, ...] = ()  # of the router's kernel, as last looked at
        self._acknowledged: object = None  # what was last acknowledged
        self._lease = 0.0  # seconds; 0: the endpoints are to be announced
        self._compare_due = self._resync_due = 0.0
        self._compare_after = self._resync_after = 0.0  # earlier than when due, where something has changed
        self._states = {"database": "ok", "comparison": "ok", "kernel": "ok"}
        self._flow = FlowKeeper(ovsdb)
        self._keeper = EndpointKeeper(ovsdb)
        self._database = DatabaseChanges(ovsdb.db)
        self._watch = Watch(self._database)
        self._relays = ErrorRelays()
        self._firewalls = Firewalls(self._watch.wake)

    def run(self) -> None:
        """Follow the controller until a signal comes. Raises RouterError if the bridge cannot be read at the start."""
        self._take(upgraded(self._ovsdb.bridge(self._bridge_name)))
        try:
            self._database.follow()
        except RouterError as error:  # ovs-vsctl has just reached it
            self._database.give_up()
            LOG.info("database-not-followed", reason=error, effect=f"changes in it are seen within {COMPARE:g} s")
        pause = FIRST_PAUSE
        try:
            while True:
                least = 0.0
                try:
                    self._step()
                    self._state("controller", "ok")
                    self._state("kernel", "ok")
                    pause = FIRST_PAUSE
                    continue
                except UnknownRouter as error:
                    # It has restarted, or forgotten this router, and so has its list. What the kernel has stays until
                    # the controller names the home agents whose bindings it knows.
                    self._state("controller", f"announcing again, routes kept ({error})")
                    self._revision, self._lease = 0, 0.0
                except Refused as error:
                    self._state("controller", f"refuses this agent, routes kept ({error})")
                    least = error.retry_after
                except ControllerError as error:
                    self._close()  # all of its connections are suspect
                    self._state("controller", f"lost, routes kept ({error})")
                except Unreadable as error:
                    # Without an acknowledgement the lease ends, and with it the offload on this router.
                    self._lease = 0.0
                    self._state("kernel", f"unreadable, the controller is not called ({error})")
                with self._interruption.waiting():
                    time.sleep(max(random.uniform(0.5, 1) * pause, least))
                pause = min(2 * pause, LONGEST_PAUSE)
        except Stop:
            LOG.info("stopped", bridge=self._bridge_name, routes="kept")
        finally:
            self.close()

    def close(self) -> None:
        """Close everything that is listened to."""
        self._relays.close()
        self._firewalls.close()
        self._close()
        self._watch.close()

    def _step(self) -> None:
        """Announce the backend if that is due, wait for news, apply and acknowledge it."""
        if not self._lease or time.monotonic() >= self._compare_due:
            self._compare()
        self._acknowledge_news()
        answer = self._poll(max(1, min(LONGEST_WAIT, int(self._lease / 3))))
        news = answer.full or answer.revision != self._revision
        if self._flow.record is not None:
            # Flows do it all, so there is nothing to apply and acknowledge. But a full list where news was asked for
            # comes from a controller that has restarted and knows this router only by its switch.
            if answer.full and self._revision:
                self._lease = 0.0
            self._revision = answer.revision
            self._acknowledged = self._news
            return
        if news:
            self._desired.update(answer)
            self._revision = answer.revision
        if news or self._failed or any(map(self._relays.kept_back, self._endpoints.values())):
            self._apply()
        self._acknowledge_news()
        self._tidy()

    def _poll(self, wait: int) -> TunnelList:
        """Wait for the controller's news, and meanwhile mend and report what changes on this host."""
        assert self._poller is not None, "made by _take"
        poll = Poll(self._poller, self._revision, wait)
        while not poll.answered:
            with self._interruption.waiting():
                changed = self._watch.wait(poll.descriptor, self._compare_due - time.monotonic())
            if changed:
                self._compare_soon()
            if not poll.answered and time.monotonic() >= self._compare_due:
                self._compare()
                if self._lease:
                    self._acknowledge_news()
        return poll.answer()

    @property
    def _news(self) -> object:
        return self._revision, self._failed, self._macs, self._keeper.broken, self._flow.announcement()

    def _acknowledge_news(self) -> None:
        """Announce and acknowledge, unless the controller knows everything already."""
        assert self._controller is not None, "made by _take"
        if self._lease and self._acknowledged == self._news:
            return
        records = [routes.record for routes in self._endpoints.values()]
        with self._interruption.waiting():
            self._lease = self._controller.acknowledge(
                self._revision, records, self._failed, self._macs, self._flow.announcement(), self._keeper.broken
            )
            self._acknowledged = self._news

    def _apply(self) -> None:
        """Bring every endpoint in line with the list; what could not be done is in `_failed` afterwards."""
        if self._flow.record is not None:
            return
        failed = without_endpoint(self._desired, self._endpoints) | self._desired.unreadable
        for home_agent, desired in self._desired.by_home_agent.items():
            if home_agent in self._endpoints:
                routes = self._endpoints[home_agent]
                failed |= routes.apply(desired) | self._relays.kept_back(routes)
                if (problem := self._firewalls.problem(routes)) is not None:
                    # All of it stays on the home agent's path, which enters by another interface.
                    failed |= dict.fromkeys(desired.tunnels, problem)
        for home_address in failed.keys() - self._failed.keys():
            LOG.warning("failed", home_address=home_address, reason=failed[home_address])
        self._failed = failed

    def _compare(self) -> None:
        """Compare everything declared with what is there, and mend it. Raises Unreadable."""
        began = time.process_time()  # elapsed time would make a busy host wait longest when most happens
        again = False
        try:
            self._follow()
            # What changes from now on, including what is mended here, is compared once more.
            if self._watch.drain():
                self._compare_soon()
            with alone():
                # Read within, as setup and teardown change the record.
                readable = self._read_database()
                assert self._bridge is not None, "taken at the start"
                mended = self._keeper.keep(self._bridge, readable)
                self._flow.keep(self._bridge_name, readable)
            again = self._follow()  # changes in a new namespace have gone unheard until now
            self._check_firewalls()
            self._apply_anew(mended)
            again = again or self._resync_due <= self._resync_after
            self._relays.follow(self._endpoints.values())
        except (RouterError, OSError) as error:
            self._state("comparison", f"incomplete, all kept ({error})")
        else:
            self._state("comparison", "ok")
        self._check_macs()
        now, cost = time.monotonic(), time.process_time() - began
        self._compare_due = now + max(COMPARE, min(LONGEST_COMPARE, cost / COMPARE_SHARE))
        self._compare_after = now + max(GAP, min(LONGEST_COMPARE, cost / SHARE_OF_CHANGES))
        if again:
            self._compare_soon()

    def _compare_soon(self) -> None:
        """Schedule a comparison and a reading as soon as their cost allows."""
        self._resync_due = min(self._resync_due, self._resync_after)
        self._compare_due = min(self._compare_due, max(self._compare_after, self._resync_due))

    def _read_database(self) -> bool:
        """Take over the database's record of the bridge; returns False, and keeps the last one, if it is unreadable."""
        try:
            self._database.follow()
            self._take(upgraded(self._ovsdb.bridge(self._bridge_name)))
        except NoBridge as error:
            self._state("database", f"without the bridge, endpoints kept ({error})")
            return True
        except RouterError as error:
            self._state("database", f"unreadable, endpoints kept ({error})")
            return False
        self._state("database", "ok")
        return True

    def _apply_anew(self, mended: set[str]) -> None:
        """Apply the list again, after reading routes and pairs where they may have changed or a reading is due."""
        began = time.process_time()
        due = time.monotonic() >= self._resync_due
        for home_agent, routes in self._endpoints.items():
            if routes.made_anew() or home_agent in mended or due:
                routes.forget()
        self._apply()
        if due:
            now, cost = time.monotonic(), time.process_time() - began
            self._resync_due = now + max(RESYNC, cost / READING_SHARE)
            self._resync_after = now + cost / READING_SHARE_OF_CHANGES

    def _check_macs(self) -> None:
        """Look up the MAC addresses of the router's kernel, which are announced when they change."""
        found: set[str] = set()
        try:
            if self._flow.record is not None:
                found.update(kernel_macs())
            for routes in self._endpoints.values():
                found.update(kernel_macs(routes.record.namespace, TOUT))
        except TunnelError as error:
            raise Unreadable(f"the interfaces of the router's kernel cannot be read: {error}") from error
        macs = tuple(sorted(found)[:MOST_MACS])
        if macs != self._macs:
            left_out = len(found) - len(macs)  # frames for these stay on the home agent's path
            LOG.info("router-macs", bridge=self._bridge_name, macs=",".join(macs) or "none", left_out=left_out or None)
            self._macs = macs

    def _check_firewalls(self) -> None:
        """Find out whether packet filters drop direct traffic."""
        subjects: dict[Hashable, Subject] = {}
        for home_agent, routes in self._endpoints.items():
            endpoint = Endpoint.of(self._bridge_name, routes.record)
            probes = functools.partial(endpoint_probes, endpoint)
            subjects[routes] = Subject(home_agent, endpoint.kernel_namespace, probes)
        if (record := self._flow.record) is not None:
            probes = functools.partial(flow_probes, record, self._bridge_name, self._ovsdb.db)
            subjects[record] = Subject(self._bridge_name, None, probes)
        self._firewalls.update(subjects)
        self._flow.filter_problem = self._firewalls.problem(record)

    def _follow(self) -> bool:
        """Listen in the namespaces of the present endpoints; returns whether one is new."""
        records = [routes.record for routes in self._endpoints.values()]
        kernels = {record.kernel_namespace or None for record in records}
        return self._watch.follow({None, *kernels}, [record.namespace for record in records])

    def _tidy(self) -> None:
        for routes in self._endpoints.values():
            routes.tidy()

    def _close(self) -> None:
        for controller in (self._controller, self._poller):
            if controller is not None:
                controller.close()

    def _take(self, bridge: Bridge) -> None:
        if not bridge.dpid:
            raise RouterError(f"bridge {bridge.name} has no datapath id yet: is ovs-vswitchd running?")
        if self._controller is None or self._controller.dpid != bridge.dpid:
            self._close()
            self._controller = Controller(self._url, bridge.dpid, self._access)
            self._poller = Controller(self._url, bridge.dpid, self._access)
            self._revision, self._lease = 0, 0.0
        self._bridge = bridge
        records = {record.home_agent: record for record in bridge.endpoints}
        if records != {home_agent: routes.record for home_agent, routes in self._endpoints.items()}:
            self._lease = 0.0
            self._endpoints = {
                home_agent: self._endpoints[home_agent]
                if home_agent in self._endpoints and self._endpoints[home_agent].record == record
                else EndpointRoutes(record)
                for home_agent, record in records.items()
            }
            LOG.info("endpoints", bridge=bridge.name, dpid=bridge.dpid, home_agents=",".join(records) or "none")
        if self._flow.take(bridge.name):
            self._revision, self._lease, self._failed, self._desired = 0, 0.0, {}, DesiredByHomeAgent()
            record = self._flow.record
            LOG.info(
                "backend",
                bridge=bridge.name,
                dpid=bridge.dpid,
                backend="route" if record is None else "flow",
                ports=None if record is None else f"{record.transmit_port},{record.receive_port}",
            )

    def _state(self, of: str, state: str) -> None:
        """Log a change of state, not every attempt."""
        before = self._states.get(of)
        if (before or "").partition(",")[0] == state.partition(",")[0]:
            return
        self._states[of] = state
        level = logging.INFO if state == "ok" else logging.WARNING
        LOG.log(level, of, bridge=self._bridge_name, url=self._url, state=state)
