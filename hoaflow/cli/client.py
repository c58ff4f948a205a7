# SPDX-License-Identifier: Apache-2.0
"""Call the controller's REST API for the command line, with a timeout for every call, and read lists to their end."""

import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import requests

import hoaflow.client.errors as northbound_errors
from hoaflow.cli.errors import CliError, Unauthorised, Unhealthy, Unreachable
from hoaflow.client.client import Northbound, json_of, problem_detail

CONNECT_TIMEOUT = 5.0  # seconds
ANSWER_TIMEOUT = 30.0  # seconds; a controller that asks its switches may take its time
PAGE = 1000  # the largest that the API gives
# Attempts, and longest wait between two in seconds, for a controller that answers 429.
PATIENCE, LONGEST_WAIT = 10, 5.0

Json = dict[str, Any]


class NotFound(CliError):
    """The controller answered 404."""


class Client:
    """Call the first of some controllers that answers. A context manager. Not thread safe.

    It is called as long as it answers, then the next one.
    """

    def __init__(self, controllers: Sequence[Northbound], answer_timeout: float = ANSWER_TIMEOUT) -> None:
        self._controllers = list(controllers)  # the one that is called comes first
        self._silent: set[str] = set()
        self._timeout = (min(CONNECT_TIMEOUT, answer_timeout), answer_timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for controller in self._controllers:
            controller.close()

    @property
    def url(self) -> str:
        """Return the URL of the controller that is called."""
        return self._controllers[0].url

    def get(self, *path: str, **query: str | int | None) -> Json:
        """Return the answer to a GET of `path`, given as unquoted segments. Raises CliError."""
        return self._json(self._request("GET", path, query))

    def change(self, method: str, *path: str) -> Json | None:
        """Make a call that changes something; return its answer; None if that is empty. Raises CliError."""
        answer = self._request(method, path, {})
        return None if answer.status_code == 204 else self._json(answer)

    def pages(self, name: str, /, *path: str, **query: str | int | None) -> Iterator[list[Json]]:
        """Return a list page by page; `name` is the member with its items. Raises CliError."""
        cursor: str | None = None
        while True:
            page = self.get(*path, **query, limit=PAGE, cursor=cursor)
            items, following = page.get(name), page.get("next")
            if not isinstance(items, list) or (following is not None and following == cursor):
                raise Unreachable(f"{self._url(path)}: expected a page with {name!r} and a new cursor, got {page}")
            for part in page.get("unanswered", ()):
                self._warn(part)
            yield items
            if following is None:
                return
            cursor = following

    def everything(self, name: str, /, *path: str, **query: str | int | None) -> list[Json]:
        """Return a whole list. Raises CliError."""
        return [item for page in self.pages(name, *path, **query) for item in page]

    def stream(self, path: tuple[str, ...], headers: dict[str, str], silence: float, **query: Any) -> requests.Response:
        """Return an endless answer; `silence` seconds without a byte end it. Raises CliError."""
        return self._request("GET", path, query, headers, stream=True, timeout=(CONNECT_TIMEOUT, silence))

    def _url(self, path: tuple[str, ...]) -> str:
        return f"{self.url}/{_joined(path)}"

    def _request(
        self,
        method: str,
        path: tuple[str, ...],
        query: dict[str, Any],
        headers: dict[str, str] | None = None,
        stream: bool = False,
        timeout: tuple[float, float] | None = None,
    ) -> requests.Response:
        unreached = []
        for _ in self._controllers:
            try:
                answer = self._patiently(
                    method, f"/{_joined(path)}", timeout or self._timeout, params=query, headers=headers, stream=stream
                )
            except northbound_errors.Unreachable as error:
                unreached.append(error)
                self._controllers = [*self._controllers[1:], self._controllers[0]]
                continue
            if answer.status_code < 300:
                return answer
            raise self._refusal(f"{method} {self._url(path)}", answer)
        said = "; ".join(map(str, unreached))
        raise Unreachable(f"{said} (check --controller or HOAFLOW_CONTROLLER)") from unreached[-1]

    def _patiently(self, *call: Any, **options: Any) -> requests.Response:
        """Make a call, again while the controller is too busy."""
        for _ in range(PATIENCE):
            try:
                return self._controllers[0].request(*call, **options)
            except northbound_errors.TooBusy as error:
                refusal = Unhealthy(str(error))
                time.sleep(min(error.retry_after, LONGEST_WAIT))
            except northbound_errors.Denied as error:
                raise Unauthorised(str(error)) from error
        raise refusal

    def _refusal(self, call: str, answer: requests.Response) -> CliError:
        detail = problem_detail(answer)
        if "json" not in answer.headers.get("Content-Type", ""):
            said = f"{answer.status_code} {answer.reason}"
            return Unreachable(f"{call}: expected a hoaflow controller of this version, got {said}")
        if answer.status_code == 404:
            return NotFound(detail)
        if answer.status_code >= 500:
            return Unhealthy(f"{call}: {answer.status_code} {detail}")
        return CliError(f"{call}: {answer.status_code} {detail}")

    def _warn(self, unanswered: Json) -> None:
        """Say once that a member of the cluster has not answered, on standard error as standard output has the list."""
        if unanswered["member"] not in self._silent:
            self._silent.add(unanswered["member"])
            routers = ", ".join(unanswered["routers"])
            said = f"of routers {routers} nothing is known here: their master {unanswered['member']} has not answered"
            print(f"hoaflow: {said}: {unanswered['reason']}", file=sys.stderr, flush=True)

    @staticmethod
    def _json(answer: requests.Response) -> Json:
        try:
            content = json_of(answer)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise Unreachable(
                f"{answer.url}: expected a JSON object, got {answer.text[:100]!r}; is that a hoaflow controller?"
            )
        return content


def _joined(path: tuple[str, ...]) -> str:
    return "/".join(quote(segment, safe=":/") for segment in path)
