# SPDX-License-Identifier: Apache-2.0
"""Call etcd's JSON gateway.

Why not a library: those that speak gRPC stop eventlet's hub, and `etcd3gw` 2.7, which speaks JSON as well, knows one
endpoint only, no users, and a watch that ends with its connection. What is left to take from it are a few messages.
"""

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from hoaflow.client.reasons import root_reason
from hoaflow.closing import Closing
from hoaflow.etcd.errors import EtcdRefused, EtcdUnavailable
from hoaflow.etcd.messages import Change, Comparison, KeyValue, Operation, below, change_of, encoded, keys_of

# gRPC's codes (https://grpc.io/docs/guides/status-codes/) with which another endpoint, or a later call, may do better.
PASSING = {1, 4, 10, 14}  # CANCELLED, DEADLINE_EXCEEDED, ABORTED, UNAVAILABLE
UNAUTHENTICATED = 16
NOT_FOUND = 5
RESOURCE_EXHAUSTED = 8
HINTS = {
    UNAUTHENTICATED: " (is the user's password right?)",
    7: " (etcdctl role grant-permission gives the user's role a right)",
    RESOURCE_EXHAUSTED: " (etcd's quota: compact and defragment it, then `etcdctl alarm disarm`)",
}
# What reading an answer raises that is not etcd's.
NONSENSE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
# Seconds after a refused login until the next. A login costs etcd some 0.1 s of a processor (bcrypt), so those of all
# clients, each repeated as soon as it is refused, would keep it from answering any in time, right ones as well.
LOGIN_PAUSE = 5.0
SHOWN = 200  # characters of an answer that an error's text shows


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """How to prove who one is, and who etcd is; None where there is nothing.

    `ca`, `certificate`, `key`: files in PEM; `password_file` holds the password of `user`, and is read at each login.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password_file: Path | None = None


class EtcdClient(Closing):
    """Call an etcd cluster at one of its endpoints, and at the next if that fails. Blocks; made for many greenlets.

    Each endpoint has `timeout` seconds to connect, and for each part of an answer. All calls raise EtcdUnavailable and
    EtcdRefused.
    """

    def __init__(self, endpoints: Sequence[str], access: EtcdAccess | None = None, timeout: float = 2.0) -> None:
        """Take the URLs of the members' client ports, such as `http://192.0.2.1:2379`."""
        self._endpoints = deque(endpoint.rstrip("/") for endpoint in endpoints)
        self._access = access or EtcdAccess()
        self._timeout = timeout
        self._token: str | None = None
        self._logging_in = threading.Lock()
        self._refused_login: EtcdRefused | None = None
        self._next_login = -math.inf
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, no .netrc: etcd is in one's own network
        if self._access.ca is not None:
            self._session.verify = str(self._access.ca)
        if self._access.certificate is not None:
            self._session.cert = (str(self._access.certificate), str(self._access.key))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # Keys.

    def get(self, key: str) -> KeyValue | None:
        """Return what a key holds now, None if it does not exist."""
        return self._call("kv/range", {"key": encoded(key)}, keys_of)[1].get(key)

    def get_all(self, prefix: str) -> tuple[int, dict[str, KeyValue]]:
        """Return etcd's revision, and all keys that begin with `prefix`."""
        return self._call("kv/range", below(prefix), keys_of)

    def transact(self, comparisons: Iterable[Comparison], operations: Iterable[Operation]) -> bool:
        """Carry all operations out, or none if one of the comparisons fails; tell which (`hoaflow.etcd.messages`).

        After a lost answer the transaction is tried at the next endpoint, so its own effect may make a comparison fail.
        """
        body = {"compare": list(comparisons), "success": list(operations)}
        return self._call("kv/txn", body, lambda answer: bool(answer["header"] and answer.get("succeeded")))

    # Leases.

    def grant_lease(self, seconds: int) -> int:
        """Make a lease and return its number; etcd lengthens it if it is shorter than two election timeouts."""
        return self._call("lease/grant", {"TTL": str(seconds)}, lambda answer: int(answer["ID"]))

    def keep_alive(self, lease: int) -> bool:
        """Renew a lease for the seconds that it was made for; tell whether it still existed."""
        return self._call("lease/keepalive", {"ID": str(lease)}, lambda answer: int(answer["result"].get("TTL", 0)) > 0)

    def revoke_lease(self, lease: int) -> None:
        """End a lease, and delete its keys. Idempotent."""
        try:
            self._call("lease/revoke", {"ID": str(lease)}, lambda answer: answer["header"])
        except EtcdRefused as refused:
            if refused.code != NOT_FOUND:
                raise

    # Streams.

    def watch(self, prefix: str, revision: int, silence: float) -> Iterator[list[Change]]:
        """Yield the changes of keys that begin with `prefix`, from a revision on, as they come.

        Ends after `silence` seconds without any, and if etcd ends the watch, as when `revision` has been compacted.
        """
        request = {"create_request": {**below(prefix), "start_revision": str(revision)}}
        with closing(self._post("watch", request, silence)) as answer:
            try:
                for line in answer.iter_lines(chunk_size=None):
                    message = _decoded(line)
                    if "error" in message:
                        raise _refusal("watch", message["error"])
                    if message["result"].get("canceled"):
                        return
                    if changes := [change_of(event) for event in message["result"].get("events", ())]:
                        yield changes
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                return  # silence, or the connection's end: it is time to read anew
            except NONSENSE as error:
                raise _nonsense(answer, error) from None

    # One call.

    def _call(self, path: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        answer = self._post(path, body)
        try:
            return read(_decoded(answer.content))
        except NONSENSE as error:
            raise _nonsense(answer, error) from None

    def _post(self, path: str, body: Mapping[str, Any], silence: float | None = None) -> requests.Response:
        """Return the answer, with status 200, of the first endpoint that can give one.

        With `silence` the answer is a stream, which the caller reads; it is cut off after so many seconds without data.
        """
        token = self._token
        try:
            return self._ask_each(path, body, silence)
        except EtcdRefused as refused:
            if refused.code != UNAUTHENTICATED or self._access.user is None:
                raise
        if self._token == token:  # tokens end, and an etcd that has started anew knows none
            self._token = None
        return self._ask_each(path, body, silence)

    def _ask_each(self, path: str, body: Mapping[str, Any], silence: float | None) -> requests.Response:
        reasons = []
        for _ in range(len(self._endpoints)):
            endpoint = self._endpoints[0]
            try:
                if self._access.user is not None:
                    self._have_token(endpoint, self._access.user)
                return self._ask(endpoint, path, body, silence)
            except EtcdUnavailable as error:
                reasons.append(str(error))
                if self._endpoints[0] == endpoint:  # no other greenlet has gone on to the next
                    self._endpoints.rotate(-1)
        raise EtcdUnavailable("; ".join(reasons))

    def _have_token(self, endpoint: str, user: str) -> None:
        """Log in unless that is done: one greenlet for all, and not again at once if etcd has refused it."""
        with self._logging_in:
            if self._token is not None:
                return
            if self._refused_login is not None and time.monotonic() < self._next_login:
                raise self._refused_login
            try:
                self._token = self._log_in(endpoint, user)
            except EtcdRefused as refused:
                self._refused_login, self._next_login = refused, time.monotonic() + LOGIN_PAUSE
                raise

    def _log_in(self, endpoint: str, user: str) -> str:
        assert self._access.password_file is not None, "a user has a password"
        try:
            password = self._access.password_file.read_text().strip()
        except (OSError, ValueError) as error:
            raise EtcdUnavailable(f"etcd's password file {self._access.password_file}: {error}") from None
        answer = self._ask(endpoint, "auth/authenticate", {"name": user, "password": password}, None)
        try:
            return str(_decoded(answer.content)["token"])
        except NONSENSE as error:
            raise _nonsense(answer, error) from None

    def _ask(self, endpoint: str, path: str, body: Mapping[str, Any], silence: float | None) -> requests.Response:
        url = f"{endpoint}/v3/{path}"
        try:
            answer = self._session.post(
                url,
                data=json.dumps(body),
                headers={} if self._token is None else {"Authorization": self._token},
                timeout=(self._timeout, self._timeout if silence is None else silence),
                allow_redirects=False,
                stream=silence is not None,
            )
            if answer.status_code == 200:
                return answer
            refusal = _refusal(url, _decoded(answer.content))
        except requests.RequestException as error:
            raise EtcdUnavailable(f"{url}: {root_reason(error)}") from None
        except NONSENSE as error:
            raise _nonsense(answer, error) from None
        if refusal.code in PASSING:
            raise EtcdUnavailable(str(refusal))
        raise refusal


def _decoded(content: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises one of NONSENSE for anything else."""
    found = json.loads(content)
    if not isinstance(found, dict):
        raise TypeError("no JSON object")
    return found


def _nonsense(answer: requests.Response, error: Exception) -> EtcdUnavailable:
    came = f"{answer.content[:SHOWN]!r} came" if answer.raw.closed else "something else came"
    return EtcdUnavailable(f"{answer.url}: expected an answer of etcd's JSON gateway, {came} ({error!r})")


def _refusal(url: str, found: Mapping[str, Any]) -> EtcdRefused:
    """Return what etcd has refused. Raises one of NONSENSE for anything else."""
    code = found.get("code", found.get("grpc_code"))
    if not isinstance(code, int):
        raise TypeError("no code of gRPC")
    text = found.get("message") or found.get("error") or found
    return EtcdRefused(f"{url}: {text}{HINTS.get(code, '')}", code)
