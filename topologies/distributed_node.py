# SPDX-License-Identifier: Apache-2.0
"""Emulate a mobile node of distributed mobility (RFC 7333): `python -m topologies.distributed_node`.

On each link where it arrives, it takes a home address of the home agent there, which advertises itself (flag H), for
new sessions. It keeps the former ones, registered at their own home agents, as long as sockets use them, and then
deregisters them. It is moved by setting its interfaces up and down. It prints each event as a JSON object.
"""

import argparse
import random
import selectors
import sys
import time
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from hoaflow.arguments import argument, ipv6_address
from hoaflow.mobility.authentication import KeyFileError, SecurityAssociation, load_keys
from hoaflow.mobility.home_agent_discovery import home_agents_anycast
from hoaflow.mobility.home_agent_switch import HomeAgentSwitch
from hoaflow.mobility.messages import BindingAcknowledgement
from hoaflow.mobility.packet_io import PacketReceiver
from topologies import addresses as at
from topologies.distributed_kernel import DistributedKernel
from topologies.foreign_link import ForeignLink
from topologies.link_follower import LinkFollower, report
from topologies.mobile_node import lifetime
from topologies.registration import MAX_TIMEOUT, Outcome, Registration
from topologies.sessions import addresses_in_use
from topologies.signalling import (
    advertise,
    messages,
    report_outcome,
    report_switch,
    send_binding_update,
    signalling_for,
)
from topologies.site_discovery import SOLICITATION_SECONDS, Site, SiteDiscovery

LOOK_SECONDS = 1.0
"""Between looks at which home addresses sessions use."""
DISCOVERY_SECONDS = 3.0
"""Until a request is repeated (INITIAL_DHAAD_TIMEOUT, RFC 6275, section 12), then twice as long each time."""
UNUSED_LOOKS = 3
"""Looks in a row at which nothing used a home address before it is let go: a session may just begin."""


@dataclass
class Anchor:
    """A home address and the registration at its home agent, its anchor."""

    home_address: str
    site: Site
    association: SecurityAssociation | None
    registration: Registration
    receiver: PacketReceiver
    lasting: bool = False
    left_home: bool = False  # so that its home agent may know of it
    unused: int = 0  # looks in a row
    released: bool = False


class DistributedNode(LinkFollower):
    """Keep a registration for each home address in use; `close` undoes `setup`, even a failed one."""

    def __init__(
        self, gateways: dict[str, str], keys: dict[str, SecurityAssociation], lifetime: int, lasting: IPv6Network | None
    ) -> None:
        """Take each link's default router by interface, and the keys by home address.

        `lasting`: a home prefix elsewhere, at one of whose home agents the node stays registered.
        """
        self._gateways, self._keys, self._lifetime, self._lasting = gateways, keys, lifetime, lasting
        self._kernel = DistributedKernel()
        super().__init__(None, list(gateways), self._kernel)
        self._anchors: dict[str, Anchor] = {}  # by home address
        self._sites: dict[str, Site] = {}  # by interface: on a known link it is not asked for again (RFC 6059)
        self._present: ForeignLink | None = None
        self._care_of_receiver: PacketReceiver | None = None
        self._solicit_due = 0.0
        self._look_due = 0.0
        self._ask_due, self._ask_seconds = 0.0, DISCOVERY_SECONDS

    def setup(self) -> None:
        """Configure the kernel and open the sockets. Raises one of KERNEL_ERRORS."""
        self._undo.callback(self._kernel.teardown)
        self._kernel.setup(self._gateways)
        self._discovery = SiteDiscovery()
        self._undo.callback(self._discovery.close)
        self._selector.register(self._discovery, selectors.EVENT_READ, self._hear)
        self._undo.callback(self._forget_receivers)
        self.listen()
        report("started", tunnel=self._kernel.tunnel)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._where is not None and self._present is None and now >= self._solicit_due:
            self._discovery.solicit(self._where)
            self._solicit_due = now + SOLICITATION_SECONDS
        if self._present is not None and self._asks and now >= self._ask_due:
            self._ask(self._present, now)
        if now >= self._look_due:
            self._look_due = now + LOOK_SECONDS
            self._look(now)
        for anchor in list(self._anchors.values()):
            if (update := anchor.registration.tick(now)) is not None:
                send_binding_update(update, anchor.association)
            if anchor.released and not anchor.registration.bound:
                self._let_go(anchor)

    def _next_due(self) -> float | None:
        due = [self._look_due]
        if self._where is not None and self._present is None:
            due.append(self._solicit_due)
        if self._present is not None and self._asks:
            due.append(self._ask_due)
        return min(
            due + [when for each in self._anchors.values() if (when := each.registration.next_due()) is not None]
        )

    def _look(self, now: float) -> None:
        """Deregister the former home addresses that no session uses any more."""
        in_use = addresses_in_use()
        for anchor in self._anchors.values():
            needed = anchor.lasting or anchor.home_address in in_use or self._is_home(anchor)
            anchor.unused = 0 if needed else anchor.unused + 1
            if anchor.unused >= UNUSED_LOOKS and not anchor.released:
                anchor.released = True
                report("home-address-unused", home_address=anchor.home_address, home_agent=anchor.site.home_agent)
                anchor.registration.release(now)

    @property
    def _asks(self) -> bool:
        """Whether the home agent of the home prefix elsewhere is not known yet."""
        return self._lasting is not None and not any(anchor.lasting for anchor in self._anchors.values())

    def _ask(self, present: ForeignLink, now: float) -> None:
        assert self._lasting is not None
        self._discovery.ask(present.care_of_address, self._lasting)
        self._ask_due, self._ask_seconds = now + self._ask_seconds, min(2 * self._ask_seconds, MAX_TIMEOUT)

    def _move(self, target: str | None) -> None:
        self._kernel.leave()
        self._present = None
        for anchor in self._anchors.values():
            anchor.registration.detach()
        self._where = target
        if target is None:
            report("no-link")
        elif target in self._sites:
            self._arrive(target)
        else:
            self._solicit_due = 0.0

    def _hear(self) -> None:
        for interface, site in self._discovery.heard():
            if interface is None:
                self._discovered(site)
            else:
                self._sites.setdefault(interface, site)
                if interface == self._where and self._present is None:
                    self._arrive(interface)

    def _discovered(self, site: Site) -> None:
        """Register at the home agent of the home prefix elsewhere."""
        if self._asks and self._present is not None:
            report("home-agent-discovered", home_agent=site.home_agent, home_prefix=str(site.prefix))
            self._take(site, lasting=True)
            self._arrive(self._present.interface)

    def _arrive(self, interface: str) -> None:
        """Take addresses on a link whose site is known, and register all others from there. Raises KERNEL_ERRORS."""
        site = self._sites[interface]
        self._let_go_of_unregistered(site)
        if not any(anchor.site == site for anchor in self._anchors.values()):
            self._take(site)
        home = next((anchor for anchor in self._anchors.values() if anchor.site == site and not anchor.released), None)
        care_of = _address_in(site.prefix, at.SITE_CARE_OF_ADDRESS)
        link = ForeignLink(interface, care_of, site.prefix.prefixlen, self._gateways[interface])
        self._kernel.visit(link, None if home is None else home.home_address)
        self._present = link
        self._ask_due, self._ask_seconds = time.monotonic(), DISCOVERY_SECONDS
        self._receive_at(care_of)
        for anchor in self._anchors.values():
            anchor.left_home = anchor.left_home or anchor is not home
            anchor.registration.attach(anchor.home_address if anchor is home else care_of, time.monotonic())
        facts = {} if home is None else {"home_address": home.home_address, "home_agent": site.home_agent}
        report("moved", link=interface, care_of_address=care_of, **facts)

    def _let_go_of_unregistered(self, site: Site) -> None:
        """Let go of home addresses of other sites that no session uses: they need not even be registered."""
        in_use = addresses_in_use()
        for anchor in list(self._anchors.values()):
            needed = anchor.lasting or anchor.site == site or anchor.home_address in in_use
            if not (needed or anchor.left_home):
                self._let_go(anchor)

    def _take(self, site: Site, lasting: bool = False) -> None:
        """Take a home address of a home agent, unless there are keys but none for it."""
        home_address = _address_in(site.prefix, at.SITE_HOME_ADDRESS)
        if self._keys and home_address not in self._keys:
            report("no-key", home_address=home_address, home_agent=site.home_agent)
            return
        association = self._keys.get(home_address)
        registration = Registration(
            home_address, site.home_agent, self._lifetime, random.randrange(0x10000), association
        )
        receiver = signalling_for(home_address)
        anchor = Anchor(home_address, site, association, registration, receiver, lasting)
        self._anchors[home_address] = anchor
        self._selector.register(receiver, selectors.EVENT_READ, partial(self._receive, receiver))
        self._kernel.add(home_address, site.home_agent)
        report("home-address-taken", home_address=home_address, home_agent=site.home_agent)

    def _let_go(self, anchor: Anchor) -> None:
        del self._anchors[anchor.home_address]
        self._forget(anchor.receiver)
        self._kernel.remove(anchor.home_address)
        report("home-address-released", home_address=anchor.home_address, home_agent=anchor.site.home_agent)
        if self._is_home(anchor) and self._present is not None:  # it came back while it was being deregistered
            self._arrive(self._present.interface)

    def _is_home(self, anchor: Anchor) -> bool:
        return self._present is not None and self._sites[self._present.interface] == anchor.site

    def _receive_at(self, care_of_address: str) -> None:
        if self._care_of_receiver is not None:
            self._forget(self._care_of_receiver)
        self._care_of_receiver = signalling_for(care_of_address)
        receive = partial(self._receive, self._care_of_receiver)
        self._selector.register(self._care_of_receiver, selectors.EVENT_READ, receive)

    def _receive(self, receiver: PacketReceiver) -> None:
        for message in messages(receiver):
            if isinstance(message, HomeAgentSwitch):  # it leaves each home agent by itself, in time
                report_switch(message, taken=False)
            else:
                self._acknowledged(message)

    def _acknowledged(self, acknowledgement: BindingAcknowledgement) -> None:
        anchor = self._anchors.get(acknowledgement.home_address)
        if anchor is None:  # of a home address that was just let go
            return
        outcome = anchor.registration.acknowledged(acknowledgement, time.monotonic())
        if outcome is Outcome.DEREGISTERED and self._present is not None and self._is_home(anchor):
            advertise(self._present.interface, anchor.home_address)
        report_outcome(acknowledgement, outcome)

    def _forget(self, receiver: PacketReceiver) -> None:
        self._selector.unregister(receiver)
        receiver.close()

    def _forget_receivers(self) -> None:
        for anchor in self._anchors.values():
            self._forget(anchor.receiver)
        if self._care_of_receiver is not None:
            self._forget(self._care_of_receiver)


def _address_in(prefix: IPv6Network, identifier: str) -> str:
    return str(IPv6Address(int(prefix.network_address) | int(identifier, 16)))


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser, with every address checked when it is parsed."""
    options = argparse.ArgumentParser(prog="python -m topologies.distributed_node", description=__doc__)
    options.add_argument(
        "--link",
        action="append",
        required=True,
        metavar="IFACE=GATEWAY",
        type=argument(_link),
        help="interface and default router of a site's link; repeatable",
    )
    options.add_argument(
        "--lasting",
        metavar="PREFIX",
        type=argument(_home_prefix),
        help="a home prefix elsewhere: its home agents are asked for (RFC 6275, 11.4.1), and the home address of the "
        "best one is kept, used or not",
    )
    how = options.add_mutually_exclusive_group(required=True)
    how.add_argument("--keys", type=Path, metavar="FILE", help="TOML file with a key for each home address")
    how.add_argument("--insecure", action="store_true", help="send Binding Updates without authentication")
    options.add_argument(
        "--lifetime", type=lifetime, default=60, metavar="SECONDS", help="lifetime to ask for (default: 60)"
    )
    return options


def _link(text: str) -> tuple[str, str]:
    interface, found, gateway = text.partition("=")
    if not (interface and found):
        raise ValueError(f"expected IFACE=GATEWAY, got {text!r}")
    return interface, ipv6_address(gateway)


def _home_prefix(text: str) -> IPv6Network:
    prefix = IPv6Network(text)
    if home_agents_anycast(prefix) is None:
        raise ValueError(f"{prefix} is too long to have an anycast address of home agents (RFC 2526)")
    return prefix


def main(argv: list[str] | None = None) -> int:
    """Run the mobile node until a signal; return 0, 1 if it could not start, 2 for wrong settings."""
    arguments = parser().parse_args(argv)
    try:
        keys = {} if arguments.keys is None else load_keys(arguments.keys)
    except KeyFileError as error:
        print(f"mobile node: {error}", file=sys.stderr)
        return 2
    return DistributedNode(dict(arguments.link), dict(keys), arguments.lifetime, arguments.lasting).serve()


if __name__ == "__main__":
    sys.exit(main())
