# SPDX-License-Identifier: Apache-2.0
"""The northbound API over the real core, in process, with nothing else behind it."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from werkzeug.test import Client, TestResponse

from controller.changes import ChangeSignal, KeyedSignal
from controller.cluster.peers import Peers
from controller.cluster.view import Alone, Member
from controller.core.flows import Normal
from controller.core.offload import Offload
from controller.core.router import Timing
from controller.events import EventBuffer
from controller.metrics import Metrics
from controller.rest.api import RestApi
from controller.rest.authorization import Authorization
from controller.rest.context import ApiContext
from controller.rest.members import Members
from controller.traffic_history import TrafficHistory
from hoaflow.client.access import Access
from tests.support.conformance import assert_declared
from tests.support.settings import defaults

HOME_AGENT = "2001:db8:99::1"
HOME_PREFIX = "2001:db8:99::/64"
HOME_ADDRESS = "2001:db8:99::100"
BINDING: dict[str, object] = {
    "home_address": HOME_ADDRESS,
    "care_of_address": "2001:db8:2::2",
    "home_agent": HOME_AGENT,
    "lifetime": 60,
    "sequence": 31552,
}
LARGEST_BODY = 100_000
SETTINGS = replace(defaults(), largest_body=LARGEST_BODY, request_timeout=1.0, event_buffer=100, event_streams=2)


class Api:
    """The API with nothing behind it but the core."""

    def __init__(self, members: Members | None = None) -> None:
        """Take the `members` of its cluster, None for none."""
        self.offload = Offload(Timing(10.0, 3.0, 600.0), (Normal(),), first_revision=1000)
        changed = ChangeSignal()
        self.notified = 0

        def notify() -> None:
            self.notified += 1
            changed.notify()

        events = EventBuffer(SETTINGS.event_buffer, first=1000)
        metrics = Metrics(self.offload, {})
        self.traffic = TrafficHistory(self.offload)
        alone = Alone(Member("controller-1", None, 0.0, "0"))
        members = members or Members(alone, Peers(Access()), SETTINGS.request_timeout)
        moved = KeyedSignal()
        context = ApiContext(self.offload, SETTINGS, {}, changed, moved, notify, events, metrics, self.traffic, members)
        self.application = RestApi(context, Authorization(None, SETTINGS))
        self._client = Client(self.application)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> TestResponse:
        """Make a call, `body` as JSON or `raw` as it is; fail for an answer that OpenAPI does not declare."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        answer = self._client.open(path, method=method, data=data, headers=headers)
        assert_declared(method, path, answer.status_code, answer.content_type or "", answer.data)
        return answer

    def chunked(self, method: str, path: str, body: bytes) -> TestResponse:
        """Make a call with a body whose length is not told beforehand."""
        environ = {"HTTP_TRANSFER_ENCODING": "chunked"}
        return self._client.open(path, method=method, input_stream=io.BytesIO(body), environ_overrides=environ)

    def get(self, path: str) -> Any:
        """Return the body of a GET that is answered 200."""
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.data
        return answer.json

    def announce(self, home_agent: str = HOME_AGENT, **changes: Any) -> TestResponse:
        """Announce a home agent."""
        return self.call("PUT", f"/v1/home-agents/{home_agent}", {"home_prefixes": [HOME_PREFIX], **changes})

    def held(self) -> list[tuple[str, str, int | None]]:
        """Return what is held: home address, care-of address, sequence."""
        bindings = self.get("/v1/bindings")["bindings"]
        return [(held["home_address"], held["care_of_address"], held["sequence"]) for held in bindings]


def problem(answer: TestResponse, status: int) -> Any:
    """Return the body of a refusal, checked for its form (RFC 9457)."""
    assert answer.status_code == status, answer.data
    assert answer.content_type == "application/problem+json"
    body: Any = answer.json
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body
