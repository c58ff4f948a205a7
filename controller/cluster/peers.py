# SPDX-License-Identifier: Apache-2.0
"""Call other members of the cluster by REST. Each call has a time-out, and says that it must not be passed on again."""

from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import eventlet

from controller.cluster.view import Member
from controller.settings import Settings, WrongSettings
from hoaflow.client.access import Access
from hoaflow.client.client import Northbound
from hoaflow.client.errors import AccessError, NorthboundError
from hoaflow.client.token_file import read_token
from hoaflow.errors import HoaflowError
from hoaflow.scope import ADDRESSEE, THIS_MEMBER

CONNECT_TIMEOUT = 2.0  # seconds
LOOKED_EVERY = 0.25  # seconds in which it is looked once whether an answer is still worth waiting for


class PeerFailed(HoaflowError):
    """Another member has not answered; `reason` says why.

    It may have carried the call out all the same, unless `undone`: it has certainly not.
    """

    def __init__(self, member: str, reason: str, undone: bool = False) -> None:
        super().__init__(f"{member}: {reason}")
        self.member = member
        self.reason = reason
        self.undone = undone


class PeerAnswer(NamedTuple):
    """What another member has answered, whatever the status."""

    member: str
    status: int
    content_type: str
    content: bytes


class PeerCall(NamedTuple):
    """A call to make: `target` is path and query, `body` JSON, `seconds` the time for all of it."""

    method: str
    target: str
    body: bytes | None
    seconds: float


def member_access(settings: Settings) -> Access:
    """Return the files by which members know each other. Raises WrongSettings for one that can't be used."""
    files = (settings.member_token_file, settings.member_ca, settings.member_certificate, settings.member_key)
    access = Access(*(None if file is None else Path(file) for file in files))
    try:
        access.check()
    except AccessError as error:
        raise WrongSettings(f"member_token_file, member_ca, member_certificate, member_key: {error}") from None
    return access


def peers_of(settings: Settings) -> "Peers":
    """Return what calls the other members as these settings have it. Raises WrongSettings."""
    return Peers(member_access(settings), tls_only=(settings.member_url or "").startswith("https://"))


class Peers:
    """Call other members, each at its URL, by the token or certificate of `access`.

    Their URLs come from etcd. With `tls_only`, whoever may write there gets no token by naming one in clear.
    """

    def __init__(self, access: Access, tls_only: bool = False) -> None:
        self._access = access
        self._tls_only = tls_only

    def start(
        self, member: Member, call: PeerCall, why_stop: Callable[[], str | None] = lambda: None
    ) -> Callable[[], PeerAnswer]:
        """Begin a call. The function returned waits for the answer; it raises PeerFailed.

        `why_stop` is asked again and again, and ends the call by returning a reason.
        """
        calling = eventlet.spawn(self._outcome, member, call)

        def wait() -> PeerAnswer:
            while True:
                with eventlet.Timeout(LOOKED_EVERY, False):
                    outcome: PeerAnswer | PeerFailed = calling.wait()
                    if isinstance(outcome, PeerFailed):
                        raise outcome
                    return outcome
                if (reason := why_stop()) is not None:
                    calling.kill()
                    raise PeerFailed(member.name, reason)

        return wait

    def _outcome(self, member: Member, call: PeerCall) -> PeerAnswer | PeerFailed:
        """Return the answer or the failure: eventlet writes a traceback of what a greenlet raises."""
        try:
            answer = self._call(member, call)
        except PeerFailed as failed:
            return failed
        if answer.status == HTTPStatus.MISDIRECTED_REQUEST:
            return PeerFailed(member.name, f"{member.url} is not {member.name}: is its member_url right?", undone=True)
        return answer

    def connection(self, member: Member, seconds: float) -> HTTPConnection:
        """Return a connection, not made yet; each of its steps may take `seconds`. Raises PeerFailed, AccessError."""
        parts = urlsplit(self._url(member))
        host = parts.hostname or ""
        if parts.scheme == "https":
            return HTTPSConnection(host, parts.port, timeout=seconds, context=self._access.tls_context())
        return HTTPConnection(host, parts.port, timeout=seconds)

    def headers(self, member: Member) -> dict[str, str]:
        """Return what a call of a member says of its caller, and of whom it is for. Raises AccessError."""
        file = self._access.token_file
        token = {} if file is None else {"Authorization": f"Bearer {read_token(file)}"}
        return {**THIS_MEMBER, ADDRESSEE: member.name, **token}

    def _url(self, member: Member) -> str:
        if member.url is None:
            raise PeerFailed(member.name, "it has not said where it can be reached (member_url)", undone=True)
        if self._tls_only and not member.url.startswith("https://"):
            reason = f"{member.url} is in clear, while this controller's member_url is https: correct its member_url"
            raise PeerFailed(member.name, reason, undone=True)
        return member.url

    def _call(self, member: Member, call: PeerCall) -> PeerAnswer:
        url = self._url(member)
        try:
            # A client for each call: it reads the certificates anew, and its connections are nobody else's.
            with eventlet.Timeout(call.seconds), Northbound(url, self._access) as client:
                timeouts = (CONNECT_TIMEOUT, call.seconds)
                headers = {**THIS_MEMBER, ADDRESSEE: member.name}
                answer = client.request(call.method, call.target, timeouts, call.body, headers=headers)
        except eventlet.Timeout:
            raise PeerFailed(member.name, f"no answer from {url} within {call.seconds:g} s") from None
        except (NorthboundError, AccessError, ValueError) as error:
            raise PeerFailed(member.name, str(error)) from None
        return PeerAnswer(member.name, answer.status_code, answer.headers.get("Content-Type", ""), answer.content)
