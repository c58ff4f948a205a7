# SPDX-License-Identifier: Apache-2.0
"""Run the home agent: one loop over its sockets that feeds the binding cache and carries out what it decides."""

import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

from hoaflow.home_agent.cache import (
    Acknowledge,
    Action,
    Binding,
    BindingCache,
    Discard,
    Install,
    Remove,
    StartDad,
    State,
    routable_unicast,
)
from hoaflow.home_agent.declaration import declaration
from hoaflow.home_agent.discovery import Discovery
from hoaflow.home_agent.draining import Draining
from hoaflow.home_agent.ipv4_home_link import Ipv4HomeLink
from hoaflow.home_agent.leftovers import remove_unserved
from hoaflow.home_agent.parts import open_parts
from hoaflow.home_agent.persistence import Persistence
from hoaflow.home_agent.pods.serving import Serving
from hoaflow.home_agent.pods.shared_cache import SharedCache
from hoaflow.home_agent.replies import Replies
from hoaflow.home_agent.settings import Settings
from hoaflow.home_agent.terminal import render
from hoaflow.logs import Log
from hoaflow.mobility import wire
from hoaflow.mobility.extension_headers import DESTINATION_OPTIONS, MalformedPacketError, ParameterProblemError
from hoaflow.mobility.home_agent_discovery import is_prefix_solicitation
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.messages import BindingErrorStatus
from hoaflow.mobility.metrics import HomeAgentCollector
from hoaflow.mobility.packet_io import PacketReceiver, addressed_to
from hoaflow.mobility.service import Service
from hoaflow.mobility.terminal_server import Listing
from hoaflow.mobility.tunnel_counters import TunnelCounters
from hoaflow.mobility.tunnels import KERNEL_ERRORS

RESTORE_SECONDS = 0.02
"""Seconds that messages wait while restored bindings are put into the kernel, after a restart."""
HOME_TEST_INIT, CARE_OF_TEST_INIT = 1, 2
ANSWERED_TYPES = (HOME_TEST_INIT, CARE_OF_TEST_INIT)
LAST_KNOWN_TYPE = 7

LOG = Log("home-agent")


class HomeAgent(Service):
    """A home agent in the current network namespace."""

    def __init__(self, settings: Settings, shared: SharedCache | None = None) -> None:
        """Read the journal; `shared` is the cache of the address's owner, where there are several pods.

        Raises JournalError, OSError.
        """
        super().__init__(LOG)
        self._settings = settings
        self._shared = shared
        self._serving: Serving | None = None
        self._discovery: Discovery | None = None
        self._draining: Draining | None = None
        self._ipv4: Ipv4HomeLink | None = None
        self._persistence = shared or Persistence(settings.journal)
        self._cache = BindingCache(settings.policy, self._persistence.sequences)
        self._answers: list[Acknowledge] = []
        self._to_install: deque[Install] = deque()
        self._counts = MessageCounts()
        self._replies = Replies(settings.policy.home_agent, self._counts)

    def setup(self) -> None:
        """Prepare the kernel and the sockets, and restore saved bindings. Raises one of KERNEL_ERRORS."""
        settings, policy = self._settings, self._settings.policy
        address = policy.home_agent
        self.lock()
        parts = open_parts(settings, self.undo)
        self._tunnels, self._home_link = parts.tunnels, parts.home_link
        self._networks, self._ipv4 = parts.networks, parts.ipv4
        remove_unserved(settings, parts)
        if settings.advertising is not None:
            self._discovery = Discovery(
                settings.advertising,
                policy,
                self._home_link,
                self,
                self._replies,
                self._counts,
                lambda: len(self._cache),
            )
            self.undo.callback(self._discovery.close)
        self.declare(declaration(policy, parts, self._rebind, self._discovery), lambda: self._tunnels.ports)
        if self._discovery is not None:
            undefended = parts.undefended
            self._draining = Draining(policy, self._cache, undefended, self._discovery, self._replies, self.upkeep)
        # Never read (see Guard), but /proc/net/raw6 then shows that somebody receives Mobility Headers here.
        listener = socket.socket(socket.AF_INET6, socket.SOCK_RAW, wire.MOBILITY_HEADER)
        self.undo.callback(listener.close)
        receiver = PacketReceiver(addressed_to(address, (DESTINATION_OPTIONS, wire.MOBILITY_HEADER)))
        self.undo.callback(receiver.close)
        self.listen(receiver, lambda: self._receive(receiver))
        self.listen(self._home_link.receiver, self._handle_claims)
        if not self._tunnels.relays_errors:
            self.relay_errors(address, self._tunnels.carries_packet_of)
        if settings.console is not None:
            listings: dict[str, Listing] = {"bc": self._render}
            if self._discovery is not None:
                listings["hal"] = self._discovery.render
            self.open_console(settings.console, listings, {"drain": self._drain})
        if settings.metrics is not None and parts.counters is not None:
            self.serve_metrics(settings.metrics, self._collector(parts.counters))
        # They go into the kernel from the loop, so that no message waits for all of them.
        self._to_install += self._persistence.restore(self._cache)
        if self._shared is not None and parts.gate is not None:
            self._serving = Serving(self._shared.ownership, parts.gate, self._home_link, self.upkeep)
            self.undo.callback(self._serving.close)

    def run(self) -> None:
        """Serve until `stop` is called."""
        super().run()
        self._answer()

    def work(self, now: float) -> Iterable[float | None]:
        """Handle what is due in the cache, and of what else the home agent does."""
        serving_due = draining_due = None
        may_serve = self._persistence.may_serve  # else all stays as it is
        if may_serve:
            self._execute(self._cache.tick(now))
            self._answer()
            self._install_restored()
        if self._serving is not None:
            serving_due = self._serving.turn(now, installed=not self._to_install)
            if self._serving.over:
                self.stop()
                return (now,)
        if may_serve:
            if self._to_install:
                return (now,)
            draining_due = None if self._draining is None else self._draining.turn(now)
        discovery_due = None if self._discovery is None else self._discovery.turn(now)
        cache_due = self._cache.next_due() if self._persistence.may_serve else None
        return (serving_due, draining_due, discovery_due, cache_due)

    def close(self) -> None:
        """Remove everything of ours from the kernel. Without a journal, mobile nodes must register again."""
        if hasattr(self, "upkeep"):
            counts = dict(sorted(self._counts.dropped.items()))
            LOG.info("counters", **self._carried(), binding_updates=self._counts.binding_updates, **counts)
        super().close()
        self._persistence.close()

    def _carried(self) -> dict[str, object]:
        try:
            accepted, dropped = self._tunnels.counters()
        except KERNEL_ERRORS:  # never set up, or somebody has just removed it
            return {}
        return {"reverse_accepted": accepted, "reverse_dropped": dropped}

    # --- input

    def _receive(self, receiver: PacketReceiver) -> None:
        for data in receiver.packets():
            if not self._persistence.may_serve:
                self._counts.drop("not_owner", "another pod may serve")
                continue
            try:
                self._handle(wire.parse_packet(data))
            except MalformedPacketError as error:
                self._counts.drop("malformed", "%s", error)
                if isinstance(error, ParameterProblemError):
                    self._replies.report_problem(data, error)

    def _handle(self, packet: wire.MobilityPacket) -> None:
        """Handle one packet. Raises MalformedPacketError."""
        if packet.routed_to is not None:  # RFC 6275, section 6.4: it leads to a home address of the node itself
            self._counts.drop("routing_header", "to %s from %s", packet.routed_to, packet.source)
            return
        if packet.next_header != wire.MOBILITY_HEADER:
            if packet.home_address is not None:
                self._handle_home_address_option(packet, packet.home_address)
            return
        kind = packet.mobility_type
        if kind <= LAST_KNOWN_TYPE:
            packet.check_mobility_header()
        if kind == wire.BINDING_UPDATE:
            update = wire.parse_binding_update(packet)
            self._counts.binding_updates += 1
            actions = self._cache.update(update, time.monotonic())
            self._persistence.record(self._cache, update.home_address)
            self._execute(actions)
        elif kind in ANSWERED_TYPES or kind > LAST_KNOWN_TYPE:
            # There is no route optimisation here, so messages of the return routability procedure count as unknown.
            self._replies.report_error(packet, BindingErrorStatus.UNRECOGNISED_TYPE)
        elif (
            kind != wire.BINDING_ERROR
            or self._draining is None
            or not self._draining.refused(wire.parse_binding_error(packet))
        ):
            self._counts.drop("unexpected", "MH Type %d from %s", kind, packet.source)

    def _handle_home_address_option(self, packet: wire.MobilityPacket, home_address: str) -> None:
        """Handle a Home Address option outside a Binding Update (RFC 6275, section 9.3.1).

        Raises MalformedPacketError.
        """
        binding = self._cache.get(home_address)
        if not routable_unicast(IPv6Address(home_address)):
            self._counts.drop("home_address_option", "%s is no routable unicast address", home_address)
        elif binding is None or binding.care_of_address != packet.source:
            self._replies.report_error(packet, BindingErrorStatus.UNKNOWN_BINDING)
        elif self._discovery is not None and binding.state is State.REGISTERED and is_prefix_solicitation(packet):
            self._discovery.advertise_prefixes(packet, binding)
        else:
            self._counts.drop("home_address_option", "next header %d from %s", packet.next_header, packet.source)

    def _handle_claims(self) -> None:
        for address in self._home_link.claims():
            if self._serving is not None and address == self._settings.policy.home_agent:
                self._serving.claimed()
            actions = self._cache.duplicate_found(address)
            if actions:
                LOG.warning("duplicate-address", address=address)
            self._execute(actions)

    # --- actions

    def _execute(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Discard(reason):
                    self._counts.drop("discarded", "%s", reason)
                case StartDad(binding):
                    self._start_dad(binding)
                case Install(binding, previous, acknowledge):
                    self._install(binding, previous, acknowledge)
                case Remove(binding, reason):
                    self._remove(binding, reason)
                case Acknowledge():
                    self._answers.append(action)

    def _start_dad(self, binding: Binding) -> None:
        for address in binding.defended:
            try:
                self._home_link.solicit(address)
            except OSError as error:
                # The link is down, so nobody on it can have the address either.
                LOG.warning("dad-not-sent", address=address, reason=error)

    def _install(self, binding: Binding, previous: Binding | None, acknowledge: Acknowledge | None) -> None:
        defended = set(binding.defended) - set(previous.defended if previous is not None else ())
        self._home_link.wanted |= defended

        def install() -> None:
            self._tunnels.tunnel(binding.home_address, binding.care_of_address)
            self._networks.tunnel(binding.home_address, binding.mobile_networks, binding.care_of_address)
            for address in sorted(defended):
                self._home_link.defend(address)
            self._follow_ipv4(binding.home_address, binding)

        if (failure := self.upkeep.apply(install)) is not None:
            LOG.error("binding-failed", home_address=binding.home_address, reason=failure)
            self._execute(self._cache.install_failed(binding.home_address, time.monotonic()))
            return
        if previous is None or previous.care_of_address != binding.care_of_address:
            LOG.info(
                "binding-registered" if previous is None else "binding-moved",
                home_address=binding.home_address,
                care_of_address=binding.care_of_address,
                sequence=binding.update.sequence,
                lifetime=binding.lifetime,
            )
        self._persistence.record(self._cache, binding.home_address)
        if acknowledge is not None:
            self._answers.append(acknowledge)

    def _remove(self, binding: Binding, reason: str) -> None:
        self._home_link.wanted -= set(binding.defended)

        def remove() -> None:
            for address in binding.defended:
                self._home_link.release(address)
            self._tunnels.untunnel(binding.home_address)
            self._networks.untunnel(binding.home_address)
            self._follow_ipv4(binding.home_address, None)

        if (failure := self.upkeep.apply(remove)) is not None:
            LOG.error("removal-failed", home_address=binding.home_address, reason=failure, action="retry")
            return
        self._cache.removed(binding.home_address)
        LOG.info("binding-removed", home_address=binding.home_address, reason=reason)
        self._persistence.record(self._cache, binding.home_address)

    def _follow_ipv4(self, home_address: str, binding: Binding | None) -> None:
        """Have the kernel tunnel the IPv4 home address that a mobile node may have, if its binding has it."""
        address = self._settings.policy.ipv4.of(home_address)
        if self._ipv4 is None or address is None:
            return
        if binding is None or binding.ipv4_home_address is None:
            self._ipv4.untunnel(address)
        else:
            self._ipv4.tunnel(address, binding.care_of_address)

    def _answer(self) -> None:
        """Send the acknowledgements that are due, after one wait for the disk, or for etcd.

        No earlier: once a sequence number has been acknowledged, no restart may allow a replay. What may not be
        acknowledged is dropped: the mobile node sends another update.
        """
        answers, self._answers = self._answers, []
        may_answer = self._persistence.commit(self._cache, bool(answers))
        for answer in answers:
            if not may_answer:
                self._counts.drop("not_recorded", "no acknowledgement for %s", answer.update.home_address)
                continue
            self._replies.acknowledge(answer)

    # --- setup, restored bindings

    def _collector(self, counters: TunnelCounters) -> HomeAgentCollector:
        return HomeAgentCollector(
            self._counts,
            bindings=lambda: len(self._cache),
            carried=counters.carried,
            spoofed=lambda: self._tunnels.counters().dropped,
            unwritten=lambda: self._persistence.unwritten,
        )

    def _rebind(self) -> None:
        self.loop.selector.unregister(self._home_link.receiver)
        self._home_link.rebind()
        self.listen(self._home_link.receiver, self._handle_claims)

    def _install_restored(self) -> None:
        """Put some of the restored bindings into the kernel."""
        until = time.monotonic() + RESTORE_SECONDS
        while self._to_install and time.monotonic() < until:
            install = self._to_install.popleft()
            if self._cache.get(install.binding.home_address) is install.binding:  # else it has changed since
                self._execute([install])

    def _drain(self, wanted: bool | None) -> str:
        if self._draining is None:
            return "no other home agent is heard without --advertise"
        return self._draining.switch(wanted, time.monotonic())

    def _render(self, verbose: bool, fancy: bool) -> Iterator[str]:
        now, home_agent = time.monotonic(), self._settings.policy.home_agent
        return (
            render(b, home_agent, self._settings.home_link, self._tunnels.device(b.home_address), now, verbose, fancy)
            for b in self._cache
        )
