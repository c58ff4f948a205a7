# SPDX-License-Identifier: Apache-2.0
"""Decide which controllers a client calls: those configured, and those that they tell of. Pure.

A client speaks with all members of a cluster at once. It is given one URL or several:

- A name with several addresses stands for several controllers. One with an IPv4 and an IPv6 address stands for one.
- Each controller tells which members there are (`GET /v1/cluster`), by name and URL; all of them are called.
- A member is called at the URL that is told of, where it answers, else at a configured one: behind a balancer's address
  another member may answer each time.
- An address that is no longer told of, and does not answer, is dropped after `FORGET`; a configured URL never is.

Times are seconds of one monotonic clock.
"""

import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

FORGET = 60.0  # seconds
RESOLVE = 10.0  # seconds between two resolutions of the names

Log = Callable[..., None]
MemberName = tuple[str, str]  # of the cluster, and of the member


class MemberAddress(NamedTuple):
    """Where a controller is called: its URL and, if the URL's name has several addresses, one of these.

    As text it is the URL with the address in place of the name.
    """

    url: str
    ip: str | None = None

    def __str__(self) -> str:
        if self.ip is None:
            return self.url
        host, port = f"[{self.ip}]" if ":" in self.ip else self.ip, urlsplit(self.url).port
        return urlsplit(self.url)._replace(netloc=host if port is None else f"{host}:{port}").geturl()


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What a controller says of its cluster: both names, and the URLs of all members by name.

    `cluster` is None where the controller is alone.
    """

    cluster: str | None = None
    member: str = ""
    urls: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    """What is known of an address.

    `configured`: it is, or stands for, a configured URL. `told`: when it was last told of. `answers`: None before it
    has been asked.
    """

    configured: bool
    told: float
    answers: bool | None = None
    member: MemberName | None = None


class Directory:
    """Hold the addresses of the controllers that a client calls.

    `configured`: the URLs that the client was given. `log(level, event, **fields)` is called when an address is found
    or dropped.
    """

    def __init__(self, configured: Sequence[str], log: Log) -> None:
        self._configured = tuple(dict.fromkeys(configured))
        self._log = log
        self._known = {
            MemberAddress(url): _Known(configured=True, told=0.0) for url in self._configured if not has_name(url)
        }
        self._heard = 0.0  # when an address was last told of
        self._in_clear: set[str] = set()
        self._names = tuple(url for url in self._configured if has_name(url))
        self.resolve_at = float("-inf") if self._names else float("inf")  # infinite while it is under way

    def names_to_resolve(self, now: float) -> tuple[str, ...]:
        """Return the configured URLs whose names are to be resolved now; `resolved` takes the outcome."""
        if self.resolve_at > now:
            return ()
        self.resolve_at = float("inf")
        return self._names

    def addresses(self) -> list[MemberAddress]:
        """Return the addresses to call: one for each member, and those that have not been called yet."""
        chosen: dict[MemberName | MemberAddress, MemberAddress] = {}
        for address, known in sorted(self._known.items(), key=lambda item: _preference(item[1])):
            chosen.setdefault(known.member or address, address)
        called = set(chosen.values())
        return [address for address, known in self._known.items() if address in called or known.answers is None]

    def resolved(self, ips: Mapping[str, Sequence[str]], now: float) -> None:
        """Take the addresses of the names of URLs. Where there are none, those known before stay."""
        self.resolve_at = now + RESOLVE
        for url, found in ips.items():
            for address in self._of_name(url, found):
                self._tell_of(address, None, now, configured=True)
        self._drop_vanished()

    def answered(self, address: MemberAddress, view: ClusterView, now: float) -> None:
        """Take what the controller at `address` says of its cluster; `ClusterView()` if it knows of none."""
        known = self._known.get(address)
        if known is None:
            return  # dropped while it was asked
        known.answers, known.told = True, now
        if view.cluster is None:
            return
        self._heard, known.member = now, (view.cluster, view.member)
        for name, url in view.urls.items():
            if not self._is_refused(name, url):
                self._tell_of(MemberAddress(url), (view.cluster, name), now)
        self._drop_vanished()

    def failed(self, address: MemberAddress) -> None:
        """Record that the controller at `address` does not answer."""
        if address in self._known:
            self._known[address].answers = False

    def _of_name(self, url: str, ips: Sequence[str]) -> list[MemberAddress]:
        pinned = [address for address in self._known if address.url == url and address.ip is not None]
        found = [MemberAddress(url, ip) for ip in of_one_family(ips)]
        if len(found) > 1 or (found and pinned):
            self._known.pop(MemberAddress(url), None)
            return found
        return pinned or [MemberAddress(url)]

    def _tell_of(self, address: MemberAddress, member: MemberName | None, now: float, configured: bool = False) -> None:
        self._heard = now
        if address not in self._known:
            self._known[address] = _Known(configured, now)
            if not self._is_lasting(address):
                self._log(logging.INFO, "member-found", controller=str(address))
        known = self._known[address]
        known.told, known.member = now, known.member or member

    def _drop_vanished(self) -> None:
        for address, known in list(self._known.items()):
            if not self._is_lasting(address) and not known.answers and self._heard - known.told > FORGET:
                del self._known[address]
                self._log(logging.INFO, "member-dropped", controller=str(address))

    def _is_lasting(self, address: MemberAddress) -> bool:
        return address.ip is None and address.url in self._configured

    def _is_refused(self, name: str, url: str) -> bool:
        """Tell whether a member must not be called, as its URL would send in clear what the configured ones encrypt."""
        in_clear = _scheme(url) == "http" and all(_scheme(each) == "https" for each in self._configured)
        if in_clear and url not in self._in_clear:
            self._in_clear.add(url)
            self._log(logging.WARNING, "member-in-clear", member=name, controller=url, reason="--controller has https")
        return in_clear


def _preference(known: _Known) -> tuple[bool, bool]:
    """Return a key that orders addresses of one member: first those that answer, and of these those told of."""
    return not known.answers, known.configured if known.answers else not known.configured


def of_one_family(ips: Iterable[str]) -> list[str]:
    """Return the addresses of the family that has more of them, or that of the first one.

    A machine may have one of each, and is to be called once.

    >>> of_one_family(["2001:db8::1", "192.0.2.1", "192.0.2.2"])
    ['192.0.2.1', '192.0.2.2']
    """
    families: dict[int, list[str]] = {}
    for ip in dict.fromkeys(ips):
        families.setdefault(ipaddress.ip_address(ip).version, []).append(ip)
    return max(families.values(), key=len, default=[])


def has_name(url: str) -> bool:
    """Tell whether a URL has a name, which is to be resolved, rather than an address."""
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return True
    return False


def _scheme(url: str) -> str:
    return urlsplit(url).scheme
