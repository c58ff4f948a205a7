# SPDX-License-Identifier: Apache-2.0
"""The northbound API as a WSGI application: finds the call, and turns what it raises into problem+json."""

import time
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map
from werkzeug.wrappers import Request, Response

from controller.access.roles import Forbidden
from controller.core.admission import NotAnnounced, Refused
from controller.core.bindings import StaleSequence
from controller.core.home_agents import PrefixesOverlap
from controller.core.offload import UnknownRouter
from controller.core.snapshots import Superseded
from controller.rest.audit import Audit, note_subject
from controller.rest.authorization import Authorization
from controller.rest.calls.bindings import BindingCalls
from controller.rest.calls.docs import DocsCalls
from controller.rest.calls.events import EventCalls
from controller.rest.calls.home_agents import HomeAgentCalls
from controller.rest.calls.metrics import MetricsCalls
from controller.rest.calls.pages import DashboardCalls
from controller.rest.calls.routers import RouterCalls
from controller.rest.calls.system import ProbeCalls
from controller.rest.calls.traffic import TrafficCalls
from controller.rest.context import ARRIVED, ApiContext, forbidden_problem, stale_problem
from controller.rest.openapi import document
from controller.rest.operations import CONVERTERS, Operation, operations_of
from controller.rest.problems import Problem, wrong_field
from controller.rest.schemas.answers import FieldError
from controller.rest.schemas.bodies import decode_either
from controller.rest.schemas.queries import decode_query
from logs import Log

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# What browsers are told with every answer: pages load nothing from any other host, run no script but those in their
# files, and are shown in nobody's frame; nothing is taken for what it does not say it is. Charts and Swagger UI set
# styles in place, and have images in their style sheets.
POLICY = {
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
SECURITY_HEADERS = (
    ("Content-Security-Policy", "; ".join(f"{directive} {sources}" for directive, sources in POLICY.items())),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)

LOG = Log("rest")


GROUPS = (BindingCalls, HomeAgentCalls, RouterCalls, EventCalls, ProbeCalls, MetricsCalls, TrafficCalls)
OPERATIONS = [operation for group in (*GROUPS, DocsCalls, DashboardCalls) for operation in operations_of(group)]


class RestApi:
    """A WSGI application."""

    def __init__(self, context: ApiContext, authorization: Authorization) -> None:
        docs = DocsCalls(document(OPERATIONS, authorization.needs_tokens))
        calls = [*(group(context) for group in GROUPS), docs, DashboardCalls()]
        rules = [operation.rule(group) for group in calls for operation in operations_of(type(group))]
        self._urls = Map(rules, strict_slashes=False, merge_slashes=False, converters=CONVERTERS)
        self._context = context
        self._authorization = authorization
        self._audit = Audit()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request; a refusal becomes problem+json."""
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            environ["wsgi.input_terminated"] = True
        request = Request(environ)
        environ[ARRIVED] = time.monotonic()
        response = self._answer(request)
        response.headers.extend(SECURITY_HEADERS)
        self._audit.tell(request, response)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            return self._carry_out(request)
        except Problem as problem:
            return self._refuse(problem)
        except Forbidden as forbidden:
            return self._refuse(forbidden_problem(forbidden))
        except Refused as refused:
            return self._refuse(wrong_field(refused.field, refused.reason))
        except StaleSequence as error:
            return self._refuse(stale_problem(error), stale=True)
        except Superseded as error:
            return self._refuse(Problem(HTTPStatus.CONFLICT, str(error)))
        except PrefixesOverlap as error:
            errors = (FieldError("home_prefixes", str(error)),)
            return self._refuse(Problem(HTTPStatus.CONFLICT, str(error), errors))
        except (NotAnnounced, UnknownRouter) as error:
            return self._refuse(Problem(HTTPStatus.NOT_FOUND, str(error)))
        except MethodNotAllowed as error:
            return self._other_method(request, sorted({"OPTIONS", *(error.valid_methods or ())}))
        except HTTPException as error:
            status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
            return self._refuse(Problem(status, error.description or status.phrase))
        except Exception:
            # An error in this program: the client gets no trace of it, the log does.
            LOG.exception("request-failed", method=request.method, path=request.path)
            return self._refuse(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error in the controller, see its log"))

    def _carry_out(self, request: Request) -> Response:
        try:
            (operation, handler), in_path = self._urls.bind_to_environ(request.environ).match()
        except HTTPException:
            self._authorization.count(request)
            raise
        note_subject(request, in_path)
        visit = self._authorization.admit(request, operation, in_path)
        response: Response | None = None
        try:
            arguments: dict[str, Any] = dict(in_path)
            if operation.query is not None:
                arguments["query"] = decode_query(request.args, operation.query)
            if operation.body is not None:
                read = partial(self._body, request, operation)
                arguments["body"] = read if operation.late_body else read()
            response = handler(request, **arguments)
            return response
        finally:
            if response is not None and response.is_streamed:
                response.call_on_close(visit.leave)  # the answer goes on
            else:
                visit.leave()

    def _body(self, request: Request, operation: Operation) -> Any:
        return decode_either(self._context.body(request), operation.body)

    def _refuse(self, problem: Problem, stale: bool = False) -> Response:
        self._context.metrics.refused(problem.status, stale)
        return problem.response()

    def _other_method(self, request: Request, allowed: list[str]) -> Response:
        """Answer OPTIONS, or refuse a method that the path does not have (RFC 9110 sections 9.3.7 and 15.5.6)."""
        if request.method == "OPTIONS":
            response = Response(status=HTTPStatus.NO_CONTENT)
        else:
            reason = f"expected one of {', '.join(allowed)}, got {request.method[:40]}"
            response = self._refuse(Problem(HTTPStatus.METHOD_NOT_ALLOWED, reason))
        response.headers["Allow"] = ", ".join(allowed)
        return response
