# SPDX-License-Identifier: Apache-2.0
"""Admit a request, or answer 401, 403 or 429 before any of it is carried out and before its body is read.

Ours because no library here knows roles bound to a home agent or router, limits per client, or foreign pages that
misuse an operator's browser.
"""

import ipaddress
import math
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from controller.access.limits import Allowance, Limits, TooManyRequests
from controller.access.roles import ANONYMOUS, LOCAL, Caller, Role
from controller.access.tokens import Tokens
from controller.rest.http.connections import ADMITTED
from controller.rest.operations import Operation, Reach
from controller.rest.problems import Problem
from controller.rest.request import ApiRequest
from controller.rest.schemas import decoding
from controller.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Values of Sec-Fetch-Site for a request from a page of another origin (Fetch Metadata).
OTHER_SITES = {"cross-site", "same-site"}


class Admission:
    """Count a request against its client's limits until `end` is called, after the answer."""

    __slots__ = ("_body_bytes", "_client", "_limits", "caller")

    def __init__(self, caller: Caller, limits: Limits, client: str, body_bytes: int) -> None:
        self.caller = caller
        self._limits = limits
        self._client = client
        self._body_bytes = body_bytes

    def end(self) -> None:
        """Give back the request's share of its client's limits."""
        self._limits.leave(self._client, self._body_bytes)


class Authorization:
    """Decide who may call: with `tokens` their holders, without them everybody on this host but no foreign page."""

    def __init__(self, tokens: Tokens | None, settings: Settings) -> None:
        """Take the limits of each token, of each address without tokens, and of strangers from `settings`."""
        in_flight, self._largest_body = settings.requests_in_flight, settings.largest_body
        self._tokens = tokens
        # Two of the largest bodies: a snapshot, and reports that come meanwhile.
        self._known = Limits(Allowance(settings.requests_per_second, in_flight, 2 * self._largest_body))
        self._strangers = Limits(Allowance(settings.anonymous_requests_per_second, in_flight, body_bytes=0))

    def admit(self, request: ApiRequest, operation: Operation, in_path: Mapping[str, str]) -> Admission:
        """Admit a request. Raises Problem, and Forbidden if the token is for another home agent or router."""
        admission = self._enter(request, operation)
        caller = request.known_caller = admission.caller
        request.still_authorized = partial(self._still_knows, caller)
        try:
            _check_role(caller, operation, "HTTP_AUTHORIZATION" in request.environ)
            _check_scope(caller, in_path)
        except Exception:
            admission.end()
            raise
        if caller is not ANONYMOUS and ADMITTED in request.environ:
            request.environ[ADMITTED]()
        return admission

    def count(self, request: ApiRequest) -> None:
        """Count a request without a call, such as one for an unknown path, like any other.

        Raises Problem if it is one too many, or comes from a foreign page where there are no tokens.
        """
        self._enter(request, None).end()

    @property
    def needs_tokens(self) -> bool:
        """Tell whether calls need a token."""
        return self._tokens is not None

    def _still_knows(self, caller: Caller) -> bool:
        return self._tokens is None or caller is ANONYMOUS or self._tokens.holds(caller)

    def _enter(self, request: ApiRequest, operation: Operation | None) -> Admission:
        """Count a request; `operation` is None if it is for no call. Raises Problem."""
        caller = self._caller(request, operation)
        address = request.remote_addr or ""
        if caller is ANONYMOUS:
            limits, client, body_bytes = self._strangers, address, 0
        else:
            limits, client, body_bytes = self._known, address if caller is LOCAL else caller.name, 0
            if operation is not None and operation.body is not None:
                length = request.content_length
                body_bytes = self._largest_body if length is None else min(length, self._largest_body)
        try:
            limits.enter(client, body_bytes, time.monotonic())
        except TooManyRequests as error:
            wait = {"Retry-After": str(math.ceil(error.retry_after))}
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, f"{client} may make {error}", headers=wait) from None
        return Admission(caller, limits, client, body_bytes)

    def _caller(self, request: ApiRequest, operation: Operation | None) -> Caller:
        if self._tokens is None:
            _check_on_this_host(request.environ, operation)
            return LOCAL
        given = request.authorization
        if given is None or given.type != "bearer" or given.token is None:
            return ANONYMOUS
        return self._tokens.find(given.token) or ANONYMOUS


def _check_role(caller: Caller, operation: Operation, has_token: bool) -> None:
    """Raise Problem for a call that the caller's role may not make."""
    if operation.needs is Role.ANYONE or caller.role in (Role.ADMIN, operation.needs, *operation.also):
        return
    if caller.role is Role.MEMBER and operation.reach is not Reach.ASKED:
        return
    if caller is ANONYMOUS:
        # RFC 6750 section 3. Not by werkzeug, which leaves out the quotes that RFC 9110 section 11.5 demands of realm.
        challenge = 'Bearer realm="hoaflow"' + (', error="invalid_token"' if has_token else "")
        detail = "this token is not known here" if has_token else "this call needs a token (Authorization: Bearer)"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})
    raise Problem(
        HTTPStatus.FORBIDDEN,
        f"token {caller.name} is for {caller.role.value}, this call needs {operation.needs.value}",
        headers={"WWW-Authenticate": 'Bearer realm="hoaflow", error="insufficient_scope"'},
    )


def _check_scope(caller: Caller, in_path: Mapping[str, str]) -> None:
    """Raise Forbidden for a path with another's home agent, home address or router."""
    if caller.role is Role.BRIDGE:
        if "address" in in_path:
            caller.check_home_agent(decoding.address_in_path(in_path["address"]), "address")
        if "home_address" in in_path:
            caller.check_home_address(decoding.prefix_in_path(in_path["home_address"]))
    elif caller.role is Role.ROUTER and "dpid" in in_path:
        caller.check_router(decoding.dpid_in_path(in_path["dpid"]))


def _check_on_this_host(environ: "WSGIEnvironment", operation: Operation | None) -> None:
    """Refuse a request that a foreign page makes through a browser on this host. Raises Problem.

    Without tokens nothing else distinguishes it from the operator's own. A page whose name is made to lead here (DNS
    rebinding) has that name in Host; the requests of any other page carry Origin or Sec-Fetch-Site.
    """
    name = environ.get("HTTP_HOST", "")
    if not _is_loopback(name):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"expected a Host header of this host, such as 127.0.0.1 or localhost, got {name[:80]!r}:"
            " without tokens the API is for this host alone",
        )
    if operation is None or operation.needs is Role.ANYONE:
        return
    origin = environ.get("HTTP_ORIGIN")
    foreign = origin is not None and origin.partition("://")[2].lower() != name.lower()
    if foreign or environ.get("HTTP_SEC_FETCH_SITE") in OTHER_SITES:
        raise Problem(
            HTTPStatus.FORBIDDEN, "a page of another site may not call: without tokens the API is for this host alone"
        )


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    """Tell whether a Host header, with or without a port, names this host's loopback interface."""
    name = host.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
