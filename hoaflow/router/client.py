# SPDX-License-Identifier: Apache-2.0
"""The controller's northbound REST API as the agent uses it: outbound calls only, each with a timeout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import requests

from hoaflow.client.access import Access
from hoaflow.client.client import Northbound, problem_detail
from hoaflow.client.errors import Denied, NorthboundError, TooBusy
from hoaflow.errors import HoaflowError
from hoaflow.router.ovsdb import EndpointRecord
from hoaflow.router.plan import Tunnel, TunnelList

T = TypeVar("T")

CONNECT_TIMEOUT = 3.0  # seconds
ANSWER_TIMEOUT = 10.0  # seconds, on top of the time a long poll may wait
# Seconds until a controller that has denied access is asked again: a token may have been replaced on either side.
DENIED_RETRY = 10.0
LONGEST_PROBLEM = 1000  # characters that the controller takes


class ControllerError(HoaflowError):
    """The controller did not do what was asked. The message says what it answered.

    ├── UnknownRouter: it does not know this router (it restarted): announce the endpoints
    └── Refused: it does not let this agent in, or not now
    """


class UnknownRouter(ControllerError):
    """404: the controller does not know this router."""


class Refused(ControllerError):
    """401, 403 or 429: asking again is of no use for ``retry_after`` seconds."""

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Controller:
    """The controller at a base URL, for one router (`dpid`: 16 lower-case hex digits). Not thread safe."""

    def __init__(self, base_url: str, dpid: str, access: Access | None = None) -> None:
        self.dpid = dpid
        self._northbound = Northbound(base_url, access)

    def __enter__(self) -> Controller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._northbound.close()

    def acknowledge(
        self,
        revision: int,
        endpoints: Iterable[EndpointRecord],
        failed: Mapping[str, str],
        macs: Sequence[str],
        flow: Mapping[str, object] | None = None,
        broken: Mapping[str, str] | None = None,
    ) -> float:
        """Say which endpoints there are, and that all up to `revision` is applied but for `failed`; or, where the
        router has the flow backend, what that is (`FlowKeeper.announcement`).

        `macs`: those of the router's kernel (`kernel_macs`). `failed`: {home address: reason}. `broken`:
        {home agent: reason} of endpoints that carry nothing.
        Returns the lease, in seconds. Idempotent. Raises ControllerError.
        """
        body: dict[str, object] = {
            "revision": revision,
            "router_macs": list(macs),
            "endpoints": [_endpoint(record, (broken or {}).get(record.home_agent)) for record in endpoints],
            "failed": [{"home_address": home, "reason": why} for home, why in sorted(failed.items())],
        }
        if flow is not None:
            body["flow"] = flow
        answer = self._call("PUT", "tunnels/ack", body=body)
        lease = answer.get("lease")
        if not isinstance(lease, int | float) or isinstance(lease, bool) or lease <= 0:
            raise ControllerError(f"expected a lease in seconds from {self._path('tunnels/ack')}, got {lease!r}")
        return float(lease)

    def tunnels(self, after: int, wait: int) -> TunnelList:
        """What is new since revision `after`; the controller answers after `wait` seconds if nothing is.

        Raises ControllerError, also for an answer that is not of the expected form.
        """
        answer = self._call("GET", "tunnels", wait=wait, params={"after": after, "wait": wait})
        try:
            return TunnelList(
                revision=_typed(answer["revision"], int),
                full=_typed(answer["full"], bool),
                home_agents=frozenset(_typed(entry, str) for entry in answer["home_agents"]),
                tunnels=tuple(
                    Tunnel(*(_typed(entry[name], str) for name in Tunnel._fields)) for entry in answer["tunnels"]
                ),
                removed=tuple(_typed(entry, str) for entry in answer["removed"]),
            )
        except (KeyError, TypeError) as error:
            raise ControllerError(f"unexpected answer from {self._path('tunnels')}: {error!r}") from error

    def _path(self, path: str) -> str:
        return f"/v1/routers/{self.dpid}/{path}"

    def _call(self, method: str, path: str, wait: float = 0, **arguments: Any) -> dict[str, Any]:
        path = self._path(path)
        try:
            answer = self._northbound.request(method, path, (CONNECT_TIMEOUT, wait + ANSWER_TIMEOUT), **arguments)
        except Denied as error:
            raise Refused(str(error), DENIED_RETRY) from None
        except TooBusy as error:
            raise Refused(str(error), error.retry_after) from None
        except NorthboundError as error:
            raise ControllerError(str(error)) from None
        if answer.status_code == 404:
            raise UnknownRouter(f"{method} {path}: 404 {problem_detail(answer)}")
        if answer.status_code != 200:
            raise ControllerError(f"{method} {path}: {answer.status_code} {problem_detail(answer)}")
        try:
            return _typed(answer.json(), dict)
        except (requests.JSONDecodeError, TypeError) as error:
            raise ControllerError(f"{method} {path}: expected a JSON object, got {answer.text[:100]!r}") from error


def _endpoint(record: EndpointRecord, problem: str | None) -> dict[str, str]:
    described = {"home_agent": record.home_agent, "port": record.port, "mac": record.mac}
    if problem is not None:
        described["problem"] = problem[:LONGEST_PROBLEM]
    return described


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value
