# SPDX-License-Identifier: Apache-2.0
"""The northbound API as a WSGI application: finds the call, and turns what it raises into problem+json."""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.wrappers import Request, Response

from controller.core.admission import NotAnnounced, Refused
from controller.core.bindings import StaleSequence
from controller.core.home_agents import PrefixesOverlap
from controller.core.offload import UnknownRouter
from controller.rest.binding_calls import BindingCalls
from controller.rest.calls import Controlled, stale_problem
from controller.rest.event_calls import EventCalls
from controller.rest.home_agent_calls import HomeAgentCalls
from controller.rest.probe_calls import ProbeCalls
from controller.rest.problems import FieldError, Problem, wrong_field
from controller.rest.router_calls import RouterCalls

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOG = logging.getLogger("hoaflow.rest")


class RestApi:
    """A WSGI application."""

    def __init__(self, controlled: Controlled) -> None:
        groups = (BindingCalls, HomeAgentCalls, RouterCalls, EventCalls, ProbeCalls)
        rules = [rule for group in groups for rule in group(controlled).rules()]
        self._urls = Map(rules, strict_slashes=False, merge_slashes=False)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request; a refusal becomes problem+json."""
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            environ["wsgi.input_terminated"] = True
        request = Request(environ)
        try:
            call, arguments = self._urls.bind_to_environ(environ).match()
            response = call(request, **arguments)
        except Problem as problem:
            response = problem.response()
        except Refused as refused:
            response = wrong_field(refused.field, refused.reason).response()
        except StaleSequence as error:
            response = stale_problem(error).response()
        except PrefixesOverlap as error:
            errors = (FieldError("home_prefixes", str(error)),)
            response = Problem(HTTPStatus.CONFLICT, str(error), errors).response()
        except (NotAnnounced, UnknownRouter) as error:
            response = Problem(HTTPStatus.NOT_FOUND, str(error)).response()
        except HTTPException as error:
            response = self._http_problem(error)
        except Exception:
            # An error in this program: the client gets no trace of it, the log does.
            LOG.exception("event=request-failed method=%s path=%s", request.method, request.path)
            response = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error in the controller, see its log").response()
        return response(environ, start_response)

    @staticmethod
    def _http_problem(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        detail = error.description or status.phrase
        response = Problem(status, detail).response()
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response
