# SPDX-License-Identifier: Apache-2.0
"""Advertise the home agent on its home link, hear the others there, and answer mobile nodes that look for one.

What is advertised, when, and who is on the Home Agents List is decided by `advertising` and `home_agents_list`; here
are their sockets.
"""

import math
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path

from hoaflow.home_agent.advertising import (
    Advertising,
    Schedule,
    home_agent_advertisement,
    home_prefix_information,
    withdrawal,
)
from hoaflow.home_agent.cache import Binding, Policy, routable_unicast
from hoaflow.home_agent.home_agents_list import HomeAgentEntry, HomeAgentsList, in_order
from hoaflow.home_agent.home_link import HomeLink
from hoaflow.home_agent.replies import Replies
from hoaflow.home_agent.terminal import render_home_agent
from hoaflow.linux import AF_INET6, LOCAL_TABLE, RTN_ANYCAST
from hoaflow.logs import Log
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.home_agent_discovery import (
    DISCOVERY_REQUEST,
    discovery_reply_packet,
    parse_discovery_request,
    parse_prefix_solicitation,
    prefix_advertisement_packet,
)
from hoaflow.mobility.icmpv6_socket import Icmpv6Message, Icmpv6Socket
from hoaflow.mobility.message_counts import MessageCounts
from hoaflow.mobility.neighbours import HOP_LIMIT
from hoaflow.mobility.packet_io import LinkSender
from hoaflow.mobility.router_advertisements import (
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    RouterAdvertisement,
    parse_router_advertisement,
    router_advertisement_packet,
)
from hoaflow.mobility.service import Service
from hoaflow.mobility.tunnels import KERNEL_ERRORS
from hoaflow.mobility.wire import MobilityPacket
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.rate_limit import RateLimit

ANYCAST_ADDRESSES = Path("/proc/net/anycast6")
TYPES = (ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, DISCOVERY_REQUEST)

LOG = Log("home-agent")


class Discovery:
    """The home agent among others of its home link (RFC 6275, sections 7, 10.5 and 10.6; RFC 3963, section 7).

    Call `turn` when it is due. As a declared object: the home agents' anycast address is on the home link, and a socket
    of ours has it. The kernel takes the address away with that socket, also when this process is killed.
    """

    def __init__(
        self,
        advertising: Advertising,
        policy: Policy,
        home_link: HomeLink,
        service: Service,
        replies: Replies,
        counts: MessageCounts,
        bindings: Callable[[], int],
    ) -> None:
        """Send nothing yet. `service` waits for the socket. `bindings` returns how many are held. Raises OSError."""
        self._advertising, self._policy, self._anycast = advertising, policy, advertising.anycast
        self._home_link, self._service = home_link, service
        self._replies, self._counts, self._bindings = replies, counts, bindings
        self._sender = LinkSender(home_link.interface)
        self._socket: Icmpv6Socket | None = None
        self._index = 0  # of the home link, where the socket has joined
        self._list = HomeAgentsList()
        self._withdrawn = False
        self._random = random.SystemRandom()
        self._schedule = Schedule(advertising.interval, self._random, time.monotonic())
        # Strangers who look for a home agent do not keep answers from registered mobile nodes.
        self._replies_allowed = RateLimit(rate=10.0, burst=20)
        self._advertisements_allowed = RateLimit(rate=10.0, burst=20)

    def __str__(self) -> str:
        return f"home agents' anycast address {self._anycast} on {self._home_link.interface}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        index = actual.link(None, self._home_link.interface).number
        rows = (line.split() for line in ANYCAST_ADDRESSES.read_text().splitlines())
        joined = (str(index), self._anycast.packed.hex()) in ((row[0], row[2]) for row in rows)
        local = actual.routes(None, AF_INET6, LOCAL_TABLE, 0)
        routed = (f"{self._anycast}/128", RTN_ANYCAST) in ((route.prefix, route.kind) for route in local)
        if self._socket is not None and joined and routed:
            return None
        return f"anycast address {self._anycast} is missing on {self._home_link.interface}"

    def make(self) -> None:
        """See `Declared`. It takes a new socket, as the kernel does not join again for the former one."""
        self._close_socket()
        try:
            self._index = socket.if_nametoindex(self._home_link.interface)
            self._socket = Icmpv6Socket(TYPES)
            self._service.listen(self._socket, self._hear)
            self._socket.join_anycast(self._anycast, self._index)
        except OSError as error:
            raise LinkError(f"{self}: {error}") from error

    def remove(self) -> None:
        """See `Declared`. The home link is told before that this is no home agent any more."""
        if self._socket is not None:
            self._advertise(withdrawal)
            self._close_socket()

    def close(self) -> None:
        """Close what `remove` leaves open."""
        self._sender.close()

    @property
    def others(self) -> list[str]:
        """The addresses of the other home agents of the home link, the most preferred first."""
        own = self._policy.home_agent
        return [address for address in in_order(list(self._list), self._random) if address != own]

    def withdraw(self, withdrawn: bool) -> None:
        """Say on the home link from now on that this is no home agent any more, or that it is one again."""
        self._withdrawn = withdrawn
        self._advertise(self._advertisement)

    def turn(self, now: float) -> float:
        """Advertise if that is due, forget home agents whose lifetime is over, and return when it is due next."""
        if now >= self._schedule.due:
            self._advertise(self._advertisement)
            self._schedule.sent(now)
        with self._logging_changes():
            self._list.expire(now)
        return min(self._schedule.due, self._list.next_due() or math.inf)

    def advertise_prefixes(self, packet: MobilityPacket, binding: Binding) -> None:
        """Answer a Mobile Prefix Solicitation from the care-of address of this binding. Raises MalformedPacketError."""
        identifier = parse_prefix_solicitation(packet)
        if not self._advertisements_allowed.take(time.monotonic()):
            self._counts.drop("prefix_advertisements_suppressed", "to %s", packet.source)
            return
        source, prefix = self._policy.home_agent, home_prefix_information(self._advertising, self._policy)
        answer = prefix_advertisement_packet(source, packet.source, binding.home_address, identifier, [prefix])
        if self._replies.send(answer):
            LOG.info("prefix-advertisement-sent", home_address=binding.home_address, care_of_address=packet.source)

    def render(self, _verbose: bool, fancy: bool) -> Iterator[str]:
        """Render the Home Agents List for the terminal: in order of preference, with this home agent."""
        now, link = time.monotonic(), self._home_link.interface
        entries = sorted(self._home_agents(now), key=lambda entry: -entry.preference)
        return (
            render_home_agent(link, address, entry.preference, entry.due - now, fancy)
            for entry in entries
            for address in entry.addresses
        )

    # --- input

    def _hear(self) -> None:
        if self._socket is None:
            return
        for message in self._socket.messages():
            try:
                self._take(message)
            except MalformedPacketError as error:
                self._counts.drop("malformed", "%s from %s", error, message.source)

    def _take(self, message: Icmpv6Message) -> None:
        """Take one message. Raises MalformedPacketError."""
        kind = message.data[0]
        if kind == DISCOVERY_REQUEST:
            self._reply(message)
        elif message.hop_limit != HOP_LIMIT or message.interface != self._index:
            self._counts.drop("not_from_home_link", "ICMPv6 type %d from %s", kind, message.source)
        elif kind == ROUTER_SOLICITATION:
            self._schedule.solicited(time.monotonic())
        elif not IPv6Address(message.source).is_link_local:  # RFC 4861, section 6.1.2
            raise MalformedPacketError("a Router Advertisement from no link-local address")
        else:
            self._take_advertisement(parse_router_advertisement(message.source, message.data))

    def _take_advertisement(self, advertisement: RouterAdvertisement) -> None:
        with self._logging_changes():
            room = self._list.heard(advertisement, time.monotonic())
        if not room:
            self._counts.drop("home_agents_list_full", "no room for %s", advertisement.source)

    def _reply(self, request: Icmpv6Message) -> None:
        """Answer a discovery request (RFC 6275, section 10.5). Raises MalformedPacketError.

        A mobile router is told of the home agents that take mobile routers; if none does, of all, without flag R
        (RFC 3963, section 7.2).
        """
        asked = parse_discovery_request(request.data)
        if request.destination != str(self._anycast) or not routable_unicast(IPv6Address(request.source)):
            self._counts.drop("unanswerable", "discovery request from %s to %s", request.source, request.destination)
            return
        if not self._replies_allowed.take(time.monotonic()):
            self._counts.drop("discovery_replies_suppressed", "to %s", request.source)
            return
        home_agents = self._home_agents(time.monotonic())
        for_routers = [entry for entry in home_agents if asked.mobile_router and entry.mobile_routers]
        addresses = in_order(for_routers or home_agents, self._random)
        reply = discovery_reply_packet(
            self._policy.home_agent, request.source, asked.identifier, addresses, mobile_routers=bool(for_routers)
        )
        if self._replies.send(reply):
            LOG.info("discovery-reply-sent", destination=request.source, home_agents=len(addresses))

    # --- output

    def _home_agents(self, now: float) -> list[HomeAgentEntry]:
        """Return all home agents of the home link that take mobile nodes, this one first."""
        if self._withdrawn:
            return [*self._list]
        due = now + self._advertising.lifetime
        own = HomeAgentEntry("", self._preference, due, (self._policy.home_agent,), bool(self._policy.mobile_networks))
        return [own, *self._list]

    def _advertisement(self, source: str) -> RouterAdvertisement:
        if self._withdrawn:
            return withdrawal(source)
        return home_agent_advertisement(self._advertising, self._policy, source, self._preference)

    @property
    def _preference(self) -> int:
        return self._advertising.preference_with(self._bindings(), self._policy.max_bindings)

    def _advertise(self, made: Callable[[str], RouterAdvertisement]) -> None:
        """Send the advertisement that `made` returns for our link-local address."""
        try:
            own = sorted(address for address in self._home_link.own_addresses() if address.startswith("fe80:"))
            if own:  # else upkeep is about to mend it
                self._sender.multicast(router_advertisement_packet(made(own[0]), self._sender.link_layer_address))
        except KERNEL_ERRORS as error:
            LOG.warning("not-advertised", home_link=self._home_link.interface, reason=error, action="retry")

    @contextmanager
    def _logging_changes(self) -> Iterator[None]:
        """Log which home agents appear on the list, and which leave it."""
        before = {entry.link_local: entry for entry in self._list}
        yield
        after = {entry.link_local: entry for entry in self._list}
        for link_local in after.keys() - before.keys():
            entry = after[link_local]
            facts = {"preference": entry.preference, "addresses": ",".join(entry.addresses)}
            LOG.info("home-agent-heard", link_local=link_local, **facts)
        for link_local in before.keys() - after.keys():
            LOG.info("home-agent-gone", link_local=link_local, addresses=",".join(before[link_local].addresses))

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._service.loop.selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
