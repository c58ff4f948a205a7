# SPDX-License-Identifier: Apache-2.0
"""Call the controllers in threads, two for each, so that none has to wait for another."""

from collections.abc import Callable
from typing import TypeVar

from hoaflow.client.access import Access, warn_of_clear_token
from hoaflow.client.cluster import resolve
from hoaflow.client.directory import ClusterView
from hoaflow.client.errors import NorthboundError
from hoaflow.closing import Closing
from hoaflow.router.client import Controller, ControllerError, Refused, UnknownRouter
from hoaflow.router.member import Acknowledge, Ask, Command, Member, Poll
from hoaflow.router.members import Members
from hoaflow.router.outcomes import Outcomes
from hoaflow.worker import Worker

T = TypeVar("T")


class Calls(Closing):
    """Carry out the commands for all `members` on behalf of router `dpid`; what comes of them goes to `outcomes`."""

    def __init__(self, members: Members, dpid: str, access: Access, outcomes: Outcomes) -> None:
        self._members = members
        self._dpid = dpid
        self._access = access
        self._outcomes = outcomes
        self._resolver = Worker("names", self._resolve, self._crashed)
        self._connections: dict[Member, _Connection] = {}

    def submit(self, member: Member, command: Command) -> None:
        """Have a command carried out for `member`."""
        if member not in self._connections:
            warn_of_clear_token(str(member.address), self._access)
            polling, announcing = (Controller(member.address, self._dpid, self._access) for _ in range(2))
            self._connections[member] = _Connection(
                member, self._members, polling, announcing, self._outcomes, self._crashed
            )
        self._connections[member].submit(command)

    def resolve(self, urls: tuple[str, ...]) -> None:
        """Have the names in URLs of controllers resolved."""
        self._resolver.submit(urls)

    def leave_vanished(self) -> None:
        """End the connections to controllers that are no members any more."""
        for member in self._connections.keys() - set(self._members):
            self._connections.pop(member).dismiss()

    def close(self) -> None:
        """End all threads after the calls under way, without waiting for them."""
        self._resolver.dismiss()
        for connection in self._connections.values():
            connection.dismiss()

    def _resolve(self, urls: tuple[str, ...]) -> None:
        found = {url: resolve(url) for url in urls}
        self._outcomes.put(lambda now: self._members.resolved(found, now))

    def _crashed(self, error: BaseException) -> None:
        def fail(_now: float) -> None:
            raise error

        self._outcomes.put(fail)


class _Connection:
    """Carry out the commands for one controller: a poll may be under way while something else is said."""

    def __init__(
        self,
        member: Member,
        members: Members,
        polling: Controller,
        announcing: Controller,
        outcomes: Outcomes,
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._member = member
        self._members = members
        self._polling, self._announcing = polling, announcing
        self._outcomes = outcomes
        self._polls = Worker(f"polls {member.address}", self._poll, crashed)
        self._announcements = Worker(f"announcements {member.address}", self._announce_or_ask, crashed)

    def submit(self, command: Command) -> None:
        """Have a command carried out."""
        (self._polls if isinstance(command, Poll) else self._announcements).submit(command)

    def dismiss(self) -> None:
        """End after the commands under way."""
        self._polls.dismiss()
        self._announcements.dismiss()

    def _poll(self, command: Poll) -> None:
        outcome = _outcome(self._polling, lambda: self._polling.tunnels(command.after, command.wait))
        self._outcomes.put(lambda now: self._members.polled(self._member, outcome, now))

    def _announce_or_ask(self, command: Acknowledge | Ask) -> None:
        controller = self._announcing
        if isinstance(command, Ask):
            view = _view(controller)
            self._outcomes.put(lambda now: self._members.asked(self._member, view, now))
            return
        outcome = _outcome(controller, lambda: controller.acknowledge(command.revision, command.announcement))
        self._outcomes.put(lambda now: self._members.acknowledged(self._member, command, outcome, now))


def _outcome(controller: Controller, call: Callable[[], T]) -> T | ControllerError:
    try:
        return call()
    except (UnknownRouter, Refused) as error:
        return error
    except ControllerError as error:
        controller.close()  # its connections are suspect
        return error


def _view(controller: Controller) -> ClusterView | NorthboundError:
    try:
        return controller.ask_cluster()
    except NorthboundError as error:
        return error
