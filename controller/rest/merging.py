# SPDX-License-Identifier: Apache-2.0
"""Put together what several members say of bindings and routers. Pure.

Of a router the word of its master counts, and nobody else's. What no master has said is shown as `unknown`, with the
reason.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from msgspec import UNSET, structs

from controller.cluster.view import View
from controller.core.binding_states import State, together
from controller.core.explanation import path_of, path_reason
from controller.core.protocols import Protocol, in_words_of
from controller.rest.schemas import answers
from controller.rest.schemas.queries import BindingsQuery, PageQuery

T = TypeVar("T")
OnRouter = TypeVar("OnRouter", answers.BindingOnRouter, answers.ExplanationOnRouter)
# What each member says, by its name.
Said = Mapping[str, T]


@dataclass(frozen=True, slots=True)
class Word:
    """Tell whose word counts for which router. `failures`: why members that were asked have not answered."""

    view: View
    failures: Mapping[str, str]

    def master(self, dpid: str) -> str | None:
        """Return the member whose word counts for a router: this one for a router that the cluster does not know."""
        mastership = self.view.routers.get(int(dpid, 16))
        return self.view.member if mastership is None else mastership.master

    def counts(self, member: str, dpid: str) -> bool:
        """Tell whether a member's word counts for a router."""
        return self.master(dpid) == member

    def counting(self, said: Said[Mapping[str, OnRouter]]) -> dict[str, OnRouter]:
        """Return what counts of what members say of routers, by datapath id."""
        found = (
            (dpid, each)
            for member, routers in said.items()
            for dpid, each in routers.items()
            if self.counts(member, dpid)
        )
        return dict(sorted(found, key=lambda pair: pair[0]))

    def why_unknown(self, dpid: str) -> str:
        """Say why nothing is known of a binding on a router."""
        if int(dpid, 16) not in self.view.routers:
            return "its switch is connected to no member of the cluster"
        master = self.master(dpid)
        if master is None:
            return "no member of the cluster is its master at present"
        if master in self.failures:
            return f"its master {master} has not answered: {self.failures[master]}"
        return f"its master {master} does not have the binding yet, or no word of the router's tunnel agent"

    def unanswered(self) -> list[answers.Unanswered]:
        """Return the members that have not answered, and the routers of which nothing is known for that."""
        return [
            answers.Unanswered(
                member,
                reason,
                [f"{dpid:016x}" for dpid, each in sorted(self.view.routers.items()) if each.master == member],
            )
            for member, reason in sorted(self.failures.items())
        ]


def merged_binding(said: Said[answers.Binding], prepared: Sequence[str], word: Word) -> answers.Binding:
    """Return a binding, with its state on the routers of all members, and on those `prepared` for its home agent.

    The first of `said` counts for all that is no router's.
    """
    first = next(iter(said.values()))
    if first.state == "withheld":
        return first
    routers = word.counting({member: each.routers for member, each in said.items()})
    for dpid in prepared:
        if dpid not in routers:
            routers[dpid] = answers.BindingOnRouter("unknown", 0, 0, word.why_unknown(dpid))
    masters = [each for member, each in said.items() if any(word.counts(member, dpid) for dpid in each.routers)]
    asked = [each.state == "active" for each in routers.values() if each.state != "idle"]
    any_idle = len(asked) < len(routers) or any(each.state == "idle" for each in said.values())
    state: State = together(asked, any_idle)
    if all(each.state == "held" for each in masters or [first]):
        state = "held"
    return structs.replace(first, routers=routers, state=state)


def merged_explanation(
    said: Said[answers.Explanation], unknown: Mapping[str, answers.ExplanationOnRouter], word: Word
) -> answers.Explanation:
    """Return an explanation that covers the routers of all members; `unknown`: how others are shown, by datapath id.

    The first of `said` counts for all that is no router's.
    """
    first = next(iter(said.values()))
    bindings = {member: each.binding for member, each in said.items() if each.binding is not None}
    if not bindings or first.binding is None:
        return first
    binding = merged_binding(bindings, list(unknown), word)
    routers = word.counting({member: each.routers for member, each in said.items()})
    routers |= {dpid: each for dpid, each in unknown.items() if dpid not in routers}
    path, reason = path_of(binding.state), first.reason
    if binding.state not in ("held", "withheld"):
        why_not = {int(dpid, 16): None if each.state == "active" else each.reason for dpid, each in routers.items()}
        prepared = {int(dpid, 16): why_not.pop(int(dpid, 16)) for dpid in binding.routers if dpid in routers}
        is_down = first.home_agent.status == "ha-down"
        reason = path_reason(path, binding.care_of_address, is_down, prepared, why_not)
        reason = in_words_of(Protocol(binding.protocol), reason)
    return structs.replace(
        first,
        path=path,
        since=max((each.since for each in said.values() if each.since is not None), default=None),
        reason=reason,
        binding=binding,
        routers=routers,
        would_change=list(dict.fromkeys(chain.from_iterable(each.would_change for each in said.values()))),
    )


def merged_bindings(
    said: Said[answers.Bindings],
    query: BindingsQuery,
    prepared: Callable[[Said[answers.Binding]], Sequence[str]],
    word: Word,
) -> answers.Bindings:
    """Return a page of bindings; `prepared` returns the routers that are prepared for a binding.

    Members may differ in which bindings they have, so the page ends where the first of them ends its own.
    """
    by_address: dict[str, dict[str, answers.Binding]] = {}
    for member, page in said.items():
        for binding in page.bindings:
            by_address.setdefault(place_of(binding.home_address, binding.protocol), {})[member] = binding
    shown: list[answers.Binding] = []
    complete, following = _complete(by_address, [page.next for page in said.values()])
    for home_address in complete:
        if len(shown) == query.limit:
            following = place_of(shown[-1].home_address, shown[-1].protocol)
            break
        held = by_address[home_address]
        binding = merged_binding(held, prepared(held), word)
        if query.state in (UNSET, binding.state):
            shown.append(binding)
    return answers.Bindings(shown, following, word.unanswered() or UNSET)


def place_of(home_address: str, protocol: Protocol) -> str:
    """Return the text by which a binding has its place in a list: that of its key."""
    return home_address if protocol is Protocol.MIPV6 else f"{home_address} {protocol.value}"


def merged_results(said: Said[answers.BatchResults]) -> answers.BatchResults:
    """Return the results of a batch that all members have got: refused is what any of them refuses."""
    found = []
    for of_one in zip(*(each.results for each in said.values()), strict=True):
        refusing = next((place for place, result in enumerate(of_one) if result.status >= 400), None)
        found.append(of_one[0 if refusing is None else refusing])
    return answers.BatchResults(found)


def merged_routers(said: Said[answers.Routers], query: PageQuery, word: Word) -> answers.Routers:
    """Return a page of routers, each as its master shows it."""
    routers = {
        each.dpid: each for member, page in said.items() for each in page.routers if word.counts(member, each.dpid)
    }
    complete, following = _complete(routers, [page.next for page in said.values()])
    page = complete[: query.limit]
    following = page[-1] if len(page) < len(complete) else following
    return answers.Routers([routers[dpid] for dpid in page], following, word.unanswered() or UNSET)


def _complete(found: Iterable[str], ends: Iterable[str | None]) -> tuple[list[str], str | None]:
    """Return what was found up to where the first page ends of those put together, and that end; None: at the last."""
    end = min((each for each in ends if each is not None), default=None)
    return sorted(each for each in found if end is None or each <= end), end
