# SPDX-License-Identifier: Apache-2.0
"""Read what servers answer: etcd, and a controller to its clients."""

import contextlib
import io
from typing import Any

import requests
from requests.adapters import BaseAdapter

from controller.cluster.records import Keys, Records
from ha_bridge.client import ControllerClient
from ha_bridge.reconciliation import Report
from hoaflow.client.directory import MemberAddress
from hoaflow.etcd import EtcdClient, EtcdError
from hoaflow.etcd.messages import KeyValue, put
from hoaflow.router.announcement import Announcement
from hoaflow.router.client import Controller, ControllerError

URL = "http://192.0.2.1:2379"
STATUSES = (200, 200, 200, 201, 400, 401, 404, 422, 429, 500, 503)


class _Server(BaseAdapter):
    """A server that answers everything alike."""

    def __init__(self) -> None:
        super().__init__()
        self.status, self.body = 200, b""

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:  # type: ignore[override]
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = self.status, request, str(request.url)
        answer.headers["Content-Type"] = "application/json"
        answer.raw = io.BytesIO(self.body)
        return answer

    def close(self) -> None:
        """Close nothing."""


def _server(session: requests.Session, data: bytes) -> None:
    """Have a client's calls answered by an input: its first byte chooses the status, the others are the body."""
    server = _Server()
    server.status, server.body = STATUSES[data[0] % len(STATUSES)] if data else 200, data[1:]
    session.mount("http://", server)


def etcd(data: bytes) -> None:
    """Make each call of etcd with the same answer; what is read of a cluster's keys is usable."""
    client = EtcdClient([URL])
    _server(client._session, data)
    calls = (
        lambda: client.get("/hoaflow/a/members/b"),
        lambda: Keys("a").updated(Records(), client.get_all("/hoaflow/a/")[1]),
        lambda: client.transact([], [put("a", "b")]),
        lambda: client.grant_lease(3),
        lambda: client.keep_alive(1),
        lambda: client.revoke_lease(1),
        lambda: list(client.watch("/hoaflow/a/", 1, 2.0)),
    )
    for call in calls:
        try:
            call()
        except EtcdError:
            continue


def records(data: bytes) -> None:
    """Read keys of a cluster, one a line as `KEY VALUE`; who is found in them can be told."""
    keys = Keys("a")
    lines = (line.partition(" ")[::2] for line in data.decode(errors="replace").split("\n"))
    changes = {keys.prefix + key: KeyValue(value, 7, 3) for key, value in lines}
    found, _ = keys.updated(Records(), changes)
    found.shared_urls()
    assert keys.updated(found, dict.fromkeys(changes))[0] == Records(), "what is deleted leaves something"
    for dpid in found.routers:
        assert int(f"{dpid:016x}", 16) == dpid
        keys.master(dpid)


def bridge(data: bytes) -> None:
    """Make each call of a bridge with the same answer: whatever it is, it is taken or a failure."""
    address, report = MemberAddress(URL), Report("2001:db8:99::100", "2001:db8:2::2", None)
    client = ControllerClient(address, "2001:db8:99::1", ["2001:db8:99::/64"], 10)
    _server(client._northbound._session, data)
    client.announce("up", 1)
    client.ask_cluster()
    client.send([report], 1, 0.0)
    client.replace([report], 1, 0.0)


def agent(data: bytes) -> None:
    """Make each call of a router's agent with the same answer."""
    client = Controller(MemberAddress(URL), "0000000000000001")
    _server(client._northbound._session, data)
    with contextlib.suppress(ControllerError):
        client.tunnels(0, 0)
    with contextlib.suppress(ControllerError):
        client.acknowledge(0, Announcement())
    client.ask_cluster()
