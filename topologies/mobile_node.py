# SPDX-License-Identifier: Apache-2.0
"""Emulate a mobile node or mobile router in a network namespace of its own: `python -m topologies.mobile_node`.

Move it as one moves a real node: by setting its interfaces up and down. It prefers the home link, then its present link
if that is up, then the first foreign link that is. It prints each event as a JSON object.
"""

import argparse
import random
import selectors
import sys
import time
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

from hoaflow.arguments import argument, ipv6_address, ipv6_prefix, whole_seconds
from hoaflow.deadlines import earliest
from hoaflow.mobility.authentication import KeyFileError, SecurityAssociation, load_keys
from hoaflow.mobility.home_agent_switch import HomeAgentSwitch
from hoaflow.mobility.messages import LIFETIME_UNIT, MAX_LIFETIME, BindingAcknowledgement
from hoaflow.mobility.packet_io import PacketReceiver
from topologies.foreign_link import ForeignLink
from topologies.ipv4_home import Ipv4Home
from topologies.link_follower import LinkFollower, report
from topologies.mobile_kernel import MobileKernel
from topologies.registration import Outcome, Registration
from topologies.signalling import (
    advertise,
    messages,
    report_outcome,
    report_switch,
    send_binding_update,
    signalling_for,
)


class MobileNode(LinkFollower):
    """Register at the home agent from whichever link is up; `close` undoes `setup`, even a failed one."""

    def __init__(
        self,
        home_address: IPv6Interface,
        home_agent: str,
        home_link: str,
        foreign_links: list[ForeignLink],
        lifetime: int,
        association: SecurityAssociation | None,
        networks: Sequence[str] = (),
        implicit: bool = False,
        ipv4: Ipv4Home | None = None,
    ) -> None:
        """Be a mobile router if there are mobile `networks` (prefixes); `implicit`: name none to the home agent.

        Be a dual-stack node with an `ipv4` home address (RFC 5555).
        """
        self._home_address, self._home_agent = str(home_address.ip), home_agent
        self._present: str | None = None  # the address on the current link
        self._home_link, self._foreign_links, self._association = home_link, foreign_links, association
        length = home_address.network.prefixlen
        self._kernel = MobileKernel(self._home_address, length, home_agent, home_link, networks, ipv4)
        super().__init__(home_link, [link.interface for link in foreign_links], self._kernel)
        self._ipv4, self._networks, self._implicit, self._lifetime = ipv4, tuple(networks), implicit, lifetime
        self._registration = self._registration_at(home_agent)
        self._other: Registration | None = None
        """At a second home agent: the next one until that has accepted, then the former one until it has let go."""

    def setup(self) -> None:
        """Configure the kernel and open the sockets. Raises one of KERNEL_ERRORS."""
        self._undo.callback(self._kernel.teardown)
        self._kernel.setup(self._foreign_links)
        for address in (self._home_address, *(link.care_of_address for link in self._foreign_links)):
            receiver = signalling_for(address)
            self._undo.callback(receiver.close)
            self._selector.register(receiver, selectors.EVENT_READ, partial(self._receive, receiver))
        self.listen()
        report("started", home_address=self._home_address, home_agent=self._home_agent, tunnel=self._kernel.tunnel)

    def _tick(self) -> None:
        for registration in self._registrations():
            bound = registration.bound
            update = registration.tick(time.monotonic())
            if bound and not registration.bound:
                report("expired", home_address=self._home_address)
            if update is not None:
                send_binding_update(update, self._association)
        self._forget_former()

    def _next_due(self) -> float | None:
        return earliest(*(registration.next_due() for registration in self._registrations()))

    def _receive(self, receiver: PacketReceiver) -> None:
        for message in messages(receiver):
            if isinstance(message, HomeAgentSwitch):
                self._told_to_switch(message)
            else:
                self._acknowledged(message)

    def _acknowledged(self, acknowledgement: BindingAcknowledgement) -> None:
        now = time.monotonic()
        outcomes = {each: each.acknowledged(acknowledgement, now) for each in self._registrations()}
        outcome = next((each for each in outcomes.values() if each is not Outcome.IGNORED), Outcome.IGNORED)
        if outcome is Outcome.DEREGISTERED and self._where == self._home_link:
            self._kernel.announce_ipv4()
            advertise(self._home_link, self._home_address)
        report_outcome(acknowledgement, outcome)
        if self._other is not None and outcomes.get(self._other) is Outcome.REGISTERED:
            # Only now, so that the former home agent has tunnelled until the next one does.
            self._kernel.change_home_agent()
            self._registration, self._other = self._other, self._registration
            self._other.release(now)
        self._forget_former()

    def _told_to_switch(self, message: HomeAgentSwitch) -> None:
        """Register at the first of the home agents that ours names (RFC 5142, section 6.2).

        The IPv4 tunnel leads to one home agent only, so a dual-stack node stays.
        """
        others = [address for address in message.home_agents if address != message.source]
        taken = bool(others) and self._ipv4 is None and self._registration.must_leave(message)
        report_switch(message, taken)
        if not taken or self._other is not None or self._present is None:
            return
        self._kernel.expect(others[0])
        self._other = self._registration_at(others[0])
        self._other.attach(self._present, time.monotonic())

    def _forget_former(self) -> None:
        if self._other is not None and self._other.over:
            self._other = None
            self._kernel.expect(None)

    def _registrations(self) -> list[Registration]:
        return [self._registration] if self._other is None else [self._registration, self._other]

    def _registration_at(self, home_agent: str) -> Registration:
        return Registration(
            self._home_address,
            home_agent,
            self._lifetime,
            random.randrange(0x10000),
            self._association,
            mobile_router=bool(self._networks),
            named_networks=() if self._implicit else self._networks,
            ipv4_home_address=None if self._ipv4 is None else str(self._ipv4.address.ip),
        )

    def _attach(self, address: str) -> None:
        self._present = address
        for registration in self._registrations():
            registration.attach(address, time.monotonic())

    def _move(self, target: str | None) -> None:
        if target is None:
            self._kernel.leave()
            self._present = None
            for registration in self._registrations():
                registration.detach()
            report("no-link")
        elif target == self._home_link:
            self._kernel.come_home()
            self._attach(self._home_address)
            report("moved", link=target, care_of_address=self._home_address)
        else:
            link = next(link for link in self._foreign_links if link.interface == target)
            self._kernel.visit(link)
            self._attach(link.care_of_address)
            report("moved", link=target, care_of_address=link.care_of_address)
        self._where = target


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser, with every address checked when it is parsed."""
    options = argparse.ArgumentParser(prog="python -m topologies.mobile_node", description=__doc__)
    options.add_argument(
        "--home-address", required=True, metavar="HOA[/LENGTH]", type=argument(_home_address),
        help="the home address, and the home prefix's length (default: 64)",
    )  # fmt: skip
    options.add_argument(
        "--home-agent", required=True, metavar="ADDRESS", type=ipv6_address, help="the home agent's address"
    )
    options.add_argument("--home-link", required=True, metavar="IFACE", help="interface on the home link")
    options.add_argument(
        "--foreign-link",
        action="append",
        required=True,
        metavar="IFACE=COA/LENGTH,GATEWAY",
        type=argument(_foreign_link),
        help="interface, care-of address and default router of a foreign link; repeatable",
    )
    options.add_argument(
        "--mobile-network",
        action="append",
        default=[],
        metavar="PREFIX",
        type=ipv6_prefix,
        help="prefix of a link behind this node, which then is a mobile router (RFC 3963); repeatable",
    )
    options.add_argument(
        "--implicit", action="store_true", help="leave it to the home agent which mobile networks this node has"
    )
    options.add_argument(
        "--ipv4-home-address",
        metavar="ADDRESS/LENGTH,GATEWAY",
        type=argument(_ipv4_home),
        help="have an IPv4 home address, too (RFC 5555), with the length of the home link's IPv4 prefix and the "
        "default router there",
    )
    how = options.add_mutually_exclusive_group(required=True)
    how.add_argument("--keys", type=Path, metavar="FILE", help="TOML file with its key, such as the home agent's")
    how.add_argument("--insecure", action="store_true", help="send Binding Updates without authentication")
    options.add_argument(
        "--lifetime", type=lifetime, default=60, metavar="SECONDS", help="lifetime to ask for (default: 60)"
    )
    return options


def _home_address(text: str) -> IPv6Interface:
    return IPv6Interface(text if "/" in text else f"{text}/64")


def _ipv4_home(text: str) -> Ipv4Home:
    address, _, gateway = text.partition(",")
    return Ipv4Home(IPv4Interface(address), IPv4Address(gateway))


def _foreign_link(text: str) -> ForeignLink:
    try:
        interface, addresses = text.split("=")
        care_of, gateway = addresses.split(",")
        address = IPv6Interface(care_of)
        return ForeignLink(interface, str(address.ip), address.network.prefixlen, str(IPv6Address(gateway)))
    except ValueError as error:
        raise ValueError(f"expected IFACE=COA/LENGTH,GATEWAY, got {text!r} ({error})") from error


def lifetime(text: str) -> int:
    """Parse a lifetime in seconds, rounded down to units of 4 s (RFC 6275, 6.1.7). Raises ArgumentTypeError."""
    return whole_seconds(LIFETIME_UNIT, MAX_LIFETIME)(text) // LIFETIME_UNIT * LIFETIME_UNIT


def main(argv: list[str] | None = None) -> int:
    """Run the mobile node until a signal; return 0, 1 if it could not start, 2 for wrong settings."""
    arguments = parser().parse_args(argv)
    home_address = str(arguments.home_address.ip)
    association = None
    try:
        if arguments.keys is not None:
            keys = load_keys(arguments.keys)
            if home_address not in keys:
                raise KeyFileError(f"{arguments.keys}: no key for {home_address}")
            association = keys[home_address]
    except KeyFileError as error:
        print(f"mobile node: {error}", file=sys.stderr)
        return 2
    node = MobileNode(
        arguments.home_address,
        arguments.home_agent,
        arguments.home_link,
        arguments.foreign_link,
        arguments.lifetime,
        association,
        arguments.mobile_network,
        arguments.implicit,
        arguments.ipv4_home_address,
    )
    return node.serve()


if __name__ == "__main__":
    sys.exit(main())
