# SPDX-License-Identifier: Apache-2.0
"""Read the routes and pairs of a tunnel endpoint, and bring them in line with what is desired."""

from collections.abc import Iterable, Sequence

from hoaflow.addresses import parse_prefix
from hoaflow.logs import Log
from hoaflow.router.encapsulation import encapsulation
from hoaflow.router.ovsdb import EndpointRecord
from hoaflow.router.tunnel_plan import DesiredTunnels, InstalledTunnels, Removals, TunnelPlan, plan
from hoaflow.tunnel import links
from hoaflow.tunnel.errors import TunnelError
from hoaflow.tunnel.namespace import cookie
from hoaflow.tunnel.nft import NftError
from hoaflow.tunnel.spoofing_filter import SourcePair, SpoofingFilter

LOG = Log("router")

KernelError = (TunnelError, OSError)

NOT_CARRIED = (
    "the router's kernel did not forward {} when its tunnel endpoint was set up: sysctl -w {}=1, then hoaflow-router "
    "setup again"
)
FORWARDING = {"ipv4": ("IPv4", "net.ipv4.ip_forward"), "ipv6": ("IPv6", "net.ipv6.conf.all.forwarding")}


def carries(namespace: str, protocol: str) -> bool:
    """Tell whether an endpoint was set up for home addresses of `protocol`, ipv4 or ipv6. Raises NamespaceError."""
    return links.sysctl(namespace, "all.forwarding", protocol) == "1"


class EndpointRoutes:
    """The routes and pairs of one endpoint, as last read and changed, until `forget`.

    `cookie`: that of its namespace when `made_anew` was last called, 0 if there was none.
    """

    def __init__(self, record: EndpointRecord) -> None:
        self.record = record
        self._installed: InstalledTunnels | None = None
        self._leftover = Removals()  # what the last `apply` found, but did not desire
        self._lingering = Removals()  # what was left over at the last `tidy`
        self._failed: set[str] = set()
        self.cookie = 0

    def forget(self) -> None:
        """Read the kernel's state before the next change, as what was read may be outdated."""
        self._installed = None

    def made_anew(self) -> bool:
        """Tell whether the namespace is another one than at the last call."""
        try:
            found = cookie(self.record.namespace)
        except KernelError:
            found = 0
        if found == self.cookie:
            return False
        self.cookie = found
        self.forget()
        return True

    @property
    def has_leftovers(self) -> bool:
        """Whether there is anything for `tidy` to look at."""
        return any(self._leftover) or any(self._lingering)

    def care_of_address(self, home_address: str) -> str | None:
        """Return where the endpoint tunnels packets for a home address or prefix to, None for nowhere."""
        installed = self._installed
        return None if installed is None else installed.routes.get(home_address)

    def apply(self, desired: DesiredTunnels) -> dict[str, str]:
        """Have the kernel carry `desired`; returns {home address: reason} of what could not be done.

        Only differences are changed, and what failed before is tried again. What is no longer desired stays for `tidy`,
        as its packets may still be under way and nobody waits for its removal.
        """
        changed = desired.take_changed()
        try:
            if self._installed is None:
                self._installed, changed = self._read(), None
            if changed is not None:
                changed |= self._failed | self._leftover.home_addresses
            todo = plan(desired, self._installed, changed)
            failed = self._add(todo, self._installed) if todo else {}
        except KernelError as error:
            self.forget()
            return dict.fromkeys(desired.tunnels, str(error))
        self._leftover, self._failed = todo.removals, set(failed)
        return failed

    def tidy(self) -> None:
        """Remove what the last `apply` found but did not desire, if that was so at the last call, too.

        Between two calls some time has to pass: the switch may send packets here until it has deleted the flows. The
        next `apply` finds again what cannot be removed.
        """
        going = self._leftover.common(self._lingering)
        self._leftover = self._lingering = self._leftover.without(going)
        if not any(going):
            return
        try:
            self._drop(going)
        except KernelError as error:
            LOG.warning("leftovers", home_agent=self.record.home_agent, reason=error)
            self.forget()

    def _pairs(self) -> SpoofingFilter:
        return SpoofingFilter(self.record.namespace, self.record.home_agent)

    def _read(self) -> InstalledTunnels:
        with encapsulation(self.record) as tunnels:
            return InstalledTunnels(tunnels.installed(), self._pairs().installed())

    def _add(self, todo: TunnelPlan, installed: InstalledTunnels) -> dict[str, str]:
        failed = self._not_carried(todo.set_routes)
        pairs = [pair for pair in todo.add_pairs if pair.inner_source not in failed]
        failed |= self._accept(self._pairs(), pairs)
        installed.accept(pair for pair in pairs if pair.inner_source not in failed)
        wanted = {home: care_of for home, care_of in todo.set_routes.items() if home not in failed}
        if wanted:
            with encapsulation(self.record) as tunnels:
                refused = tunnels.put_all(wanted)
            installed.routes.update((home, care_of) for home, care_of in wanted.items() if home not in refused)
            failed |= refused
        return failed

    def _not_carried(self, homes: Iterable[str]) -> dict[str, str]:
        """Return {home address: reason} of those whose family the endpoint was not set up for."""
        other = "ipv4" if ":" in self.record.home_agent else "ipv6"
        of_other = [home for home in homes if (":" in home) == (other == "ipv6")]
        if not of_other or carries(self.record.namespace, other):
            return {}
        return dict.fromkeys(of_other, NOT_CARRIED.format(*FORWARDING[other]))

    def _drop(self, going: Removals) -> None:
        if going.routes:
            with encapsulation(self.record) as tunnels:
                refused = tunnels.remove_all(going.routes)
            if refused:
                raise TunnelError("; ".join(f"{home}: {reason}" for home, reason in refused.items()))
        self._pairs().remove(going.pairs)
        if self._installed is not None:
            for home in going.routes:
                del self._installed.routes[home]
            self._installed.refuse(going.pairs)

    @staticmethod
    def _accept(filter_: SpoofingFilter, pairs: Sequence[SourcePair]) -> dict[str, str]:
        """Accept pairs; if prefixes are refused together, one at a time.

        nftables accepts a prefix around existing ones, but none inside them, so the longest come first.
        """
        prefixes = [pair for pair in pairs if "/" in pair.inner_source]
        prefixes.sort(key=lambda pair: parse_prefix(pair.inner_source).length, reverse=True)
        filter_.add(pair for pair in pairs if "/" not in pair.inner_source)
        try:
            filter_.add(prefixes)
            return {}
        except NftError:
            failed = {}
            for pair in prefixes:
                try:
                    filter_.add([pair])
                except NftError as error:
                    failed[pair.inner_source] = str(error)
            return failed
