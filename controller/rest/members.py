# SPDX-License-Identifier: Apache-2.0
"""Let any member of a cluster take any call: pass it on to whoever has to act, or ask whoever knows.

A call that was passed on says so, and for whom it is (`hoaflow.scope`), and is never passed on again. Bridges say the
same without a name, as they tell every member themselves.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import msgspec
from werkzeug.wrappers import Response

from controller.access.roles import Role
from controller.cluster.peers import PeerAnswer, PeerCall, PeerFailed, Peers
from controller.cluster.view import Cluster, Member, View
from controller.rest.merging import Word
from controller.rest.problems import REFUSALS, Problem, problem_of
from controller.rest.request import ApiRequest
from controller.rest.schemas.answers import FieldError, ProblemDetails
from hoaflow.scope import ADDRESSEE, MEMBER, SCOPE

# Seconds for the answers of other members that are put together with one's own: they may have to ask their switches.
ASKED_WITHIN = 5.0
# Seconds for the answer to a call that is passed on, and beyond what is waited for a switch, if the call asks for that.
ANSWERED_WITHIN, MARGIN = 10.0, 5.0

T = TypeVar("T")


class Outcome(NamedTuple):
    """What came of a call at one member: the answer's status and content, and why it was not carried out, if not."""

    member: str
    status: int
    content: bytes
    failure: str | None


class Members:
    """Reach the other members of the cluster."""

    def __init__(self, cluster: Cluster, peers: Peers, request_timeout: float) -> None:
        """`request_timeout`: seconds that a member waits at the most for a switch."""
        self._cluster = cluster
        self._peers = peers
        self._waited_within = request_timeout + MARGIN

    @property
    def view(self) -> View:
        """Return the cluster as it is now."""
        return self._cluster.view()

    def master_and_generation(self, dpid: int) -> tuple[bool, int]:
        """Tell whether this member is a router's master, and the newest generation of its masters."""
        return self._cluster.master_and_generation(dpid)

    def check_addressee(self, request: ApiRequest) -> None:
        """Raise Problem for a call that is for a member of another name."""
        this = self.view.member
        addressee = request.headers.get(ADDRESSEE, this)
        if addressee != this:
            raise Problem(HTTPStatus.MISDIRECTED_REQUEST, f"the call is for {addressee[:80]}, and this is {this}")

    def is_for_this_one(self, request: ApiRequest) -> bool:
        """Tell whether a call concerns no other member: it was passed on by one, or there is none."""
        return _was_passed_on(request) or not self.view.others()

    def record_drain(self, dpid: int, draining: bool) -> None:
        """Have the cluster keep that a router is out of service, or back in it. Raises NotRecorded."""
        self._cluster.record_drain(dpid, draining)

    def by_master(self, request: ApiRequest, dpid: int, act: Callable[[], Response]) -> Response:
        """Have the master of a router carry a call out; `act` does it here. Raises Problem if it does not answer.

        A router without a master is this member's. A master that is stopped is waited for only until it is replaced.
        """
        if _was_passed_on(request) and request.is_abandoned:
            # This member may have been stopped: since the call was sent, somebody may have had another do the contrary.
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too late: whoever passed the call on has hung up")
        view = self.view
        master = view.members.get(view.master_elsewhere(dpid) or "")
        if master is None:
            return act()
        if _was_passed_on(request):
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{view.member} is not the master of router {dpid:016x} any more, {master.name} is; try again",
            )

        def why_stop() -> str | None:
            is_master = self.view.master_elsewhere(dpid) == master.name
            return None if is_master else "no answer as long as it was the master, which it is not any more"

        try:
            answer = self._peers.start(master, self._call(request, self._within(request)), why_stop)()
        except PeerFailed as failed:
            detail = f"the master of router {dpid:016x} has not answered: {failed}"
            if request.method != "GET" and not failed.undone:
                detail += "; whether it has carried the call out is not known: call again"
            error = FieldError(failed.member, failed.reason)
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, (error,)) from None
        return Response(answer.content, answer.status, content_type=answer.content_type)

    def by_all(self, request: ApiRequest, act: Callable[[], Response]) -> "Everywhere":
        """Have every member carry a call out, each once; `act` does it here.

        Raises Problem if some have and others have not, which says who. It may be called again then: calls are
        idempotent.
        """
        view, others = self.view, self.view.others()
        if self.is_for_this_one(request) or request.caller.role is Role.BRIDGE:
            return Everywhere(act(), view, {})
        call = self._call(request, self._within(request))
        waits = [(other, self._peers.start(other, call)) for other in others]
        try:
            response = act()
        except REFUSALS as error:
            response = problem_of(error).get_response()
        outcomes = [_outcome(view.member, response.status_code, response.get_data(), request.method)]
        outcomes += [_outcome_elsewhere(other, wait, request.method) for other, wait in waits]
        return Everywhere(_together(response, outcomes), view, {each.member: each.content for each in outcomes})

    def ask_masters(self, request: ApiRequest, target: str | None = None) -> "Asked":
        """Ask all other members that are master of a router; nobody for a call that is for this member.

        `target` is path and query, by default those of the request.
        """
        view = self.view
        if self.is_for_this_one(request):
            return Asked(view, {}, {})
        masters = {each.master for each in view.routers.values()}
        call = PeerCall("GET", target or request.target, None, ASKED_WITHIN)  # also where the content is not wanted
        waits = [(other, self._peers.start(other, call)) for other in view.others() if other.name in masters]
        answers: dict[str, PeerAnswer] = {}
        failures: dict[str, str] = {}
        for other, wait in waits:
            try:
                answers[other.name] = wait()
            except PeerFailed as failed:
                failures[other.name] = failed.reason
        return Asked(view, answers, failures)

    def _within(self, request: ApiRequest) -> float:
        """Return the seconds that a call may take that is passed on: some are answered once a switch has confirmed."""
        waits = "wait" in request.fields_of_query() or request.path.endswith("/drain")
        return self._waited_within if waits else ANSWERED_WITHIN

    @staticmethod
    def _call(request: ApiRequest, seconds: float) -> PeerCall:
        return PeerCall(request.method, request.target, request.received or None, seconds)


class Everywhere(NamedTuple):
    """What came of a call that all members have carried out, or refused for the same reason.

    `contents` are the answers by member, this one's first; none if the call was for this member only.
    """

    response: Response
    view: View
    contents: Mapping[str, bytes]

    def said(self, type_: type[T]) -> tuple[dict[str, T], Word]:
        """Return what the members say that answer with this type, and how much each word counts."""
        said: dict[str, T] = {}
        for member, content in self.contents.items():
            with suppress(msgspec.ValidationError):  # one that has removed a binding answers otherwise
                said[member] = msgspec.json.decode(content, type=type_)
        return said, Word(self.view, {})


class Asked(NamedTuple):
    """What other members have answered, and why those that have not did not."""

    view: View
    answers: Mapping[str, PeerAnswer]
    failures: Mapping[str, str]

    def said(self, own: T | None, type_: type[T]) -> tuple[dict[str, T], Word]:
        """Return what all members say, this one first unless it says nothing, and how much each word counts."""
        failures = dict(self.failures)
        said = {} if own is None else {self.view.member: own}
        for member, answer in self.answers.items():
            if answer.status == HTTPStatus.OK:
                try:
                    said[member] = msgspec.json.decode(answer.content, type=type_)
                except msgspec.MsgspecError as error:  # while members are upgraded, one after the other
                    failures[member] = f"its answer is of another version: {error}"
            elif answer.status != HTTPStatus.NOT_FOUND:
                failures[member] = _refusal(answer.status, answer.content)
        return said, Word(self.view, failures)


def _was_passed_on(request: ApiRequest) -> bool:
    return request.headers.get(SCOPE) == MEMBER


def _outcome_elsewhere(member: Member, wait: Callable[[], PeerAnswer], method: str) -> Outcome:
    try:
        answer = wait()
    except PeerFailed as failed:
        return Outcome(member.name, HTTPStatus.SERVICE_UNAVAILABLE, b"", failed.reason)
    return _outcome(member.name, answer.status, answer.content, method)


def _outcome(member: str, status: int, content: bytes, method: str) -> Outcome:
    gone = method == "DELETE" and status == HTTPStatus.NOT_FOUND
    done = status < HTTPStatus.BAD_REQUEST or gone
    return Outcome(member, status, content, None if done else _refusal(status, content))


def _refusal(status: int, content: bytes) -> str:
    try:
        return f"{status} {msgspec.json.decode(content, type=ProblemDetails).detail}"
    except msgspec.MsgspecError:
        return f"{status}, without the details that a member of this version gives"


def _together(own: Response, outcomes: list[Outcome]) -> Response:
    """Return the answer to a call that all members have got; `own` is this member's, the first of `outcomes`."""
    statuses = {outcome.status for outcome in outcomes}
    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    if not failed:
        if own.status_code == HTTPStatus.NOT_FOUND and HTTPStatus.NO_CONTENT in statuses:
            return Response(status=HTTPStatus.NO_CONTENT)
        return own
    if len(statuses) == 1:  # all refuse it for the same reason
        return own
    done = ", ".join(outcome.member for outcome in outcomes if outcome.failure is None)
    reasons = "; ".join(f"{outcome.member}: {outcome.failure}" for outcome in failed)
    raise Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"done by {done or 'no member'}, but not by {reasons}. Call again: what is done already changes nothing",
        tuple(FieldError(outcome.member, outcome.failure or "") for outcome in failed),
    )
