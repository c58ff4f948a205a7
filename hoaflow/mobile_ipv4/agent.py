# SPDX-License-Identifier: Apache-2.0
"""Run a home agent of Mobile IPv4: one loop over its socket that feeds the cache and carries out what it decides."""

import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hoaflow.logs import Log
from hoaflow.mobile_ipv4 import wire
from hoaflow.mobile_ipv4.cache import Action, Binding, BindingCache, Discard, Install, Policy, Remove, Reply
from hoaflow.mobile_ipv4.declaration import declaration
from hoaflow.mobile_ipv4.home_link import HomeLink
from hoaflow.mobile_ipv4.messages import REGISTRATION_PORT, Code, RegistrationReply
from hoaflow.mobile_ipv4.terminal import render
from hoaflow.mobile_ipv4.tunnels import Tunnels
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.metrics import HomeAgentCollector
from hoaflow.mobility.service import Service
from hoaflow.mobility.tunnel_counters import TunnelCounters
from hoaflow.tunnel.rate_limit import RateLimit

BATCH = 64
"""Requests handled before other sockets have their turn."""
LARGEST = 65535
REFUSALS_A_SECOND, REFUSALS_AT_ONCE = 10.0, 20
"""Of requests whose sender nobody vouches for: anybody can provoke these answers."""

LOG = Log("home-agent")


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line's settings, checked by `hoaflow.home_agent.settings`."""

    policy: Policy
    home_link: str
    console: tuple[str, int] | None
    metrics: tuple[str, int] | None


class HomeAgent(Service):
    """A home agent in the current network namespace.

    Nothing is kept on a disk: after a restart, mobile nodes must register again.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(LOG)
        self._settings, self._address = settings, settings.policy.home_agent
        self._cache = BindingCache(settings.policy, time.time())
        self._counts = MessageCounts()
        self._refusals = RateLimit(rate=REFUSALS_A_SECOND, burst=REFUSALS_AT_ONCE)

    def setup(self) -> None:
        """Prepare the kernel and the sockets. Raises one of KERNEL_ERRORS."""
        settings = self._settings
        self.lock()
        self._tunnels = Tunnels(self._address)
        self.undo.callback(self._tunnels.close)
        self._home_link = HomeLink(settings.home_link)
        self.undo.callback(self._home_link.close)
        counters = TunnelCounters(self._address) if settings.metrics is not None else None
        wanted = declaration(settings.policy, self._tunnels, self._home_link, counters)
        self.declare(wanted, lambda: self._tunnels.ports)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.undo.callback(self._socket.close)
        self._socket.bind((self._address, REGISTRATION_PORT))
        self.listen(self._socket, self._receive)
        self.relay_errors(self._address, self._tunnels.carries_packet_of)
        if settings.console is not None:
            self.open_console(settings.console, {"bc": self._render})
        if settings.metrics is not None and counters is not None:
            self.serve_metrics(settings.metrics, self._collector(counters))

    def work(self, now: float) -> Iterable[float | None]:
        """Handle what is due in the cache."""
        self._execute(self._cache.tick(now))
        return (self._cache.next_due(),)

    def _receive(self) -> None:
        for _ in range(BATCH):
            try:
                data, (source, port) = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:  # what an ICMP error about a reply says
                LOG.debug("receive-failed", reason=error)
                continue
            try:
                request = wire.parse_request(data, source, port)
            except wire.MalformedRegistrationError as error:
                self._counts.drop("malformed", "%s", error)
                continue
            self._counts.binding_updates += 1
            self._execute(self._cache.request(request, time.monotonic(), time.time()))

    # --- actions

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Discard(reason):
                    self._counts.drop("discarded", "%s", reason)
                case Install(binding, previous, reply):
                    self._install(binding, previous, reply)
                case Remove(binding, reason):
                    self._remove(binding, reason)
                case Reply():
                    self._reply(action)

    def _install(self, binding: Binding, previous: Binding | None, reply: Reply) -> None:
        home_address = binding.home_address
        defended = home_address in self._home_link.wanted
        self._home_link.wanted.add(home_address)

        def install() -> None:
            self._tunnels.tunnel(home_address, binding.care_of_address, binding.request.reverse_tunnel)
            if not defended:
                self._home_link.defend(home_address)

        if (failure := self.upkeep.apply(install)) is not None:
            LOG.error("binding-failed", home_address=home_address, reason=failure)
            self._execute(self._cache.install_failed(home_address, time.monotonic()))
            return
        if previous is None or previous.care_of_address != binding.care_of_address:
            LOG.info(
                "binding-registered" if previous is None else "binding-moved",
                home_address=home_address,
                care_of_address=binding.care_of_address,
                reverse_tunnel=binding.request.reverse_tunnel,
                lifetime=binding.lifetime,
            )
        self._reply(reply)

    def _remove(self, binding: Binding, reason: str) -> None:
        home_address = binding.home_address
        self._home_link.wanted.discard(home_address)

        def remove() -> None:
            self._home_link.release(home_address)
            self._tunnels.untunnel(home_address)

        if (failure := self.upkeep.apply(remove)) is not None:
            LOG.error("removal-failed", home_address=home_address, reason=failure, action="retry")
            return
        self._cache.removed(home_address, time.monotonic())
        LOG.info("binding-removed", home_address=home_address, reason=reason)

    def _reply(self, action: Reply) -> None:
        request = action.request
        if action.code is Code.AUTHENTICATION_FAILED and not self._refusals.take(time.monotonic()):
            self._counts.drop("replies_suppressed", "to %s", request.source)
            return
        reply = RegistrationReply(
            action.code, action.lifetime, request.home_address, self._address, action.identification
        )
        try:
            self._socket.sendto(action.association.sign(wire.reply(reply)), (request.source, request.port))
        except OSError as error:  # no route, or buffers full: the mobile node asks again
            LOG.warning("send-failed", destination=request.source, reason=error)
            return
        self._counts.acknowledgements[int(action.code)] += 1
        LOG.info(
            "registration-reply-sent",
            home_address=request.home_address,
            care_of_address=request.care_of_address,
            code=int(action.code),
            lifetime=action.lifetime,
        )

    # --- what others see

    def _collector(self, counters: TunnelCounters) -> HomeAgentCollector:
        return HomeAgentCollector(
            self._counts,
            bindings=lambda: len(self._cache),
            carried=counters.carried,
            spoofed=lambda: self._tunnels.counters().dropped,
        )

    def _render(self, _verbose: bool, fancy: bool) -> Iterator[str]:
        now = time.monotonic()
        return (render(binding, self._address, now, fancy) for binding in self._cache)
