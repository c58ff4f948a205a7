# SPDX-License-Identifier: Apache-2.0
"""Lets a request in, or answers 401, 403 or 429 before anything of it is carried out or its body is read."""

import ipaddress
import math
import time
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

from controller.access.limits import Allowance, Limits, TooMuch
from controller.access.roles import ANONYMOUS, LOCAL, Caller, Role
from controller.access.tokens import Tokens
from controller.rest.http.connections import LET_IN
from controller.rest.operations import Operation
from controller.rest.problems import Problem
from controller.rest.schemas import bodies
from controller.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

CALLER, AUTHORIZATION = "hoaflow.caller", "hoaflow.authorization"
# What browsers say of a request that a page of another origin makes (Fetch Metadata).
OTHER_SITES = {"cross-site", "same-site"}


class Visit:
    """A request that has been let in, and whose it is; ``leave`` has to be called when it has been answered."""

    __slots__ = ("_body_bytes", "_client", "_limits", "caller")

    def __init__(self, caller: Caller, limits: Limits, client: str, body_bytes: int) -> None:
        self.caller = caller
        self._limits = limits
        self._client = client
        self._body_bytes = body_bytes

    def leave(self) -> None:
        """The request has been answered."""
        self._limits.leave(self._client, self._body_bytes)


class Authorization:
    """Knows who may call. Without ``tokens`` that is everybody who is on this host, and no page of a foreign site."""

    def __init__(self, tokens: Tokens | None, settings: Settings) -> None:
        """``settings`` say how much each token may ask, or each address without tokens, and how much strangers may."""
        in_flight, self._largest_body = settings.requests_in_flight, settings.largest_body
        self._tokens = tokens
        # Two of the largest bodies: a snapshot, and what happens meanwhile.
        self._known = Limits(Allowance(settings.requests_per_second, in_flight, 2 * self._largest_body))
        self._strangers = Limits(Allowance(settings.anonymous_requests_per_second, in_flight, body_bytes=0))

    def admit(self, request: Request, operation: Operation, in_path: Mapping[str, str]) -> Visit:
        """Let a request in. Raises Problem, and Forbidden for what a token is not for."""
        visit = self._enter(request, operation)
        environ, caller = request.environ, visit.caller
        try:
            environ[CALLER], environ[AUTHORIZATION] = caller, self
            _check_role(caller, operation, "HTTP_AUTHORIZATION" in environ)
            _check_scope(caller, in_path)
        except Exception:
            visit.leave()
            raise
        if caller is not ANONYMOUS and LET_IN in environ:
            environ[LET_IN]()
        return visit

    def count(self, request: Request) -> None:
        """Count a request that is for no call as any other. Raises Problem if it is one too many, or a foreign page's
        where there are no tokens."""
        self._enter(request, None).leave()

    @property
    def needs_tokens(self) -> bool:
        """Whether calls need a token."""
        return self._tokens is not None

    def still_knows(self, caller: Caller) -> bool:
        """Tell whether a caller that was let in would be so again."""
        return self._tokens is None or caller is ANONYMOUS or self._tokens.holds(caller)

    def _enter(self, request: Request, operation: Operation | None) -> Visit:
        """Begin a visit, for no call if there is no ``operation``. Raises Problem."""
        caller = self._caller(request.environ, operation)
        address = str(request.environ.get("REMOTE_ADDR", ""))
        if caller is ANONYMOUS:
            limits, client, body_bytes = self._strangers, address, 0
        else:
            limits, client, body_bytes = self._known, address if caller is LOCAL else caller.name, 0
            if operation is not None and operation.body is not None:
                length = request.content_length
                body_bytes = self._largest_body if length is None else min(length, self._largest_body)
        try:
            limits.enter(client, body_bytes, time.monotonic())
        except TooMuch as error:
            wait = {"Retry-After": str(math.ceil(error.retry_after))}
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, f"{client} may make {error}", headers=wait) from None
        return Visit(caller, limits, client, body_bytes)

    def _caller(self, environ: "WSGIEnvironment", operation: Operation | None) -> Caller:
        if self._tokens is None:
            _check_on_this_host(environ, operation)
            return LOCAL
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        found = self._tokens.find(token.strip()) if scheme.lower() == "bearer" else None
        return ANONYMOUS if found is None else found


def caller_of(request: Request) -> Caller:
    """Return who makes a request that has been let in."""
    caller: Caller = request.environ[CALLER]
    return caller


def may_go_on(request: Request) -> bool:
    """Tell whether who makes a request that has been let in would be so again: an answer without an end has to ask."""
    authorization: Authorization = request.environ[AUTHORIZATION]
    return authorization.still_knows(caller_of(request))


def _check_role(caller: Caller, operation: Operation, has_token: bool) -> None:
    if operation.needs is Role.ANYONE or caller.role in (Role.ADMIN, operation.needs):
        return
    if caller.role is Role.BRIDGE and operation.own:
        return
    if caller is ANONYMOUS:
        # RFC 6750, section 3.
        challenge = 'Bearer realm="hoaflow"' + (', error="invalid_token"' if has_token else "")
        detail = "this token is not known here" if has_token else "this call needs a token (Authorization: Bearer)"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})
    raise Problem(
        HTTPStatus.FORBIDDEN,
        f"token {caller.name} is for {caller.role.value}, this call needs {operation.needs.value}",
        headers={"WWW-Authenticate": 'Bearer realm="hoaflow", error="insufficient_scope"'},
    )


def _check_scope(caller: Caller, in_path: Mapping[str, str]) -> None:
    """Raise Forbidden for a path that names another's home agent, home address or router."""
    if caller.role is Role.BRIDGE:
        if "address" in in_path:
            caller.check_home_agent(bodies.address_in_path(in_path["address"]), "address")
        if "home_address" in in_path:
            caller.check_home_address(bodies.prefix_in_path(in_path["home_address"]))
    elif caller.role is Role.ROUTER and "dpid" in in_path:
        caller.check_router(bodies.dpid_in_path(in_path["dpid"]))


def _check_on_this_host(environ: "WSGIEnvironment", operation: Operation | None) -> None:
    """Refuse what a page of a foreign site makes a browser on this host ask. Raises Problem.

    Without tokens nothing else would tell such a request from the operator's. A page whose name its owner makes lead
    here (DNS rebinding) has that name in Host; any other page's requests carry Origin or Sec-Fetch-Site.
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
