# SPDX-License-Identifier: Apache-2.0
"""Run the anchor: one loop over its sockets that feeds the binding cache and carries out what it decides."""

import time
from collections.abc import Iterable, Iterator

from hoaflow.local_mobility_anchor.cache import (
    Acknowledge,
    Action,
    Binding,
    BindingCache,
    Install,
    Remove,
    Revoke,
    State,
)
from hoaflow.local_mobility_anchor.declaration import PREFIX_TABLE, declaration
from hoaflow.local_mobility_anchor.metrics import AnchorCollector
from hoaflow.local_mobility_anchor.revocations import Revocations
from hoaflow.local_mobility_anchor.settings import Settings
from hoaflow.logs import Log
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.service import Service
from hoaflow.mobility.tunnels import Tunnels
from hoaflow.pmipv6.channel import Channel
from hoaflow.pmipv6.messages import (
    Heartbeat,
    Message,
    ProxyBindingAcknowledgement,
    ProxyBindingUpdate,
    Revocation,
    RevocationAcknowledgement,
    RevocationStatus,
    Trigger,
    timestamp_of,
)
from hoaflow.pmipv6.peers import Peers
from hoaflow.pmipv6.terminal import ACCESS_GATEWAY, listings, render

LOG = Log("lma")


class LocalMobilityAnchor(Service):
    """An anchor in the current network namespace.

    Nothing is kept on a disk: after a restart, access gateways see another restart counter, and register their mobile
    nodes anew at once.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(LOG)
        self._settings, self._address = settings, settings.policy.anchor
        self._cache = BindingCache(settings.policy)
        self._revocations = Revocations(self._address)
        self._counts = MessageCounts()

    def setup(self) -> None:
        """Prepare the kernel and the sockets, and greet access gateways. Raises one of KERNEL_ERRORS."""
        common = self._settings.common
        self.lock()
        self._tunnels = Tunnels(self._address, PREFIX_TABLE)
        self.undo.callback(self._tunnels.close)
        self._tunnels.remove_leftovers()
        wanted = declaration(self._address, self._settings.home_prefixes, self._tunnels)
        self.declare(wanted, lambda: self._tunnels.ports)
        self._channel = Channel(self._address, common.keys, common.window, self._counts)
        self.undo.callback(self._channel.close)
        self.listen(self._channel, self._receive)
        if not self._tunnels.relays_errors:
            self.relay_errors(self._address, self._tunnels.carries_packet_of)
        if common.console is not None:
            self.open_console(common.console, listings(self._render))
        self._peers = Peers(self._channel, self._address, common.heartbeat, common.keys or ())
        if common.metrics is not None:
            collector = AnchorCollector(
                self._counts, lambda: len(self._cache), lambda: len(self._peers.unreachable()), self._tunnels.counters
            )
            self.serve_metrics(common.metrics, collector)

    def work(self, now: float) -> Iterable[float | None]:
        """Handle what is due in the cache, heartbeats and revocations."""
        self._execute(self._cache.tick(now))
        self._peers.tick(now)
        for revocation in self._revocations.tick(now, time.time()):
            self._channel.send(revocation)
        return (*self._peers.next_due(), self._revocations.next_due(), self._cache.next_due())

    # --- input

    def _receive(self) -> None:
        for message in self._channel.messages():
            self._handle(message)

    def _handle(self, message: Message) -> None:
        match message:
            case ProxyBindingUpdate():
                self._counts.binding_updates += 1
                self._execute(self._cache.update(message, time.monotonic(), time.time()))
            case Heartbeat():
                if self._peers.take(message):
                    seen = self._peers.seen(message.source)
                    self._execute(self._cache.gateway_restarted(message.source, seen, time.monotonic()))
            case Revocation(everything=True):
                self._execute(self._cache.gateway_revoked(message.source, message.timestamp, time.monotonic()))
                self._channel.send(message.answer(RevocationStatus.SUCCESS, timestamp_of(time.time())))
            case RevocationAcknowledgement():
                if self._revocations.acknowledged(message):
                    LOG.info("revocation-acknowledged", gateway=message.source, status=message.status)
            case _:
                self._counts.drop("unexpected", "%s from %s", type(message).__name__, message.source)

    # --- actions

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Install(binding, previous):
                    if not self._install(binding, previous):
                        return
                case Remove(binding, reason):
                    self._remove(binding, reason)
                case Acknowledge():
                    self._acknowledge(action)
                case Revoke(binding, gateway):
                    node = binding.node
                    self._revocations.withdraw(binding.gateway, node.identifier)
                    self._revocations.revoke(
                        gateway, node.identifier, node.prefixes, Trigger.HANDOVER, time.monotonic()
                    )

    def _install(self, binding: Binding, previous: Binding | None) -> bool:
        def install() -> None:
            for prefix in binding.node.prefixes:
                self._tunnels.tunnel(prefix, binding.gateway)

        if (failure := self.upkeep.apply(install)) is not None:
            LOG.error("binding-failed", mobile_node=binding.node.identifier, reason=failure)
            # Its acknowledgement is not sent, so the gateway repeats the update.
            self._execute(self._cache.install_failed(binding.node.identifier, time.monotonic()))
            return False
        # Not before it is accepted: without keys anybody may send updates, from any number of addresses.
        self._peers.meet(binding.gateway)
        if previous is None or previous.gateway != binding.gateway:
            LOG.info(
                "binding-registered" if previous is None else "binding-moved",
                mobile_node=binding.node.identifier,
                prefixes=" ".join(binding.node.prefixes),
                gateway=binding.gateway,
                lifetime=binding.lifetime,
            )
        return True

    def _remove(self, binding: Binding, reason: str) -> None:
        def remove() -> None:
            for prefix in binding.node.prefixes:
                self._tunnels.untunnel(prefix)

        if (failure := self.upkeep.apply(remove)) is not None:
            LOG.error("removal-failed", mobile_node=binding.node.identifier, reason=failure, action="retry")
            return
        self._cache.removed(binding.node.identifier, time.monotonic())
        kept = binding.state is State.DEREGISTERED
        LOG.info("binding-removed", mobile_node=binding.node.identifier, reason=reason, entry_kept=kept)

    def _acknowledge(self, action: Acknowledge) -> None:
        update = action.update
        sent = self._channel.send(
            ProxyBindingAcknowledgement(
                source=self._address,
                destination=update.source,
                sequence=update.sequence,
                status=action.status,
                lifetime=action.lifetime,
                identifier=update.identifier,
                prefixes=action.prefixes,
                handoff=update.handoff,
                access_technology=update.access_technology,
                link_layer=update.link_layer,
                link_local=action.link_local,
                timestamp=action.timestamp,
                group=update.group,
            )
        )
        if sent:
            status, lifetime = int(action.status), action.lifetime
            self._counts.acknowledgements[status] += 1
            of = {"mobile_node": update.identifier} if update.identifier else {"group": update.group}
            LOG.info("binding-ack-sent", **of, gateway=update.source, status=status, lifetime=lifetime)

    # --- what others see

    def _render(self, _verbose: bool, fancy: bool) -> Iterator[str]:
        now, bindings = time.monotonic(), [b for b in self._cache if b.state is not State.DYING]
        return (
            render(
                binding.node.address(prefix),
                binding.state is State.REGISTERED,
                ACCESS_GATEWAY,
                binding.gateway,
                self._address,
                binding.due - now,
                binding.lifetime,
                binding.registrations,
                fancy,
            )
            for binding in bindings
            for prefix in binding.node.prefixes
        )
