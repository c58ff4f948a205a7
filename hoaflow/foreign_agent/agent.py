# SPDX-License-Identifier: Apache-2.0
"""Run the foreign agent: one loop over its sockets that feeds the visitors' lists and carries out what they decide."""

import socket
import time
from collections.abc import Iterable, Iterator
from functools import partial

from hoaflow.foreign_agent.access_links import AccessLink, Usable
from hoaflow.foreign_agent.advertising import Advertising
from hoaflow.foreign_agent.checks import Station, Visit
from hoaflow.foreign_agent.data_plane import DataPlane
from hoaflow.foreign_agent.home_agents import HomeAgents, Received
from hoaflow.foreign_agent.metrics import ForeignAgentCollector
from hoaflow.foreign_agent.settings import Settings
from hoaflow.foreign_agent.terminal import render
from hoaflow.foreign_agent.visitors import Action, Deliver, Deny, Discard, Forget, Relay, Serve, Visitor, Visitors
from hoaflow.linux import AF_INET
from hoaflow.logs import Log
from hoaflow.mobile_ipv4 import wire
from hoaflow.mobile_ipv4.advertisements import is_solicitation
from hoaflow.mobile_ipv4.messages import REGISTRATION_PORT, Code, RegistrationReply
from hoaflow.mobile_ipv4.packets import BROADCAST, UDP_PROTOCOL, Ipv4Packet, parse_udp
from hoaflow.mobility.access_links import AccessLinks
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.objects import MainRule, RestoredSetting
from hoaflow.mobility.routes import CareOfAddressRoutes
from hoaflow.mobility.service import Service
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.rate_limit import RateLimit

MOBILITY_AGENTS = "224.0.0.11"
UNKNOWN_ADDRESS = "0.0.0.0"
ANSWERS_A_SECOND, ANSWERS_AT_ONCE = 100.0, 200
"""Refusals and answers to solicitations, which anybody on an access link can provoke."""

LOG = Log("foreign-agent")


class ForeignAgent(Service):
    """A foreign agent in the current network namespace.

    Nothing is kept on a disk: after a restart, advertisements begin anew with sequence number 0, which tells visitors
    to register again (RFC 5944, section 2.4.1).
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(LOG)
        self._settings, self._address = settings, settings.policy.care_of_address
        self._visitors = Visitors(settings.policy)
        self._advertising = Advertising(settings)
        self._counts = MessageCounts()
        self._answers = RateLimit(rate=ANSWERS_A_SECOND, burst=ANSWERS_AT_ONCE)
        self._home_agents_of: dict[str, str] = {}  # home address → home agent, of visitors

    def setup(self) -> None:
        """Prepare the kernel and the sockets. Raises one of KERNEL_ERRORS."""
        settings = self._settings
        self.lock()
        self._plane = DataPlane(self._address, settings.access_links)
        self.undo.callback(self._plane.close)
        self._access = AccessLinks(self, settings.access_links, AccessLink, self._hear)
        self.declare(self._declaration(), lambda: self._plane.ports)
        # Never read, as access links' sockets know from which station a request has come; but the port is not
        # unreachable then.
        listener = socket.socket(AF_INET, socket.SOCK_DGRAM)
        self.undo.callback(listener.close)
        listener.bind(("", REGISTRATION_PORT))
        self._home_agents = HomeAgents(self._address)
        self.undo.callback(self._home_agents.close)
        self.listen(self._home_agents, self._hear_home_agents)
        self.relay_errors(self._address, self._plane.carries_packet_of)
        if settings.console is not None:
            self.open_console(settings.console, {"visitors": self._render})
        if settings.metrics is not None:
            collector = ForeignAgentCollector(self._counts, lambda: len(self._visitors), self._plane.counters)
            self.serve_metrics(settings.metrics, collector)

    def work(self, now: float) -> Iterable[float | None]:
        """Handle what is due of visitors, and advertise."""
        self._execute(self._visitors.tick(now))
        if now >= self._advertising.due:
            self._advertising.begin(now, self._visitors.full)
            for link in self._access:
                self._advertise(link)
        return (self._visitors.next_due(), self._advertising.due)

    def _declaration(self) -> list[Declared]:
        return [
            RestoredSetting("all.forwarding", "1", "ipv4"),
            MainRule(AF_INET),
            *self._plane.declaration(),
            *(Usable(link) for link in self._settings.access_links),
            *self._access.declaration(),
            CareOfAddressRoutes(self._address, self._home_agents_of),
        ]

    # --- input

    def _hear(self, link: AccessLink) -> None:
        for packet in link.packets():
            if packet.protocol == UDP_PROTOCOL:
                self._hear_request(link, packet)
            elif is_solicitation(packet) and self._answers.take(time.monotonic()):
                self._advertise(link, packet)

    def _hear_request(self, link: AccessLink, packet: Ipv4Packet) -> None:
        try:
            here = (link.address, self._address, BROADCAST, MOBILITY_AGENTS)
        except OSError as error:  # the link goes down this moment, or has no address, which is reported
            self._counts.drop("no_address", "%s", error)
            return
        if packet.destination not in here:  # on its way to a home agent: of a mobile node that does without us
            return
        datagram = parse_udp(packet)
        if datagram is None:
            self._counts.drop("malformed", "a datagram of %s", packet.source)
            return
        try:
            request = wire.parse_request(datagram.payload, packet.source, datagram.source_port)
        except wire.MalformedRegistrationError as error:
            self._counts.drop("malformed", "%s", error)
            return
        self._counts.binding_updates += 1
        visit = Visit(request, Station(link.interface, packet.mac), packet.destination, packet.ttl)
        self._execute(self._visitors.request(visit, time.monotonic()))

    def _hear_home_agents(self) -> None:
        for received in self._home_agents.received():
            try:
                actions = self._answered(received)
            except wire.MalformedRegistrationError as error:
                self._counts.drop("malformed", "%s", error)
                continue
            self._execute(actions)

    def _answered(self, received: Received) -> list[Action]:
        """Return what follows from a message of a home agent. Raises MalformedRegistrationError."""
        if received.error is not None:
            request = wire.parse_request(received.message, self._address, 0)
            return self._visitors.unreachable(request, received.error)
        try:
            reply = wire.parse_reply(received.message)
        except wire.MalformedRegistrationError:
            return self._visitors.malformed(wire.without_extensions(received.message), received.home_agent)
        return self._visitors.replied(reply, received.home_agent, time.monotonic())

    # --- actions

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Discard(reason):
                    self._counts.drop("discarded", "%s", reason)
                case Relay(visit):
                    self._relay(visit)
                case Deny(visit, code, lifetime):
                    self._deny(visit, code, lifetime)
                case Deliver(visit, reply):
                    assert reply.authentication is not None
                    self._reply(visit, reply.code, reply.lifetime, reply.authentication.message)
                case Serve(visitor, previous):
                    self._serve(visitor, previous)
                case Forget(visitor, reason):
                    self._forget(visitor, reason)

    def _relay(self, visit: Visit) -> None:
        request = visit.request
        assert request.authentication is not None
        try:
            self._home_agents.send(request.authentication.message, request.home_agent)
        except OSError as error:
            LOG.warning("not-relayed", home_agent=request.home_agent, reason=error)
            self._execute(self._visitors.unreachable(request, Code.HOME_AGENT_UNREACHABLE))

    def _deny(self, visit: Visit, code: Code, lifetime: int) -> None:
        if not self._answers.take(time.monotonic()):
            self._counts.drop("replies_suppressed", "to %s", visit.home_address)
            return
        request = visit.request
        reply = RegistrationReply(code, lifetime, request.home_address, request.home_agent, request.identification)
        self._reply(visit, code, lifetime, wire.reply(reply))

    def _reply(self, visit: Visit, code: int, lifetime: int, message: bytes) -> None:
        """Send a reply to the station from which the request has come (RFC 5944, section 3.7.2.3)."""
        request, station = visit.request, visit.station
        destination = request.home_address if request.source == UNKNOWN_ADDRESS else request.source
        try:
            if (link := self._access.get(station.link)) is not None:
                link.reply(message, (destination, request.port), station.mac)
        except OSError as error:  # the link goes down this moment: the mobile node asks again
            LOG.warning("send-failed", destination=destination, reason=error)
            return
        self._counts.acknowledgements[code] += 1
        LOG.info(
            "registration-reply-sent",
            home_address=request.home_address,
            home_agent=request.home_agent,
            code=code,
            lifetime=lifetime,
        )

    def _serve(self, visitor: Visitor, previous: Visitor | None) -> None:
        home_address = visitor.home_address
        self._home_agents_of[home_address] = visitor.home_agent
        serve = partial(self._plane.serve, home_address, visitor.station, visitor.home_agent, visitor.reverse_tunnel)
        if (failure := self.upkeep.apply(serve)) is not None:
            LOG.error("visitor-failed", home_address=home_address, reason=failure, action="retry")
        if previous is None or previous.station != visitor.station:
            LOG.info(
                "visitor-registered" if previous is None else "visitor-moved",
                home_address=home_address,
                home_agent=visitor.home_agent,
                link=visitor.station.link,
                reverse_tunnel=visitor.reverse_tunnel,
                lifetime=visitor.lifetime,
            )

    def _forget(self, visitor: Visitor, reason: str) -> None:
        home_address = visitor.home_address
        if (failure := self.upkeep.apply(partial(self._plane.forget, home_address))) is not None:
            LOG.error("removal-failed", home_address=home_address, reason=failure, action="retry")
            return
        self._visitors.forgotten(home_address)
        self._home_agents_of.pop(home_address, None)
        LOG.info("visitor-removed", home_address=home_address, reason=reason)

    def _advertise(self, link: AccessLink, solicitation: Ipv4Packet | None = None) -> None:
        """Advertise on a link, to the sender of a solicitation or to all."""
        try:
            if solicitation is None:
                link.send(self._advertising.packet(link.address))
            else:
                link.send(self._advertising.packet(link.address, solicitation.source), solicitation.mac)
        except OSError as error:  # the link goes down this moment, or has no address, which is reported
            LOG.debug("not-advertised", link=link.interface, reason=error)

    # --- what others see

    def _render(self, _verbose: bool, fancy: bool) -> Iterator[str]:
        now = time.monotonic()
        return (render(visitor, self._address, now, fancy) for visitor in self._visitors)
