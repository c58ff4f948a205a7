# SPDX-License-Identifier: Apache-2.0
"""Run the anchor: one loop over its sockets that feeds the binding cache and carries out what it decides."""

import selectors
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from hoaflow.addresses import parse_prefix
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
from hoaflow.metrics.server import MetricsServer, registry_of_process
from hoaflow.mobility.loop import Loop
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.namespace_lock import lock_namespace
from hoaflow.mobility.terminal_server import TerminalServer, silence
from hoaflow.mobility.tunnels import KERNEL_ERRORS, Tunnels
from hoaflow.mobility.upkeep import Upkeep
from hoaflow.pmipv6.channel import Channel
from hoaflow.pmipv6.messages import (
    Heartbeat,
    Message,
    ProxyBindingAcknowledgement,
    ProxyBindingUpdate,
    RevocationAcknowledgement,
    Trigger,
)
from hoaflow.pmipv6.mobile_nodes import LONGEST_PREFIX
from hoaflow.pmipv6.peers import Peers
from hoaflow.pmipv6.terminal import ACCESS_GATEWAY, render
from hoaflow.tunnel.declaration import set_up
from hoaflow.tunnel.error_relay import ErrorRelay

LOG = Log("lma")


class LocalMobilityAnchor:
    """An anchor in the current network namespace.

    Call `setup`, then `run`. `close` undoes `setup`, even an incomplete one. Nothing is kept on a disk: after a
    restart, access gateways see another restart counter, and register their mobile nodes anew at once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._address = settings, settings.policy.anchor
        self._cache = BindingCache(settings.policy)
        self._revocations = Revocations(self._address)
        self._loop = Loop()
        self._undo = ExitStack()
        self._counts = MessageCounts()
        self._terminal: TerminalServer | None = None

    def setup(self) -> None:
        """Prepare the kernel and the sockets, and greet access gateways. Raises one of KERNEL_ERRORS."""
        common, listen = self._settings.common, partial(self._loop.selector.register, events=selectors.EVENT_READ)
        self._undo.callback(lock_namespace().close)
        self._tunnels = Tunnels(self._address, PREFIX_TABLE)
        self._undo.callback(self._tunnels.close)
        wanted = declaration(self._address, self._settings.home_prefixes, self._tunnels)
        self._upkeep = Upkeep(wanted, lambda: self._tunnels.ports, self._readiness_changed)
        self._undo.callback(self._upkeep.close)
        for declared in wanted:
            self._undo.callback(declared.remove)
        set_up(wanted, lambda done: LOG.info("set-up", done=done))
        self._channel = Channel(self._address, common.keys, common.window, self._counts)
        self._undo.callback(self._channel.close)
        listen(self._channel, data=lambda _: self._receive())
        for changes in self._upkeep.changes.sockets:
            listen(changes, data=lambda _: self._upkeep.read_changes())
        if not self._tunnels.relays_errors:
            relay = ErrorRelay(self._address, self._carries)
            self._undo.callback(relay.close)
            listen(relay, data=lambda _: self._relay(relay))
        lacking: Callable[[], str | None] = lambda: self._upkeep.broken  # noqa: E731
        if common.console is not None:
            # The command for Mobile IPv6's bindings is there, as in OAI's, and has none to show.
            listings = {"bc": lambda _verbose, _fancy: iter(()), "pmip": self._render}
            self._terminal = TerminalServer(*common.console, self._loop.selector, listings)
            self._undo.callback(self._terminal.close)
            LOG.info("console-listening", console="{}:{}".format(*self._terminal.address))
            console = self._terminal.address
            lacking = lambda: self._upkeep.broken or silence(console)  # noqa: E731
        self._peers = Peers(self._channel, self._address, common.heartbeat, common.keys or ())
        if common.metrics is not None:
            registry = registry_of_process()
            collector = AnchorCollector(
                self._counts, lambda: len(self._cache), lambda: len(self._peers.unreachable()), self._tunnels.counters
            )
            registry.register(collector)
            server = MetricsServer(common.metrics, registry, lacking, self._loop.stuck)
            self._undo.callback(server.close)
            LOG.info("metrics-listening", metrics="{}:{}".format(*server.address))

    def run(self) -> None:
        """Serve until `stop` is called."""
        self._loop.run(self._turn)

    def stop(self) -> None:
        """End `run`. Signal handlers may call this."""
        self._loop.stop()

    def close(self) -> None:
        """Remove everything of ours from the kernel."""
        self._undo.close()
        self._loop.close()

    def _turn(self, now: float) -> float:
        self._execute(self._cache.tick(now))
        self._peers.tick(now)
        for revocation in self._revocations.tick(now, time.time()):
            self._channel.send(revocation)
        if now >= self._upkeep.due:
            self._upkeep.run_slice()
        due = [self._upkeep.due, *self._peers.next_due(), *self._revocations.next_due()]
        return min(due if (next_ := self._cache.next_due()) is None else [*due, next_])

    # --- input

    def _receive(self) -> None:
        for message in self._channel.messages():
            self._handle(message)

    def _handle(self, message: Message) -> None:
        match message:
            case ProxyBindingUpdate():
                self._counts.binding_updates += 1
                self._peers.meet(message.source)
                self._execute(self._cache.update(message, time.monotonic(), time.time()))
            case Heartbeat():
                if self._peers.take(message):
                    seen = self._peers.seen(message.source)
                    self._execute(self._cache.gateway_restarted(message.source, seen, time.monotonic()))
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

        if (failure := self._in_kernel(install)) is not None:
            LOG.error("binding-failed", mobile_node=binding.node.identifier, reason=failure)
            # Its acknowledgement is not sent, so the gateway repeats the update.
            self._execute(self._cache.install_failed(binding.node.identifier, time.monotonic()))
            return False
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

        if (failure := self._in_kernel(remove)) is not None:
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
            )
        )
        if sent:
            self._counts.acknowledgements[int(action.status)] += 1
            LOG.info(
                "binding-ack-sent",
                mobile_node=update.identifier,
                gateway=update.source,
                status=int(action.status),
                lifetime=action.lifetime,
            )

    def _in_kernel(self, change: Callable[[], None]) -> str | None:
        """Apply one change to the kernel; return None, or why it failed, even after mending the whole declaration."""
        try:
            with self._upkeep.own_changes():
                change()
        except KERNEL_ERRORS as error:
            LOG.debug("change-refused", reason=error, action="mend")
            if not self._upkeep.compare_now():
                return self._upkeep.broken
        return None

    # --- what others see

    def _readiness_changed(self) -> None:
        """Refuse clients of the console while the kernel does not do what the cache says, as `hoaflow-ha` does."""
        if self._terminal is None:
            return
        if self._upkeep.broken is None:
            self._terminal.resume()
        else:
            self._terminal.suspend()

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

    def _carries(self, address: str, gateway: str) -> bool:
        return self._tunnels.carries(str(parse_prefix(address).shortened(LONGEST_PREFIX)), gateway)

    def _relay(self, relay: ErrorRelay) -> None:
        """Relay ICMPv6 errors about tunnel packets to correspondent nodes (RFC 2473, section 8)."""
        for error in relay.relay():
            LOG.debug("tunnel-error", kind=error.kind, address=error.inner_destination, room=error.room)
