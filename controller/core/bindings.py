# SPDX-License-Identifier: Apache-2.0
"""Keep the bindings of all home agents (RFC 6275 section 5.1, seen from outside the home agent)."""

from collections import Counter
from collections.abc import Collection, Iterator
from enum import Enum

from msgspec import Struct

from controller.core.prefix_lengths import PrefixLengths
from controller.core.protocols import RULES, Protocol, Rules
from hoaflow.addresses import Prefix, format_address, host
from hoaflow.deadlines import Deadlines
from hoaflow.errors import HoaflowError

# Expiries this close, in seconds, are the same: lifetimes are reported in whole seconds and take time to arrive.
EXPIRY_JITTER = 2.0


# What identifies a binding.
Key = tuple[Protocol, Prefix]


class Binding(Struct, frozen=True, gc=False):
    """One home address (or mobile network prefix) and the care-of address to which its packets go.

    ``lifetime`` is what remained when it was last reported, in seconds, and ``expires_at`` the end that follows, on the
    caller's clock; both are None where the source knows none. ``sequence`` is the Binding Update's, or the
    identification of a Registration Request (RFC 5944). ``withheld`` says why its bridge leaves it to the home agent,
    None if it is to be offloaded. ``timestamp`` is the Proxy Binding Update's (RFC 5213 section 8.8), in units of
    1/65536 s since 1970. ``reverse_tunnel``: the mobile node sends by way of its home agent, too, as it always does but
    in Mobile IPv4 (RFC 3024).

    Addresses are of either family: care-of address and home agent of the same, the home address of any.
    """

    home_address: Prefix
    care_of_address: bytes
    home_agent: bytes
    lifetime: int | None = None
    expires_at: float | None = None
    sequence: int | None = None
    withheld: str | None = None
    protocol: Protocol = Protocol.MIPV6
    timestamp: int | None = None
    reverse_tunnel: bool = True

    @property
    def key(self) -> Key:
        """Return what identifies it among all bindings."""
        return self.protocol, self.home_address

    @property
    def rules(self) -> Rules:
        """Return the rules of its protocol."""
        return RULES[self.protocol]

    @property
    def number(self) -> int | None:
        """Return the number that orders its updates, None if the source has none."""
        return self.timestamp if self.rules.ordered_by == "timestamp" else self.sequence

    def same_path(self, other: "Binding") -> bool:
        """Tell whether packets take the same path under both bindings."""
        return (
            self.care_of_address == other.care_of_address
            and self.home_agent == other.home_agent
            and self.withheld == other.withheld
            and self.protocol is other.protocol
            and self.reverse_tunnel is other.reverse_tunnel
        )

    def same_expiry(self, other: "Binding") -> bool:
        """Tell whether both bindings end at the same moment, within `EXPIRY_JITTER`."""
        if self.expires_at is None or other.expires_at is None:
            return self.expires_at is other.expires_at
        return abs(self.expires_at - other.expires_at) <= EXPIRY_JITTER


class Change(Enum):
    """What a report changed: of a binding, a home agent or a router's agent."""

    ADDED = "added"  # not known before, or only from before a lease ended
    CHANGED = "changed"  # of a binding: its care-of address or home agent, or that it is withheld now
    REFRESHED = "refreshed"  # only the lifetime, the sequence number or the lease
    UNCHANGED = "unchanged"
    REMOVED = "removed"

    __hash__ = object.__hash__  # see `Protocol`

    @property
    def is_news(self) -> bool:
        """Tell whether it is more than a sign of life."""
        return self in (Change.ADDED, Change.CHANGED, Change.REMOVED)


class StaleUpdate(HoaflowError):
    """An update is older than the binding held or just removed. ``field`` is the one that shows it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{reason}; send the binding as the home agent has it now")
        self.field = field


class StaleNumber(StaleUpdate):
    """An update's sequence number or timestamp is not newer than the last one."""

    def __init__(self, update: "Binding", held: int, gone: bool = False) -> None:
        """Compare an update with the number ``held``; ``gone``: that binding has just been removed."""
        field = update.rules.ordered_by
        what = "that of a binding that has just been removed" if gone else "that of the binding held"
        super().__init__(field, f"{field} {update.number} for {update.home_address} is not newer than {held}, {what}")


class NotServing(StaleUpdate):
    """A deregistration comes from a care-of address that the binding does not have any more."""

    def __init__(self, held: "Binding") -> None:
        super().__init__(
            "care_of_address",
            f"{held.home_address} has moved to {format_address(held.care_of_address)}, and only from there is its"
            f" {held.protocol.value} binding ended",
        )


def may_follow(held: Binding, number: int | None, care_of_address: bytes | None) -> bool:
    """Tell whether an update of the same protocol with this number may replace a binding.

    A newer one may. So may the same number with the same care-of address, as a report may be sent twice, and with
    ``care_of_address`` None, the binding's end. Without numbers the last report wins.
    """
    last = held.number
    if last is None or number is None or held.rules.is_newer(number, last):
        return True
    return number == last and care_of_address in (None, held.care_of_address)


class BindingTable:
    """Bindings by home address, also found by care-of address and by the end of their lifetime."""

    def __init__(self) -> None:
        self._bindings: dict[Prefix, Binding] = {}
        # The home addresses behind each care-of address: usually one.
        self._behind: dict[bytes, Prefix | dict[Prefix, None]] = {}
        self._shared: set[bytes] = set()  # care-of addresses that several home addresses have or had
        self._counts: Counter[bytes] = Counter()
        self._lengths = PrefixLengths()
        self._ends: Deadlines[Prefix] = Deadlines()
        # By a prefix's length, how many home addresses lie in each such prefix; of the lengths that were asked for.
        self._within: dict[tuple[int, int], Counter[Prefix]] = {}

    def __len__(self) -> int:
        return len(self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings.values())

    def get(self, home_address: Prefix) -> Binding | None:
        """Return the binding of a home address, None if none is held."""
        return self._bindings.get(home_address)

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses, in a list that later changes do not affect."""
        return list(self._bindings)

    def covering(self, home_address: Prefix) -> Binding | None:
        """Return the binding that packets for a home address take: that of the longest prefix covering it."""
        return next(self.all_covering(home_address), None)

    def all_covering(self, home_address: Prefix) -> Iterator[Binding]:
        """Iterate over the bindings that cover a home address or prefix, the longest first."""
        for candidate in self._lengths.covering(home_address):
            held = self._bindings.get(candidate)
            if held is not None:
                yield held

    def covers(self, address: bytes) -> bool:
        """Tell whether a binding covers an address."""
        return not self._bindings.keys().isdisjoint(self._lengths.covering(host(address)))

    def any_within(self, prefix: Prefix) -> bool:
        """Tell whether a home address lies in a prefix that is shorter."""
        if prefix.is_host or not self._bindings:
            return False
        size = (len(prefix.packed), prefix.length)
        if size not in self._within:
            self._within[size] = Counter()
            for home_address in self._bindings:
                self._count_within(home_address, size, 1)
        return prefix in self._within[size]

    def _count_within(self, home_address: Prefix, size: tuple[int, int], by: int) -> None:
        octets, length = size
        if len(home_address.packed) == octets and length < home_address.length:
            prefix, counts = home_address.shortened(length), self._within[size]
            counts[prefix] += by
            if not counts[prefix]:
                del counts[prefix]

    def behind(self, care_of_address: bytes) -> Collection[Prefix]:
        """Return the home addresses that are bound to a care-of address, with any home agent."""
        behind = self._behind.get(care_of_address, _NOBODY)
        return (behind,) if isinstance(behind, Prefix) else behind

    def any_behind(self, care_of_address: bytes) -> bool:
        """Tell whether a home address is bound to a care-of address."""
        return care_of_address in self._behind

    def is_alone(self, binding: Binding) -> bool:
        """Tell whether a binding's home address, and no other, is bound to its care-of address."""
        behind = self._behind.get(binding.care_of_address)
        if isinstance(behind, dict):
            return len(behind) == 1 and binding.home_address in behind
        return behind == binding.home_address

    def bound_to(self, care_of_address: bytes) -> list[Binding]:
        """Return the bindings with a care-of address."""
        return [self._bindings[home_address] for home_address in self.behind(care_of_address)]

    def shared(self) -> set[bytes]:
        """Return the care-of addresses that several home addresses are bound to."""
        return {address for address in self._shared if len(self.behind(address)) > 1}

    def of_home_agent(self, home_agent: bytes) -> Iterator[Binding]:
        """Iterate over the bindings of one home agent."""
        return (binding for binding in self._bindings.values() if binding.home_agent == home_agent)

    def count(self, home_agent: bytes) -> int:
        """Return how many bindings a home agent has."""
        return self._counts[home_agent]

    def check_order(self, update: Binding, ends: bool) -> None:
        """Raise StaleUpdate if an update is older than the binding held (see ``may_follow``).

        ``ends``: it is a deregistration.
        """
        held = self._bindings.get(update.home_address)
        if held is None or held.protocol is not update.protocol:
            return
        if ends and held.rules.deregistered_by == "care-of-address" and update.care_of_address != held.care_of_address:
            raise NotServing(held)
        if not may_follow(held, update.number, None if ends else update.care_of_address):
            raise StaleNumber(update, held.number or 0)

    def put(self, binding: Binding) -> Change:
        """Hold a binding and return what that changed. Idempotent; numbers are not compared."""
        home_address = binding.home_address
        held = self._bindings.get(home_address)
        if held is None:
            change = Change.ADDED
            self._arrive(binding.care_of_address, home_address)
            self._counts[binding.home_agent] += 1
            self._lengths.add(home_address)
            for asked in self._within:
                self._count_within(home_address, asked, 1)
        else:
            # Keep the address objects that are held already, as equal ones would take their memory twice.
            home_address = held.home_address
            if not held.same_path(binding):
                change = Change.CHANGED
                self._leave(held.care_of_address, home_address)
                self._arrive(binding.care_of_address, home_address)
                self._counts[held.home_agent] -= 1
                self._counts[binding.home_agent] += 1
                binding = _at(binding, home_address, binding.care_of_address)
            else:
                return self.refresh(held, binding)
        self._bindings[home_address] = binding
        if binding.expires_at is not None:
            self._ends.plan(home_address, binding.expires_at)
        return change

    def refresh(self, held: Binding, binding: Binding) -> Change:
        """Hold a binding of the same path in place of the one held and return what that changed. Idempotent."""
        same_number = held.sequence == binding.sequence and held.timestamp == binding.timestamp
        if same_number and held.same_expiry(binding):
            return Change.UNCHANGED
        home_address, ends = held.home_address, binding.expires_at
        self._bindings[home_address] = _at(binding, home_address, held.care_of_address)
        if ends is not None and (held.expires_at is None or ends < held.expires_at):
            self._ends.plan(home_address, ends)  # a later end is planned when the earlier one has come
        return Change.REFRESHED

    def remove(self, home_address: Prefix) -> Binding | None:
        """Forget a binding and return it, None if none was held. A later one may have any sequence number."""
        binding = self._bindings.pop(home_address, None)
        if binding is not None:
            self._leave(binding.care_of_address, home_address)
            self._ends.cancel(home_address)
            self._counts[binding.home_agent] -= 1
            self._lengths.remove(home_address)
            for asked in self._within:
                self._count_within(home_address, asked, -1)
        return binding

    def expired(self, now: float, most: int = 1000) -> list[Binding]:
        """Remove and return bindings whose lifetime has ended, at most ``most``."""
        ended = []
        for home_address in self._ends.due(now, most):
            held = self._bindings.get(home_address)
            if held is None or held.expires_at is None:
                continue
            if held.expires_at > now:  # refreshed since
                self._ends.plan(home_address, held.expires_at)
            else:
                self.remove(home_address)
                ended.append(held)
        return ended

    def next_expiry(self) -> float | None:
        """Return a moment no later than the next expiry, None if nothing expires."""
        return self._ends.next()

    def _arrive(self, care_of_address: bytes, home_address: Prefix) -> None:
        behind = self._behind.get(care_of_address)
        if behind is None:
            self._behind[care_of_address] = home_address
        elif isinstance(behind, Prefix):
            self._behind[care_of_address] = {behind: None, home_address: None}
            self._shared.add(care_of_address)
        else:
            behind[home_address] = None

    def _leave(self, care_of_address: bytes, home_address: Prefix) -> None:
        behind = self._behind[care_of_address]
        if isinstance(behind, dict):
            del behind[home_address]
        if behind == home_address or not behind:
            del self._behind[care_of_address]
            self._shared.discard(care_of_address)


_NOBODY: dict[Prefix, None] = {}


def _at(binding: Binding, home_address: Prefix, care_of_address: bytes) -> Binding:
    """Return a binding with its addresses replaced by equal objects."""
    return Binding(
        home_address,
        care_of_address,
        binding.home_agent,
        binding.lifetime,
        binding.expires_at,
        binding.sequence,
        binding.withheld,
        binding.protocol,
        binding.timestamp,
        binding.reverse_tunnel,
    )
