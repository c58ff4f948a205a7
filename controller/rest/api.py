# SPDX-License-Identifier: Apache-2.0
"""Run the northbound API as a WSGI application: route and admit a request, and answer refusals with problems."""

from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import ContentSecurityPolicy
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map
from werkzeug.wrappers import Response

from controller.core.bindings import StaleUpdate
from controller.rest.audit import Audit
from controller.rest.authorization import Authorization
from controller.rest.calls.bindings import BindingCalls
from controller.rest.calls.cluster import ClusterCalls
from controller.rest.calls.events import EventCalls
from controller.rest.calls.home_agents import HomeAgentCalls
from controller.rest.calls.pages import PageCalls
from controller.rest.calls.routers import RouterCalls
from controller.rest.calls.system import SystemCalls
from controller.rest.context import ApiContext
from controller.rest.openapi import document
from controller.rest.operations import CONVERTERS, Operation, Reach, operations_of
from controller.rest.problems import REFUSALS, Problem, problem_of
from controller.rest.request import ApiRequest
from controller.rest.schemas.decoding import address_in_path, decode_either, dpid_in_path
from controller.rest.schemas.queries import decode_query
from hoaflow.addresses import format_address
from hoaflow.logs import Log

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Pages load nothing from other hosts, run only the scripts in their own files, and are shown in no frame. Charts and
# Swagger UI set inline styles, and have images in their style sheets.
POLICY = ContentSecurityPolicy(
    {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
)
SECURITY_HEADERS = (
    ("Content-Security-Policy", POLICY.to_header()),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)

LOG = Log("rest")

SUBJECTS = (BindingCalls, HomeAgentCalls, RouterCalls, ClusterCalls, EventCalls, SystemCalls)
OPERATIONS = [operation for subject in (*SUBJECTS, PageCalls) for operation in operations_of(subject)]


class RestApi:
    """Route each request with werkzeug, admit it, and carry it out."""

    def __init__(self, context: ApiContext, authorization: Authorization) -> None:
        pages = PageCalls(document(OPERATIONS, authorization.needs_tokens))
        subjects = [*(subject(context) for subject in SUBJECTS), pages]
        rules = [operation.rule(subject) for subject in subjects for operation in operations_of(type(subject))]
        urls = Map(rules, strict_slashes=False, merge_slashes=False, converters=CONVERTERS)
        self._urls = urls.bind("localhost")  # once: no rule depends on the host, which costs as much as the rest
        self._settings = context.settings
        self._members = context.members
        self._metrics = context.metrics
        self._authorization = authorization
        self._audit = Audit()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        request = ApiRequest(environ)
        response = self._answer(request)
        response.headers.extend(SECURITY_HEADERS)
        self._audit.record(request, response)
        return response(environ, start_response)

    def _answer(self, request: ApiRequest) -> Response:
        """Return the answer; a refusal becomes a problem."""
        stale = False
        try:
            return self._carry_out(request)
        except REFUSALS as error:
            problem, stale = problem_of(error), isinstance(error, StaleUpdate)
        except Exception:
            # An error in this program: the traceback goes to the log, not to the client.
            LOG.exception("request-failed", method=request.method, path=request.path)
            problem = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error in the controller, see its log")
        self._metrics.refused(problem.status, stale)
        return problem.get_response()

    def _carry_out(self, request: ApiRequest) -> Response:
        try:
            (operation, handler), in_path = self._urls.match(request.path, request.method)
        except HTTPException as error:
            self._authorization.count(request)
            if isinstance(error, MethodNotAllowed):
                return _other_method(request, error)
            raise
        request.home_agent = _home_agent(in_path)
        admission = self._authorization.admit(request, operation, in_path)
        response: Response | None = None
        try:
            if operation.reach is not Reach.ASKED:
                self._members.check_addressee(request)
            arguments: dict[str, Any] = dict(in_path)
            if operation.query is not None:
                arguments["query"] = decode_query(request.fields_of_query(), operation.query)
            if operation.body is not None:
                read = partial(self._body, request, operation)
                arguments["body"] = read if operation.late_body else read()
            act = partial(handler, request, **arguments)
            if operation.reach is Reach.MASTER:
                response = self._members.by_master(request, dpid_in_path(in_path["dpid"]), act)
            else:
                response = act()
            return response
        finally:
            if response is not None and response.is_streamed:
                response.call_on_close(admission.end)  # the answer goes on
            else:
                admission.end()

    def _body(self, request: ApiRequest, operation: Operation) -> Any:
        body = request.body(self._settings.largest_body, self._settings.request_timeout)
        return decode_either(body, operation.body)


def _other_method(request: ApiRequest, error: MethodNotAllowed) -> Response:
    """Answer OPTIONS (RFC 9110 section 9.3.7). Raises Problem for any other method that the path lacks."""
    allowed = ", ".join(sorted({"OPTIONS", *(error.valid_methods or ())}))
    if request.method == "OPTIONS":
        return Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
    reason = f"expected one of {allowed}, got {request.method[:40]}"
    raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, reason, headers={"Allow": allowed})


def _home_agent(in_path: Mapping[str, str]) -> str | None:
    """Return the home agent in a path; None if there is none, or none that the call will accept."""
    try:
        return format_address(address_in_path(in_path["address"])) if "address" in in_path else None
    except Problem:
        return None
