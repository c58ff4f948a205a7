# SPDX-License-Identifier: Apache-2.0
"""Run the access gateway: one loop over its sockets that feeds the attachments and carries out what they decide."""

import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv6Address

from hoaflow.logs import Log
from hoaflow.metrics.server import MetricsServer, registry_of_process
from hoaflow.mobile_access_gateway.access_links import (
    AccessLink,
    Bound,
    Heard,
    HoldReceiver,
    Lost,
    Neighbourhood,
)
from hoaflow.mobile_access_gateway.advertisement import advertisement
from hoaflow.mobile_access_gateway.attachments import (
    Action,
    Advertise,
    Attachment,
    Attachments,
    Forget,
    Forward,
    Hold,
    Refused,
    Register,
    Serve,
    State,
)
from hoaflow.mobile_access_gateway.data_plane import HELD, DataPlane, first_octets
from hoaflow.mobile_access_gateway.held_packets import DESTINATION, HeldPackets
from hoaflow.mobile_access_gateway.metrics import GatewayCollector
from hoaflow.mobile_access_gateway.settings import Settings
from hoaflow.mobility.hairpin import ENTRY
from hoaflow.mobility.loop import Loop
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.namespace_lock import lock_namespace
from hoaflow.mobility.objects import MainRule, RestoredSetting
from hoaflow.mobility.terminal_server import TerminalServer, silence
from hoaflow.mobility.tunnels import KERNEL_ERRORS
from hoaflow.mobility.upkeep import Upkeep
from hoaflow.pmipv6.channel import Channel
from hoaflow.pmipv6.messages import (
    ANY_PREFIX,
    TIMESTAMP_UNITS,
    Heartbeat,
    Message,
    ProxyBindingAcknowledgement,
    ProxyBindingUpdate,
    Revocation,
    RevocationAcknowledgement,
    RevocationStatus,
    Status,
    timestamp_of,
)
from hoaflow.pmipv6.objects import OwnAddress
from hoaflow.pmipv6.peers import Peers
from hoaflow.pmipv6.terminal import ANCHOR, render
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared, set_up
from hoaflow.tunnel.spoofing_filter import IPV6_MARK

MULTICAST = 0xFF
"""First octet of a multicast address."""
REDELIVERY_SECONDS = 0.05
"""After so long, packets that were held while their mobile node is served are delivered."""

LOG = Log("mag")


class MobileAccessGateway:
    """An access gateway in the current network namespace.

    Call `setup`, then `run`. `close` undoes `setup`, even an incomplete one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        nodes = settings.common.mobile_nodes
        self._by_mac = {node.link_layer: node for node in nodes.values()}
        self._by_prefix = {first_octets(prefix): node for node in nodes.values() for prefix in node.prefixes}
        self._attachments = Attachments(settings.lifetime, settings.hold)
        self._held = HeldPackets(settings.held_packets)
        self._redelivery: float | None = None
        self._loop = Loop()
        self._undo = ExitStack()
        self._counts = MessageCounts()
        self._access: dict[str, AccessLink] = {}
        self._hold: HoldReceiver | None = None
        self._terminal: TerminalServer | None = None

    def setup(self) -> None:
        """Prepare the kernel and the sockets, and greet the anchor. Raises one of KERNEL_ERRORS."""
        settings, common = self._settings, self._settings.common
        listen = partial(self._loop.selector.register, events=selectors.EVENT_READ)
        self._undo.callback(lock_namespace().close)
        self._plane = DataPlane(settings.address, settings.anchor, settings.access_links, settings.link_local)
        self._undo.callback(self._plane.close)
        wanted = self._declaration()
        self._upkeep = Upkeep(wanted, lambda: self._plane.ports, self._readiness_changed)
        self._undo.callback(self._upkeep.close)
        self._undo.callback(self._close_links)
        for declared in wanted:
            self._undo.callback(declared.remove)
        set_up(wanted, lambda done: LOG.info("set-up", done=done))
        # Never bound, so the kernel's rules alone route what is sent, whatever its source.
        self._elsewhere = self._opened_raw(0)
        self._to_links = self._opened_raw(IPV6_MARK)
        self._channel = Channel(settings.address, common.keys, common.window, self._counts)
        self._undo.callback(self._channel.close)
        listen(self._channel, data=lambda _: self._receive())
        self._neighbourhood = Neighbourhood(settings.access_links)
        self._undo.callback(self._neighbourhood.close)
        listen(self._neighbourhood, data=lambda _: self._hear_neighbours())
        for changes in self._upkeep.changes.sockets:
            listen(changes, data=lambda _: self._upkeep.read_changes())
        lacking: Callable[[], str | None] = lambda: self._upkeep.broken  # noqa: E731
        if common.console is not None:
            listings = {"bc": lambda _verbose, _fancy: iter(()), "pmip": self._render}
            self._terminal = TerminalServer(*common.console, self._loop.selector, listings)
            self._undo.callback(self._terminal.close)
            LOG.info("console-listening", console="{}:{}".format(*self._terminal.address))
            console = self._terminal.address
            lacking = lambda: self._upkeep.broken or silence(console)  # noqa: E731
        self._peers = Peers(self._channel, settings.address, common.heartbeat, [settings.anchor])
        if common.metrics is not None:
            registry = registry_of_process()
            registry.register(GatewayCollector(self._counts, self._attached, self._held, self._plane.counters))
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
        """Remove everything of ours from the kernel. Bindings end with their lifetimes."""
        self._undo.close()
        self._loop.close()

    def _turn(self, now: float) -> float:
        self._execute(self._attachments.tick(now))
        self._peers.tick(now)
        if self._redelivery is not None and now >= self._redelivery:
            self._redeliver()
        if now >= self._upkeep.due:
            self._upkeep.run_slice()
        due = (self._upkeep.due, *self._peers.next_due(), self._attachments.next_due(), self._redelivery)
        return min(each for each in due if each is not None)

    def _declaration(self) -> list[Declared]:
        settings = self._settings
        return [
            RestoredSetting("all.forwarding", "1"),
            MainRule(),
            OwnAddress(settings.address),
            *self._plane.declaration(),
            Bound(HELD, self._bind_hold),
            *(Bound(link, partial(self._bind_access, link)) for link in settings.access_links),
        ]

    def _bind_hold(self) -> None:
        if self._hold is not None:
            self._loop.selector.unregister(self._hold.receiver)
            self._hold.close()
        hold = self._hold = HoldReceiver(HELD)
        self._loop.selector.register(hold.receiver, selectors.EVENT_READ, lambda _: self._hold_packets())

    def _bind_access(self, interface: str) -> None:
        if (former := self._access.pop(interface, None)) is not None:
            self._loop.selector.unregister(former.receiver)
            former.close()
        link = self._access[interface] = AccessLink(interface)
        self._loop.selector.register(link.receiver, selectors.EVENT_READ, lambda _: self._hear(link))

    def _close_links(self) -> None:
        for link in self._access.values():
            link.close()
        if self._hold is not None:
            self._hold.close()

    def _opened_raw(self, mark: int) -> socket.socket:
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
        self._undo.callback(raw.close)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        return raw

    # --- input

    def _hear(self, link: AccessLink) -> None:
        for heard in link.solicitations():
            self._attach(heard, solicited=True)

    def _hear_neighbours(self) -> None:
        for report in self._neighbourhood.reports():
            match report:
                case Heard():
                    self._attach(report, solicited=False)
                case Lost(link, address):
                    gone = [a for a in self._attachments if (a.interface, a.link_local) == (link, address)]
                    self._detach(gone, "neighbour unreachable")
        down = self._neighbourhood.down()
        self._detach([a for a in self._attachments if a.interface in down], "link down")

    def _attach(self, heard: Heard, solicited: bool) -> None:
        node = self._by_mac.get(heard.mac)
        if node is None:
            self._counts.drop("unknown_mobile_node", "%s on %s", heard.mac.hex(":"), heard.link)
            return
        known = self._attachments.get(node.identifier)
        if known is None or known.interface != heard.link:
            LOG.info("attached", mobile_node=node.identifier, link=heard.link)
        now = time.monotonic()
        self._execute(self._attachments.attached(node, heard.link, heard.link_local, now, solicited))

    def _detach(self, gone: Iterable[Attachment], reason: str) -> None:
        for attachment in list(gone):
            actions = self._attachments.detached(attachment.node.identifier, time.monotonic())
            if actions:
                LOG.info("detached", mobile_node=attachment.node.identifier, reason=reason)
            self._execute(actions)

    def _receive(self) -> None:
        for message in self._channel.messages():
            if message.source != self._settings.anchor:
                self._counts.drop("unexpected", "%s from %s", type(message).__name__, message.source)
                continue
            self._handle(message)

    def _handle(self, message: Message) -> None:
        now = time.monotonic()
        match message:
            case ProxyBindingAcknowledgement():
                self._counts.acknowledgements[message.status] += 1
                self._execute(self._attachments.acknowledged(message, now))
            case Heartbeat():
                if self._peers.take(message):
                    self._execute(self._attachments.anchor_restarted(now))
            case Revocation():
                actions = self._attachments.revoked(message.identifier, now)
                self._execute(actions)
                status = RevocationStatus.SUCCESS if actions else RevocationStatus.NO_BINDING
                self._channel.send(
                    RevocationAcknowledgement(
                        source=self._settings.address,
                        destination=message.source,
                        sequence=message.sequence,
                        status=status,
                        identifier=message.identifier,
                        timestamp=timestamp_of(time.time()),
                    )
                )
            case _:
                self._counts.drop("unexpected", "%s from %s", type(message).__name__, message.source)

    def _hold_packets(self) -> None:
        assert self._hold is not None
        for packet in self._hold.receiver.packets():
            node = self._by_prefix.get(packet[DESTINATION])
            known = None if node is None else self._attachments.get(node.identifier)
            if known is None or known.state is State.LEAVING:
                if packet[24] != MULTICAST:  # the kernel's own, on every link
                    self._counts.drop("not_attached", "to %s", IPv6Address(packet[24:40]))
            elif known.state is State.FORWARDING:
                self._send([packet], self._elsewhere)
            else:
                self._held.hold(packet)
                if known.state is State.SERVED and self._redelivery is None:
                    # It came in just before the route to the link was there, or just after the link went down.
                    self._redelivery = time.monotonic() + REDELIVERY_SECONDS

    # --- actions

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Register(attachment, lifetime, handoff):
                    self._register(attachment, lifetime, int(handoff))
                case Serve(attachment):
                    self._serve(attachment)
                case Advertise(attachment):
                    self._advertise(attachment)
                case Hold(attachment):
                    self._stop_serving(attachment)
                case Forward(attachment):
                    self._stop_serving(attachment)
                    sent = self._flush(attachment, self._elsewhere)
                    LOG.info("revoked", mobile_node=attachment.node.identifier, forwarded_packets=sent)
                case Forget(attachment, reason):
                    dropped = sum(len(self._held.take(first_octets(each))) for each in attachment.node.prefixes)
                    identifier = attachment.node.identifier
                    LOG.info("forgotten", mobile_node=identifier, reason=reason, dropped_packets=dropped)
                case Refused(attachment, acknowledgement):
                    self._report_refusal(attachment, acknowledgement)

    def _register(self, attachment: Attachment, lifetime: int, handoff: int) -> None:
        self._counts.binding_updates += 1
        node, stamp = attachment.node, timestamp_of(time.time())
        self._attachments.sent(node.identifier, stamp)
        self._channel.send(
            ProxyBindingUpdate(
                source=self._settings.address,
                destination=self._settings.anchor,
                sequence=attachment.sequence,
                lifetime=lifetime,
                identifier=node.identifier,
                prefixes=(ANY_PREFIX,) if not attachment.lifetime else node.prefixes,
                handoff=handoff,
                access_technology=self._settings.access_technology,
                link_layer=node.link_layer,
                timestamp=stamp,
            )
        )

    def _serve(self, attachment: Attachment) -> None:
        node = attachment.node

        def serve() -> None:
            for prefix in node.prefixes:
                self._plane.serve(prefix, attachment.interface, node.link_layer)

        self._in_kernel(serve)
        self._advertise(attachment)
        if self._hold is not None:
            self._hold_packets()
        delivered = self._flush(attachment, self._to_links)
        LOG.info(
            "served",
            mobile_node=node.identifier,
            link=attachment.interface,
            lifetime=attachment.lifetime,
            delivered_packets=delivered,
        )

    def _stop_serving(self, attachment: Attachment) -> None:
        def stop() -> None:
            for prefix in attachment.node.prefixes:
                self._plane.hold(prefix)

        self._in_kernel(stop)

    def _advertise(self, attachment: Attachment) -> None:
        link = self._access.get(attachment.interface)
        try:
            if link is not None:
                mtu = self._tunnel_mtu()
                source, prefixes = self._settings.link_local, attachment.node.prefixes
                own = link.sender.link_layer_address
                packet = advertisement(source, attachment.link_local, own, prefixes, attachment.lifetime, mtu)
                link.sender.unicast(packet, attachment.node.link_layer)
        except OSError as error:  # the link goes down this moment: its event is on the way
            LOG.warning("not-advertised", mobile_node=attachment.node.identifier, reason=error)

    def _report_refusal(self, attachment: Attachment, answer: ProxyBindingAcknowledgement) -> None:
        identifier = attachment.node.identifier
        if answer.status == Status.TIMESTAMP_MISMATCH and answer.timestamp is not None:
            behind = round(answer.timestamp / TIMESTAMP_UNITS - time.time(), 3)
            advice = "synchronise the clocks of gateway and anchor (NTP), or widen --timestamp-window"
            LOG.error("clocks-differ", mobile_node=identifier, seconds=behind, advice=advice)
        elif answer.accepted and answer.lifetime:
            LOG.error(
                "other-prefixes", mobile_node=identifier, advice="give anchor and gateway the same --mobile-nodes"
            )
        else:
            LOG.error("refused", mobile_node=identifier, status=answer.status, lifetime=answer.lifetime)

    def _in_kernel(self, change: Callable[[], None]) -> None:
        """Apply one change to the kernel; if it refuses, mend the declaration, which includes the change."""
        try:
            with self._upkeep.own_changes():
                change()
        except KERNEL_ERRORS as error:
            LOG.debug("change-refused", reason=error, action="mend")
            self._upkeep.compare_now()

    # --- held packets

    def _flush(self, attachment: Attachment, way: socket.socket) -> int:
        """Send what is held for a mobile node, and return how many packets that were."""
        packets = [packet for each in attachment.node.prefixes for packet in self._held.take(first_octets(each))]
        self._send(packets, way)
        return len(packets)

    def _send(self, packets: Iterable[bytes], way: socket.socket) -> None:
        for packet in packets:
            try:
                way.sendto(packet, (str(IPv6Address(packet[24:40])), 0))
            except OSError as error:  # no route, or a full queue: as on any router
                self._counts.drop("held_packet_not_sent", "%s", error)

    def _redeliver(self) -> None:
        self._redelivery = None
        for attachment in self._attachments:
            if attachment.state is State.SERVED:
                self._flush(attachment, self._to_links)

    # --- what others see

    def _attached(self) -> int:
        return sum(each.state is State.SERVED for each in list(self._attachments))

    @staticmethod
    def _tunnel_mtu() -> int:
        with ActualState() as actual:
            return actual.link(None, ENTRY).mtu

    def _readiness_changed(self) -> None:
        """Refuse clients of the console while the kernel does not do what the attachments say."""
        if self._terminal is None:
            return
        if self._upkeep.broken is None:
            self._terminal.resume()
        else:
            self._terminal.suspend()

    def _render(self, _verbose: bool, fancy: bool) -> Iterator[str]:
        now = time.monotonic()
        return (
            render(
                attachment.node.address(prefix),
                attachment.state is State.SERVED,
                ANCHOR,
                self._settings.anchor,
                self._settings.address,
                attachment.expires - now,
                attachment.lifetime,
                attachment.sequence,
                fancy,
            )
            for attachment in list(self._attachments)
            for prefix in attachment.node.prefixes
        )
