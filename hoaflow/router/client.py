# SPDX-License-Identifier: Apache-2.0
"""Call the controller's REST API as a router's agent: outbound calls only, each with a timeout."""

from collections.abc import Mapping
from typing import Any, TypeVar

from hoaflow.client.access import Access
from hoaflow.client.client import Northbound, json_of, problem_detail
from hoaflow.client.cluster import ask_cluster
from hoaflow.client.directory import ClusterView, MemberAddress
from hoaflow.client.errors import Denied, NorthboundError, TooBusy
from hoaflow.closing import Closing
from hoaflow.errors import HoaflowError
from hoaflow.router.announcement import Announcement
from hoaflow.router.ovsdb import EndpointRecord
from hoaflow.router.tunnel_plan import Tunnel, TunnelList

T = TypeVar("T")

CONNECT_TIMEOUT = 3.0  # seconds
ANSWER_TIMEOUT = 10.0  # seconds, besides the time that a long poll may wait
# Seconds until a controller that denied access is asked again, as a token may have been replaced on either side.
DENIED_RETRY = 10.0
LONGEST_PROBLEM = 1000  # characters that the controller takes


class ControllerError(HoaflowError):
    """The controller did not do what it was asked to; the message says what it answered.

    ├── UnknownRouter: it does not know this router (it has restarted): announce the endpoints
    └── Refused: it denies access, or is too busy
    """


class UnknownRouter(ControllerError):
    """The controller does not know this router (404)."""


class Refused(ControllerError):
    """The controller denies access or is too busy (401, 403, 429); retry after `retry_after` seconds."""

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Controller(Closing):
    """The controller at an address, for one router. A context manager. Not thread safe.

    `dpid`: the router's datapath id, 16 lower-case hex digits.
    """

    def __init__(self, address: MemberAddress, dpid: str, access: Access | None = None) -> None:
        self.dpid = dpid
        self._northbound = Northbound(address.url, access, ip=address.ip)

    def close(self) -> None:
        """Close all connections."""
        self._northbound.close()

    def ask_cluster(self) -> ClusterView:
        """Return what the controller says of its cluster. Raises NorthboundError."""
        return ask_cluster(self._northbound)

    def acknowledge(self, revision: int, announcement: Announcement) -> float:
        """Announce the router and acknowledge the tunnel list up to `revision`; returns the lease in seconds.

        Idempotent. Raises ControllerError.
        """
        broken, failed = announcement.broken, announcement.failed
        body: dict[str, object] = {
            "revision": revision,
            "router_macs": list(announcement.macs),
            "endpoints": [_endpoint(record, broken.get(record.home_agent)) for record in announcement.endpoints],
            "failed": [{"home_address": home, "reason": why} for home, why in sorted(failed.items())],
        }
        body |= announcement.flow
        if announcement.install is not None:  # which a controller of version 0.1 would refuse
            body["install"] = announcement.install
        answer = self._call("PUT", "tunnels/ack", body=body)
        lease = answer.get("lease")
        if not isinstance(lease, int | float) or isinstance(lease, bool) or lease <= 0:
            raise ControllerError(f"expected a lease in seconds from {self._path('tunnels/ack')}, got {lease!r}")
        return float(lease)

    def tunnels(self, after: int, wait: int) -> TunnelList:
        """Return what is new since revision `after`, at once or after up to `wait` seconds.

        Raises ControllerError, also for an answer of an unexpected form.
        """
        answer = self._call("GET", "tunnels", wait=wait, params={"after": after, "wait": wait})
        try:
            return TunnelList(
                revision=_typed(answer["revision"], int),
                full=_typed(answer["full"], bool),
                home_agents=frozenset(_typed(entry, str) for entry in answer["home_agents"]),
                tunnels=tuple(map(_tunnel, answer["tunnels"])),
                removed=tuple(_typed(entry, str) for entry in answer["removed"]),
                # Version 0.1 does not say it: there a controller is alone.
                master=_typed(answer.get("master", True), bool),
                generation=_typed(answer.get("generation", 0), int),
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
            return _typed(json_of(answer), dict)
        except (ValueError, TypeError) as error:
            raise ControllerError(f"{method} {path}: expected a JSON object, got {answer.text[:100]!r}") from error


def _endpoint(record: EndpointRecord, problem: str | None) -> dict[str, str]:
    described = {"home_agent": record.home_agent, "port": record.port, "mac": record.mac}
    if problem is not None:
        described["problem"] = problem[:LONGEST_PROBLEM]
    return described


def _tunnel(entry: Mapping[str, object]) -> Tunnel:
    return Tunnel(
        home_address=_typed(entry["home_address"], str),
        care_of_address=_typed(entry["care_of_address"], str),
        home_agent=_typed(entry["home_agent"], str),
        reverse_tunnel=_typed(entry.get("reverse_tunnel", True), bool),
    )


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value
