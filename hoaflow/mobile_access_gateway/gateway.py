# SPDX-License-Identifier: Apache-2.0
"""Run the access gateway: one loop over its sockets that feeds the attachments and carries out what they decide."""

import time
from collections.abc import Iterable, Iterator

from hoaflow.addresses import parse_prefix
from hoaflow.logs import Log
from hoaflow.mobile_access_gateway.access_links import (
    AccessLink,
    Heard,
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
    Refresh,
    Refused,
    Register,
    Serve,
    State,
)
from hoaflow.mobile_access_gateway.data_plane import HELD, DataPlane, first_octets
from hoaflow.mobile_access_gateway.held_packets import HeldPackets
from hoaflow.mobile_access_gateway.metrics import GatewayCollector
from hoaflow.mobile_access_gateway.packet_hold import PacketHold
from hoaflow.mobile_access_gateway.settings import Settings
from hoaflow.mobility.access_links import AccessLinks
from hoaflow.mobility.bound import Bound
from hoaflow.mobility.hairpin import ENTRY
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.objects import MainRule, RestoredSetting
from hoaflow.mobility.service import Service
from hoaflow.pmipv6.channel import Channel
from hoaflow.pmipv6.messages import (
    ANY_PREFIX,
    TIMESTAMP_UNITS,
    Heartbeat,
    Message,
    ProxyBindingAcknowledgement,
    ProxyBindingUpdate,
    Revocation,
    RevocationStatus,
    Status,
    Trigger,
    timestamp_of,
)
from hoaflow.pmipv6.objects import OwnAddress
from hoaflow.pmipv6.peers import Peers
from hoaflow.pmipv6.terminal import ANCHOR, listings, render
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.icmp_errors import TunnelPacketError
from hoaflow.tunnel.spoofing_filter import IPV6_MARK

LOG = Log("mag")


class MobileAccessGateway(Service):
    """An access gateway in the current network namespace.

    When it ends, it tells the anchor that nobody is served here any more.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(LOG)
        self._settings = settings
        nodes = settings.common.mobile_nodes
        self._by_mac = {node.link_layer: node for node in nodes.values()}
        self._by_prefix = {first_octets(prefix): node for node in nodes.values() for prefix in node.prefixes}
        self._attachments = Attachments(settings.lifetime, settings.hold, group=int(time.time()) & 0xFFFFFFFF)
        self._held = HeldPackets(settings.held_packets)
        self._counts = MessageCounts()

    def setup(self) -> None:
        """Prepare the kernel and the sockets, and greet the anchor. Raises one of KERNEL_ERRORS."""
        settings, common = self._settings, self._settings.common
        self.lock()
        self._plane = DataPlane(settings.address, settings.anchor, settings.access_links, settings.link_local)
        self.undo.callback(self._plane.close)
        self._hold = PacketHold(self._held, self._attachment_to, self._counts)
        self.undo.callback(self._hold.close)
        self._access = AccessLinks(self, settings.access_links, AccessLink, self._hear)
        self.declare(self._declaration(), lambda: self._plane.ports)
        self._channel = Channel(settings.address, common.keys, common.window, self._counts)
        self.undo.callback(self._channel.close)
        self.listen(self._channel, self._receive)
        self._neighbourhood = Neighbourhood(settings.access_links)
        self.undo.callback(self._neighbourhood.close)
        self.listen(self._neighbourhood, self._hear_neighbours)
        self._neighbourhood.probe()
        self.relay_errors(settings.address, self._carries_packet_of, IPV6_MARK)
        if common.console is not None:
            self.open_console(common.console, listings(self._render))
        self._peers = Peers(self._channel, settings.address, common.heartbeat, [settings.anchor])
        self.undo.callback(self._revoke_everything)
        if common.metrics is not None:
            collector = GatewayCollector(self._counts, self._attached, self._held, self._plane.counters)
            self.serve_metrics(common.metrics, collector)

    def work(self, now: float) -> Iterable[float | None]:
        """Handle what is due of the attachments, heartbeats and held packets."""
        self._execute(self._attachments.tick(now))
        self._peers.tick(now)
        if self._hold.resending is not None and now >= self._hold.resending:
            self._hold.resend()
        return (*self._peers.next_due(), self._attachments.next_due(), self._hold.resending)

    def _declaration(self) -> list[Declared]:
        return [
            RestoredSetting("all.forwarding", "1"),
            MainRule(),
            OwnAddress(self._settings.address),
            *self._plane.declaration(),
            Bound(HELD, self._bind_hold),
            *self._access.declaration(),
        ]

    def _bind_hold(self) -> None:
        if self._hold.receiver is not None:
            self.loop.selector.unregister(self._hold.receiver)
            self._hold.unbind()
        self.listen(self._hold.bind(), self._hold.take)

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
                if not message.identifier and not message.accepted:
                    LOG.warning("group-refused", status=message.status, action="register one by one")
                self._execute(self._attachments.acknowledged(message, now))
            case Heartbeat():
                if self._peers.take(message):
                    self._execute(self._attachments.anchor_restarted(now))
            case Revocation():
                actions = self._attachments.revoked(message.identifier, now)
                self._execute(actions)
                status = RevocationStatus.SUCCESS if actions else RevocationStatus.NO_BINDING
                if message.everything:
                    status = RevocationStatus.EVERYTHING_NOT_AUTHORIZED
                self._channel.send(message.answer(status, timestamp_of(time.time())))
            case _:
                self._counts.drop("unexpected", "%s from %s", type(message).__name__, message.source)

    def _revoke_everything(self) -> None:
        """End all bindings by one message (RFC 5846, section 9.2). If it is lost, they end with their lifetimes."""
        if self._attachments:
            self._channel.send(
                Revocation(
                    source=self._settings.address,
                    destination=self._settings.anchor,
                    sequence=0,
                    trigger=Trigger.PER_PEER_POLICY,
                    everything=True,
                    timestamp=timestamp_of(time.time()),
                )
            )

    def _attachment_to(self, prefix: bytes) -> Attachment | None:
        node = self._by_prefix.get(prefix)
        return None if node is None else self._attachments.get(node.identifier)

    def _carries_packet_of(self, error: TunnelPacketError) -> bool:
        """Tell whether an ICMPv6 error is about a packet of a mobile node here, in the tunnel to the anchor."""
        attachment = self._attachment_to(parse_prefix(error.inner_source).packed[:8])
        served = attachment is not None and attachment.state is State.SERVED
        return served and error.outer_destination == self._settings.anchor

    # --- actions

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Register(attachment, lifetime, handoff):
                    self._register(attachment, lifetime, int(handoff))
                case Refresh(sequence, lifetime):
                    self._refresh(sequence, lifetime)
                case Serve(attachment):
                    self._serve(attachment)
                case Advertise(attachment):
                    self._advertise(attachment)
                case Hold(attachment):
                    self._stop_serving(attachment)
                case Forward(attachment):
                    self._stop_serving(attachment)
                    sent = self._hold.forward(attachment)
                    LOG.info("revoked", mobile_node=attachment.node.identifier, forwarded_packets=sent)
                case Forget(attachment, reason):
                    dropped, identifier = self._hold.drop(attachment), attachment.node.identifier
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
                group=self._attachments.group,
            )
        )

    def _refresh(self, sequence: int, lifetime: int) -> None:
        self._counts.binding_updates += 1
        stamp = timestamp_of(time.time())
        self._attachments.refresh_sent(stamp)
        ends = (self._settings.address, self._settings.anchor)
        self._channel.send(
            ProxyBindingUpdate(*ends, sequence, lifetime, timestamp=stamp, group=self._attachments.group)
        )

    def _serve(self, attachment: Attachment) -> None:
        node = attachment.node

        def serve() -> None:
            for prefix in node.prefixes:
                self._plane.serve(prefix, attachment.interface, node.link_layer)

        self.upkeep.apply(serve)
        self._advertise(attachment)
        delivered = self._hold.deliver(attachment)
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

        self.upkeep.apply(stop)

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

    # --- what others see

    def _attached(self) -> int:
        return sum(each.state is State.SERVED for each in list(self._attachments))

    @staticmethod
    def _tunnel_mtu() -> int:
        with ActualState() as actual:
            return actual.link(None, ENTRY).mtu

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
