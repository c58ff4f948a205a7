# SPDX-License-Identifier: Apache-2.0
"""Call the controller's REST API on behalf of one home agent, with a timeout for every request."""

from collections.abc import Sequence
from typing import Any

import requests

from ha_bridge.commands import Announced, Failed, Replaced, Verdict
from ha_bridge.model import MIPV6, Owner
from ha_bridge.reconciliation import Report
from hoaflow.client.access import Access
from hoaflow.client.client import Northbound, json_of
from hoaflow.client.cluster import ask_cluster
from hoaflow.client.directory import ClusterView, MemberAddress
from hoaflow.client.errors import Denied, NorthboundError, TooBusy
from hoaflow.errors import HoaflowError
from hoaflow.scope import THIS_MEMBER

# (connect, read) in seconds. An announcement must not wait longer than a lease can spare.
ANNOUNCE_TIMEOUT = (1.0, 2.0)
SEND_TIMEOUT = (1.0, 5.0)
SNAPSHOT_TIMEOUT = (1.0, 60.0)
# Seconds until a controller that has denied access is asked again: a token may have been replaced on either side.
DENIED_RETRY = 10.0

Json = dict[str, Any]


class _Unexpected(HoaflowError):
    """The controller gave an unexpected answer."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status


class ControllerClient:
    """Connect to the controller at `address` on behalf of one home agent or LMA. `lease` is in seconds."""

    def __init__(
        self,
        address: MemberAddress,
        home_agent: str,
        home_prefixes: Sequence[str],
        lease: int,
        access: Access | None = None,
        source_address: str | None = None,
        protocol: str = MIPV6,
        group: str | None = None,
    ) -> None:
        self._northbound = Northbound(address.url, access, source_address, address.ip)
        self._home_agent = home_agent
        self._home_prefixes = list(home_prefixes)
        self._lease = lease
        self._protocol = protocol
        self._group = group

    def announce(self, status: str, last_change: int | None, owner: Owner | None = None) -> Announced | Failed:
        """Announce the home agent with `status` (`up` or `ha-down`) and renew its lease. Idempotent.

        `last_change` is the number of the last change that the controller must have been told of, if there is any.
        `owner`: which of several pods the home agent is.
        """
        body: Json = {"home_prefixes": self._home_prefixes, "lease": self._lease, "status": status, **_of(owner)}
        if last_change is not None:
            body["last_change"] = last_change
        if self._protocol != MIPV6:
            body["protocols"] = [self._protocol]
        if self._group is not None:
            body["group"] = self._group
        try:
            answer = self._call("PUT", f"/v1/home-agents/{self._home_agent}", body, ANNOUNCE_TIMEOUT)
            return Announced(answer.get("snapshot") == "wanted", int(answer.get("bindings", 0)))
        except (TypeError, ValueError, OverflowError) as error:
            return Failed(f"announcement's answer not understood: {error!r}", reached=True)
        except (NorthboundError, _Unexpected) as error:
            return _failed(error)

    def ask_cluster(self) -> ClusterView | Failed:
        """Return what the controller says of its cluster."""
        try:
            return ask_cluster(self._northbound)
        except NorthboundError as error:
            return _failed(error)

    def send(
        self, reports: Sequence[Report], last_change: int | None, now: float, owner: Owner | None = None
    ) -> list[Verdict] | Failed:
        """Report bindings, with lifetimes as of `now`, and return the verdicts in the same order.

        With `last_change`, everything up to the change of that number is reported.
        """
        bindings = [report.as_json(self._home_agent, now, self._protocol) for report in reports]
        body: Json = {"bindings": bindings, **_of(owner)}
        if last_change is not None:
            body["last_change"] = last_change
        try:
            return _verdicts(_checked(self._request("POST", "/v1/bindings", body, SEND_TIMEOUT)), len(reports))
        except (NorthboundError, _Unexpected) as error:
            return _failed(error)

    def replace(
        self, reports: Sequence[Report], last_change: int, now: float, owner: Owner | None = None
    ) -> Replaced | Failed:
        """Report all bindings, as of change `last_change` and with lifetimes as of `now`.

        The controller removes all others.
        """
        body = {
            "bindings": [report.as_json(self._home_agent, now, self._protocol) for report in reports],
            "last_change": last_change,
            **_of(owner),
        }
        path = f"/v1/home-agents/{self._home_agent}/bindings"
        try:
            answer = self._call("PUT", path, body, SNAPSHOT_TIMEOUT)
            counts = {name: int(answer[name]) for name in ("added", "changed", "removed", "unchanged")}
            # By index: the controller may write an address, or what it could not read, differently.
            refused = {
                reports[item["index"]].home_address: _reasons(item["errors"]) for item in answer.get("refused", [])
            }
        except (KeyError, IndexError, TypeError, ValueError) as error:
            return Failed(f"snapshot answer not understood: {error!r}", reached=True)
        except (NorthboundError, _Unexpected) as error:
            return _failed(error)
        return Replaced(counts, refused)

    def _call(self, method: str, path: str, body: Json, timeout: tuple[float, float]) -> Json:
        return _checked(self._request(method, path, body, timeout))

    def _request(self, method: str, path: str, body: Json, timeout: tuple[float, float]) -> requests.Response:
        return self._northbound.request(method, path, timeout, body, headers=THIS_MEMBER)


def _of(owner: Owner | None) -> Json:
    return {} if owner is None else {"owner": owner._asdict()}


def _json(answer: requests.Response) -> Json:
    try:
        content = json_of(answer)
    except ValueError as error:
        raise _Unexpected(
            f"status {answer.status_code}, not JSON: {answer.text[:200]!r}", answer.status_code
        ) from error
    if not isinstance(content, dict):
        raise _Unexpected(f"status {answer.status_code}, not an object: {answer.text[:200]!r}", answer.status_code)
    return content


def _checked(answer: requests.Response) -> Json:
    if answer.status_code in (200, 201):
        return _json(answer)
    raise _Unexpected(f"status {answer.status_code}: {answer.text[:500]}", answer.status_code)


def _verdict(status: int, errors: Any) -> Verdict:
    unknown = (
        status == 422
        and isinstance(errors, list)
        and any(isinstance(error, dict) and error.get("field") == "home_agent" for error in errors)
    )
    return Verdict(status, _reasons(errors), home_agent_unknown=unknown)


def _verdicts(answer: Json, count: int) -> list[Verdict]:
    try:
        by_index = {item["index"]: _verdict(item["status"], item.get("errors", [])) for item in answer["results"]}
        return [by_index[index] for index in range(count)]
    except (KeyError, TypeError) as error:
        raise _Unexpected(f"batch answer not understood: {error!r}", 200) from error


def _reasons(errors: Any) -> str:
    if not isinstance(errors, list):
        return str(errors)
    return "; ".join(
        f"{error.get('field')}: {error.get('reason')}" if isinstance(error, dict) else str(error) for error in errors
    )


def _failed(error: NorthboundError | _Unexpected) -> Failed:
    if isinstance(error, _Unexpected):
        return Failed(str(error), reached=True, unknown=error.status == 404)
    if isinstance(error, Denied):
        return Failed(str(error), reached=True, retry_after=DENIED_RETRY)
    if isinstance(error, TooBusy):
        return Failed(str(error), reached=True, retry_after=error.retry_after)
    return Failed(str(error), reached=False)
