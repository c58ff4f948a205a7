# SPDX-License-Identifier: Apache-2.0
"""Emulate a mobile node of Mobile IPv4: `python -m topologies.ipv4_mobile_node`.

Its care-of addresses are co-located, or those of foreign agents, which it discovers.

Move it as one moves a real node: by setting its interfaces up and down. It prints each event as a JSON object.
"""

import argparse
import selectors
import socket
import sys
import time
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from hoaflow.arguments import argument, whole_seconds
from hoaflow.deadlines import earliest
from hoaflow.mobile_ipv4 import wire
from hoaflow.mobile_ipv4.authentication import SecurityAssociation, load_keys
from hoaflow.mobile_ipv4.messages import FOREVER, REGISTRATION_PORT, RegistrationRequest
from hoaflow.mobility.authentication import KeyFileError
from topologies.agent_discovery import SOLICIT_SECONDS, AgentDiscovery, ForeignAgent
from topologies.foreign_link import ForeignLink
from topologies.ipv4_home import announce
from topologies.ipv4_mobile_kernel import Ipv4MobileKernel
from topologies.ipv4_registration import Outcome, Registration
from topologies.link_follower import LinkFollower, report

LARGEST = 65535
DIRECT_TTL = 255
"""Foreign agents see by it that a request comes from their link (RFC 3024, section 4.1)."""


class Ipv4MobileNode(LinkFollower):
    """Register at the home agent from whichever link is up; `close` undoes `setup`, even a failed one."""

    def __init__(self, arguments: argparse.Namespace, association: SecurityAssociation) -> None:
        home: IPv4Interface = arguments.home_address
        self._home_address, self._home_agent = str(home.ip), str(arguments.home_agent)
        self._foreign_links: list[ForeignLink] = arguments.foreign_link
        self._kernel = Ipv4MobileKernel(self._home_address, str(home.network), self._home_agent, arguments.home_link)
        self._home_link: str | None = arguments.home_link
        self._agent_links: list[str] = arguments.agent_link
        self._links_away = [*(link.interface for link in self._foreign_links), *self._agent_links]
        super().__init__(self._home_link, self._links_away, self._kernel)
        self._registration = Registration(
            self._home_address, self._home_agent, arguments.lifetime, not arguments.no_reverse_tunnel, association
        )
        self._signalling: socket.socket | None = None
        self._registrar = self._home_agent
        """Where requests go: the home agent, or a foreign agent."""
        self._discovery: AgentDiscovery | None = None
        self._agent: ForeignAgent | None = None
        self._solicit_due: float | None = None
        self._tunnel: socket.socket | None = None

    def setup(self) -> None:
        """Configure the kernel and open the sockets. Raises one of KERNEL_ERRORS."""
        self._undo.callback(self._kernel.teardown)
        self._kernel.setup(self._links_away)
        self._selector.register(self._kernel.tunnel, selectors.EVENT_READ, self._kernel.encapsulate)
        self.listen()
        report("started", home_address=self._home_address, home_agent=self._home_agent, tunnel="tun")

    def _tick(self) -> None:
        if self._solicit_due is not None and self._solicit_due <= time.monotonic():
            self._solicit()
        request = self._registration.tick(time.monotonic(), time.time())
        if request is not None:
            self._send(request)

    def _next_due(self) -> float | None:
        return earliest(self._registration.next_due(), self._solicit_due)

    def _send(self, request: RegistrationRequest) -> None:
        assert self._signalling is not None
        try:
            self._signalling.sendto(self._registration.signed(request), (self._registrar, REGISTRATION_PORT))
        except OSError as error:  # the link goes down this moment: its event is on the way
            report("request-not-sent", reason=str(error))
            return
        report("request-sent", care_of_address=request.care_of_address, lifetime=request.lifetime)

    def _receive(self) -> None:
        if self._signalling is None:  # it has left the link since this turn began
            return
        try:
            reply = wire.parse_reply(self._signalling.recv(LARGEST))
        except wire.MalformedRegistrationError as error:
            report("malformed-packet", reason=str(error))
            return
        except OSError as error:
            report("receive-failed", reason=str(error))
            return
        outcome = self._registration.replied(reply, time.monotonic())
        if outcome is Outcome.DEREGISTERED:
            self._advertise()
        report(
            "reply-ignored" if outcome is Outcome.IGNORED else outcome.value, code=reply.code, lifetime=reply.lifetime
        )

    def _advertise(self) -> None:
        """Tell the home link that the home address is here."""
        assert self._home_link is not None
        announce(self._home_link, self._home_address)

    def _move(self, target: str | None) -> None:
        now = time.monotonic()
        self._detach()
        if target is None:
            self._kernel.leave()
            self._registration.detach()
            report("no-link")
        elif target == self._home_link:
            self._kernel.come_home()
            self._advertise()  # before it deregisters, as the reply comes here
            self._attach(self._home_address, now)
            report("moved", link=target, care_of_address=self._home_address)
        elif target in self._agent_links:
            self._kernel.leave()
            self._registration.detach()
            self._discovery = AgentDiscovery(target)
            self._selector.register(self._discovery, selectors.EVENT_READ, self._hear_agents)
            self._solicit_due = now
            report("moved", link=target)
        else:
            link = next(link for link in self._foreign_links if link.interface == target)
            self._tunnel = self._kernel.visit(link)
            self._selector.register(self._tunnel, selectors.EVENT_READ, self._kernel.decapsulate)
            self._attach(link.care_of_address, now)
            report("moved", link=target, care_of_address=link.care_of_address)
        self._where = target

    def _detach(self) -> None:
        """Close the sockets of the present link."""
        for former in (self._signalling, self._tunnel, self._discovery):
            if former is not None:
                self._selector.unregister(former)
        for closed in (self._signalling, self._discovery):
            if closed is not None:
                closed.close()
        self._signalling = self._tunnel = self._discovery = self._agent = self._solicit_due = None

    def _attach(self, address: str, now: float) -> None:
        self._open_signalling(address, self._home_agent)
        self._registration.attach(address, now)

    def _open_signalling(self, address: str, registrar: str) -> None:
        if self._signalling is not None:
            self._selector.unregister(self._signalling)
            self._signalling.close()
        self._registrar = registrar
        self._signalling = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._signalling.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, DIRECT_TTL)
        self._signalling.bind((address, REGISTRATION_PORT))
        self._selector.register(self._signalling, selectors.EVENT_READ, self._receive)

    def _solicit(self) -> None:
        assert self._discovery is not None
        self._solicit_due = time.monotonic() + SOLICIT_SECONDS
        try:
            self._discovery.solicit(self._home_address)
        except OSError as error:  # the link goes down this moment: its event is on the way
            report("solicitation-not-sent", reason=str(error))

    def _hear_agents(self) -> None:
        if self._discovery is None:  # it has left the link since this turn began
            return
        for agent in self._discovery.heard():
            if agent.is_other_than(self._agent):
                self._visit(agent, self._discovery.interface)
            if self._agent is not None and agent.advertisement.source == self._agent.advertisement.source:
                self._agent = agent

    def _visit(self, agent: ForeignAgent, interface: str) -> None:
        address, longest = agent.advertisement.source, agent.advertisement.registration_lifetime
        try:
            self._kernel.visit_agent(interface, address, agent.mac)
            self._open_signalling(self._home_address, address)
        except OSError as error:  # the link goes down this moment: its event is on the way
            report("visit-failed", reason=str(error))
            return
        self._agent, self._solicit_due = agent, None
        self._registration.attach(agent.care_of_address, time.monotonic(), by_agent=True, longest=longest)
        report("agent-found", agent=address, care_of_address=agent.care_of_address)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser, with every address checked when it is parsed."""
    options = argparse.ArgumentParser(prog="python -m topologies.ipv4_mobile_node", description=__doc__)
    options.add_argument(
        "--home-address", required=True, metavar="HOA/LENGTH", type=argument(IPv4Interface), help="the home address"
    )
    options.add_argument(
        "--home-agent", required=True, metavar="ADDRESS", type=argument(IPv4Address), help="the home agent's address"
    )
    options.add_argument("--home-link", metavar="IFACE", help="interface on the home link; without, it is never home")
    options.add_argument(
        "--foreign-link",
        action="append",
        default=[],
        metavar="IFACE=COA/LENGTH,GATEWAY",
        type=argument(_foreign_link),
        help="interface, care-of address and default router of a foreign link; repeatable",
    )
    options.add_argument(
        "--agent-link",
        action="append",
        default=[],
        metavar="IFACE",
        help="interface of a link with a foreign agent; repeatable",
    )
    options.add_argument("--keys", type=Path, required=True, metavar="FILE", help="TOML file with its key")
    options.add_argument(
        "--lifetime",
        type=whole_seconds(1, FOREVER),
        default=60,
        metavar="SECONDS",
        help="lifetime to ask for, 65535 for ever (default: 60)",
    )
    options.add_argument("--no-reverse-tunnel", action="store_true", help="leave out flag T (RFC 3024)")
    return options


def _foreign_link(text: str) -> ForeignLink:
    try:
        interface, addresses = text.split("=")
        care_of, gateway = addresses.split(",")
        address = IPv4Interface(care_of)
        return ForeignLink(interface, str(address.ip), address.network.prefixlen, str(IPv4Address(gateway)))
    except ValueError as error:
        raise ValueError(f"expected IFACE=COA/LENGTH,GATEWAY, got {text!r} ({error})") from error


def main(argv: list[str] | None = None) -> int:
    """Run the mobile node until a signal; return 0, 1 if it could not start, 2 for wrong settings."""
    arguments = parser().parse_args(argv)
    home_address = str(arguments.home_address.ip)
    try:
        keys = load_keys(arguments.keys)
        if home_address not in keys:
            raise KeyFileError(f"{arguments.keys}: no key for {home_address}")
    except KeyFileError as error:
        print(f"mobile node: {error}", file=sys.stderr)
        return 2
    node = Ipv4MobileNode(arguments, keys[home_address])
    return node.serve()


if __name__ == "__main__":
    sys.exit(main())
