# SPDX-License-Identifier: Apache-2.0
"""Follow the controllers' tunnel lists and keep the kernel in line with one of them (`hoaflow-router run`).

With the `route` backend, the agent keeps a route and a pair per binding. With the `flow` backend it has nothing to keep
per binding. With both, it mends what is not as declared, and tells the controllers what it cannot mend. Each controller
is told everything and acknowledged its own list (`hoaflow.router.member`); which list the kernel follows is decided in
`hoaflow.router.leader`.

The agent only connects outwards. While no controller can be reached it changes nothing: the controllers' leases and
the switch's gates decide whether packets come here. It stores nothing and reads the kernel's state at the start, so it
may be killed and restarted at any time.
"""

import functools
import logging
import random
import time
from collections.abc import Hashable, Sequence

from hoaflow.backoff import Backoff
from hoaflow.client.access import Access
from hoaflow.client.directory import MemberAddress
from hoaflow.logs import Log
from hoaflow.router.announcement import Announcement
from hoaflow.router.calls import Calls
from hoaflow.router.care_of_routes import CareOfRoutes
from hoaflow.router.database_changes import DatabaseChanges
from hoaflow.router.endpoint import TOUT, Endpoint
from hoaflow.router.endpoint_routes import EndpointRoutes
from hoaflow.router.error_relays import ErrorRelays
from hoaflow.router.errors import NoBridge, RouterError
from hoaflow.router.firewall import Firewalls, Subject
from hoaflow.router.flow.keeper import FlowKeeper
from hoaflow.router.flow.probes import flow_probes
from hoaflow.router.interruption import Interruption, Stop
from hoaflow.router.keeper import EndpointKeeper
from hoaflow.router.lock import alone
from hoaflow.router.macs import kernel_macs
from hoaflow.router.members import Members
from hoaflow.router.outcomes import Outcomes
from hoaflow.router.ovsdb import Bridge, Ovsdb
from hoaflow.router.probes import endpoint_probes
from hoaflow.router.record_upgrade import upgraded
from hoaflow.router.tunnel_plan import without_endpoint
from hoaflow.router.watch import Watch
from hoaflow.tunnel.errors import TunnelError

LOG = Log("router")

UNREADABLE_RETRY = 0.25, 5.0  # seconds between attempts to read the kernel's interfaces
MOST_MACS = 64  # the most that the controller takes
COMPARE, LONGEST_COMPARE = 3.0, 10.0  # seconds between comparisons of everything declared, while nothing changes
UNCOMPARED = 10.0  # seconds without a complete comparison after which no controller is called
LINGER = 1.0  # seconds that what is not desired any more stays, at least: the switch may not have deleted its flows yet
# The least seconds between comparisons, and the share of the time that they may take with and without changes.
GAP, SHARE_OF_CHANGES, COMPARE_SHARE = 0.1, 0.2, 0.05
# Seconds between readings of all routes and pairs, and the share of the time that these may take without and with
# changes.
RESYNC, READING_SHARE, READING_SHARE_OF_CHANGES = 5.0, 0.02, 0.2


class Agent:
    """The agent of one bridge."""

    def __init__(
        self,
        controllers: Sequence[str],
        access: Access,
        bridge: str,
        ovsdb: Ovsdb,
        interruption: Interruption,
        install: str | None = None,
    ) -> None:
        """Begin with nothing read; `install`: see `Announcement`."""
        self._controllers = controllers
        self._access = access
        self._ovsdb = ovsdb
        self._interruption = interruption
        self._bridge_name = bridge
        self._install = install
        self._bridge: Bridge | None = None
        self._outcomes = Outcomes()
        self._members: Members | None = None
        self._calls: Calls | None = None
        self._endpoints: dict[str, EndpointRoutes] = {}
        self._failed: dict[str, str] = {}
        self._macs: tuple[str, ...] = ()  # of the router's kernel, as last looked at
        self._macs_retry = Backoff(*UNREADABLE_RETRY, random.Random())
        self._readable = False  # the kernel's interfaces; without them, nothing is said
        self._uncompared: float | None = None  # since when no comparison has been complete; in the end, nothing is said
        self._compare_due = self._resync_due = self._tidy_due = 0.0
        self._compare_after = self._resync_after = 0.0  # earlier than when due, where something has changed
        self._states = {"database": "ok", "comparison": "ok", "kernel": "ok"}
        self._flow = FlowKeeper(ovsdb)
        self._keeper = EndpointKeeper(ovsdb)
        self._database = DatabaseChanges(ovsdb.db)
        self._watch = Watch(self._database)
        self._relays = ErrorRelays()
        self._ways = CareOfRoutes(bridge)
        self._firewalls = Firewalls(self._watch.wake)

    def run(self) -> None:
        """Follow the controllers until a signal comes. Raises RouterError if the bridge cannot be read at the start."""
        self._take(upgraded(self._ovsdb.bridge(self._bridge_name)))
        try:
            self._database.follow()
        except RouterError as error:  # ovs-vsctl has just reached it
            self._database.give_up()
            LOG.info("database-not-followed", reason=error, effect=f"changes in it are seen within {COMPARE:g} s")
        try:
            while True:
                self._step()
        except Stop:
            LOG.info("stopped", bridge=self._bridge_name, routes="kept")
        finally:
            self.close()

    def close(self) -> None:
        """Close everything that is listened to."""
        self._relays.close()
        self._ways.close()
        self._firewalls.close()
        if self._calls is not None:
            self._calls.close()
        self._outcomes.close()
        self._watch.close()

    def _step(self) -> None:
        """Mend what is due, say what is new, and wait for what comes next."""
        assert self._members is not None, "made by _take"
        assert self._calls is not None, "made by _take"
        if time.monotonic() >= self._compare_due:
            self._compare()
        self._answer()
        now = time.monotonic()
        due = min(self._compare_due, self._members.due(now), *self._tidy_times())
        with self._interruption.waiting():
            changed = self._watch.wait(self._outcomes.descriptor, due - now)
        if changed:
            self._compare_soon()
        self._take_outcomes()
        self._calls.leave_vanished()
        if any(each <= time.monotonic() for each in self._tidy_times()):
            self._tidy()

    def _take_outcomes(self) -> None:
        for outcome in self._outcomes.take():
            outcome(time.monotonic())

    def _answer(self) -> None:
        """Apply what controllers have said, and say what is new to them."""
        assert self._members is not None, "made by _take"
        assert self._calls is not None, "made by _take"
        if self._members.take_changed():
            self._apply()
        self._members.settle(self._carries)
        now = time.monotonic()
        if names := self._members.names_to_resolve(now):
            self._calls.resolve(names)
        if self._readable and not self._is_uncompared(now):
            for member, command in self._members.next(self._announcement(), now):
                self._calls.submit(member, command)

    def _answer_meanwhile(self) -> None:
        """Do so within a comparison, for which no handover waits."""
        self._take_outcomes()
        self._answer()

    def _announcement(self) -> Announcement:
        records = tuple(routes.record for routes in self._endpoints.values())
        flow, broken = self._flow.announcement(), self._keeper.broken
        return Announcement(records, self._failed, self._macs, flow, broken, self._install)

    def _carries(self, home_agent: str, home_address: str, care_of_address: str) -> bool:
        """Tell whether the kernel carries a tunnel, or has failed to."""
        routes = self._endpoints.get(home_agent)
        carried = routes is not None and routes.care_of_address(home_address) == care_of_address
        return carried or home_address in self._failed or bool(self._flow.records)

    def _apply(self) -> None:
        """Bring every endpoint in line with the list; what could not be done is in `_failed` afterwards."""
        if self._flow.records:
            return
        assert self._members is not None, "made by _take"
        followed = self._members.desired
        failed = without_endpoint(followed, self._endpoints) | followed.unreadable
        for home_agent, desired in followed.by_home_agent.items():
            if home_agent in self._endpoints:
                routes, changed = self._endpoints[home_agent], desired.changed
                failed |= routes.apply(desired) | self._relays.kept_back(routes)
                failed |= self._ways.blocked(routes, desired.tunnels, changed)
                if (problem := self._firewalls.problem(routes)) is not None:
                    # All of it stays on the home agent's path, which enters by another interface.
                    failed |= dict.fromkeys(desired.tunnels, problem)
        for home_address in failed.keys() - self._failed.keys():
            LOG.warning("failed", home_address=home_address, reason=failed[home_address])
        self._failed = failed

    def _compare(self) -> None:
        """Compare everything declared with what is there, and mend it."""
        began = time.process_time()  # elapsed time would make a busy host wait longest when most happens
        again = False
        try:
            self._follow()
            # What changes from now on, including what is mended here, is compared once more.
            if self._watch.drain():
                self._compare_soon()
            with alone(UNCOMPARED):
                # Read within, as setup and teardown change the record.
                readable = self._read_database()
                assert self._bridge is not None, "taken at the start"
                mended = self._keeper.keep(self._bridge, readable, self._answer_meanwhile)
                self._flow.keep(self._bridge_name, readable)
            again = self._follow()  # changes in a new namespace have gone unheard until now
            self._check_firewalls()
            self._apply_anew(mended)
            again = again or self._resync_due <= self._resync_after
            self._relays.follow(self._endpoints.values())
        except (RouterError, OSError) as error:
            self._comparison_failed(error, time.monotonic())
        else:
            self._uncompared = None
            self._state("comparison", "ok")
        self._check_macs()
        now, cost = time.monotonic(), time.process_time() - began
        pause = COMPARE if self._readable else self._macs_retry.failed()
        self._compare_due = now + max(pause, min(LONGEST_COMPARE, cost / COMPARE_SHARE))
        self._compare_after = now + max(GAP, min(LONGEST_COMPARE, cost / SHARE_OF_CHANGES))
        if again:
            self._compare_soon()

    def _comparison_failed(self, error: Exception, now: float) -> None:
        assert self._members is not None, "made by _take"
        if self._uncompared is None:
            self._uncompared = now
        if self._is_uncompared(now):
            # Nobody knows whether packets go where they should: the leases end, and with them the offload.
            self._members.announce_anew()
            self._state("comparison", f"given up, no controller is called ({error})")
        else:
            self._state("comparison", f"incomplete, all kept ({error})")

    def _is_uncompared(self, now: float) -> bool:
        return self._uncompared is not None and now >= self._uncompared + UNCOMPARED

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
        assert self._members is not None, "made by _take"
        began = time.process_time()
        due = time.monotonic() >= self._resync_due
        for home_agent, routes in self._endpoints.items():
            if routes.made_anew() or home_agent in mended or due:
                routes.forget()
        wanted = self._members.desired.by_home_agent
        self._ways.compare({self._endpoints[each]: wanted[each].tunnels for each in self._endpoints.keys() & wanted})
        self._apply()
        if due:
            now, cost = time.monotonic(), time.process_time() - began
            self._resync_due = now + max(RESYNC, cost / READING_SHARE)
            self._resync_after = now + cost / READING_SHARE_OF_CHANGES

    def _check_macs(self) -> None:
        """Look up the MAC addresses of the router's kernel, which are announced when they change."""
        assert self._members is not None, "made by _take"
        found: set[str] = set()
        try:
            if self._flow.records:
                found.update(kernel_macs(left_out=[record.kernel_port for record in self._flow.records]))
            for routes in self._endpoints.values():
                found.update(kernel_macs(routes.record.namespace, TOUT))
        except TunnelError as error:
            # Without an acknowledgement the leases end, and with them the offload on this router.
            self._readable = False
            self._members.announce_anew()
            self._state("kernel", f"unreadable, no controller is called ({error})")
            return
        self._readable = True
        self._macs_retry.succeeded()
        self._state("kernel", "ok")
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
        for record in self._flow.records:
            probes = functools.partial(flow_probes, record, self._bridge_name, self._ovsdb.db)
            subjects[record] = Subject(self._bridge_name, None, probes)
        self._firewalls.update(subjects)
        self._flow.filter_problems = {record: self._firewalls.problem(record) for record in self._flow.records}

    def _follow(self) -> bool:
        """Listen in the namespaces of the present endpoints; returns whether one is new."""
        records = [routes.record for routes in self._endpoints.values()]
        kernels = {record.kernel_namespace or None for record in records}
        inside = [record.namespace for record in records]
        inside += [record.namespace for record in self._flow.records if record.is_ipv4]
        return self._watch.follow({None, *kernels}, inside)

    def _tidy_times(self) -> list[float]:
        """Return when to tidy up: none if nothing is left over, or the list is not acknowledged yet."""
        assert self._members is not None, "made by _take"
        left_over = any(routes.has_leftovers for routes in self._endpoints.values())
        return [self._tidy_due] if left_over and self._members.is_acknowledged else []

    def _tidy(self) -> None:
        self._tidy_due = time.monotonic() + LINGER
        for routes in self._endpoints.values():
            routes.tidy()

    def _take(self, bridge: Bridge) -> None:
        """Take over the database's record of the bridge."""
        if not bridge.dpid:
            raise RouterError(f"bridge {bridge.name} has no datapath id yet: is ovs-vswitchd running?")
        if self._calls is None or self._bridge is None or self._bridge.dpid != bridge.dpid:
            self._begin_as(bridge.dpid)
        self._bridge = bridge
        records = {record.home_agent: record for record in bridge.endpoints}
        if records != {home_agent: routes.record for home_agent, routes in self._endpoints.items()}:
            self._endpoints = {
                home_agent: self._endpoints[home_agent]
                if home_agent in self._endpoints and self._endpoints[home_agent].record == record
                else EndpointRoutes(record)
                for home_agent, record in records.items()
            }
            LOG.info("endpoints", bridge=bridge.name, dpid=bridge.dpid, home_agents=",".join(records) or "none")
        if self._flow.take(bridge.name):
            self._failed = {}
            self._begin_as(bridge.dpid)
            ports = [port for each in self._flow.records for port in (each.transmit_port, each.receive_port)]
            LOG.info(
                "backend",
                bridge=bridge.name,
                dpid=bridge.dpid,
                backend="flow" if ports else "route",
                ports=",".join(ports) or None,
            )

    def _begin_as(self, dpid: str) -> None:
        """Begin anew with all controllers, as the router with this datapath id."""
        if self._calls is not None:
            self._calls.close()
        self._members = Members(self._controllers, LOG.log, self._note, random.Random())
        self._calls = Calls(self._members, dpid, self._access, self._outcomes)

    def _note(self, address: MemberAddress, state: str) -> None:
        self._state("controller", state, url=str(address))

    def _state(self, of: str, state: str, **place: str) -> None:
        """Log a change of state, not every attempt."""
        key = " ".join((of, *place.values()))
        if self._states.get(key, "").partition(",")[0] == state.partition(",")[0]:
            return
        self._states[key] = state
        level = logging.INFO if state == "ok" else logging.WARNING
        LOG.log(level, of, bridge=self._bridge_name, **place, state=state)
