# SPDX-License-Identifier: Apache-2.0
"""Connect to the controller's REST API. Every call has a timeout; redirects and proxies are not followed."""

import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager

from hoaflow.client.access import Access, controller_url
from hoaflow.client.directory import MemberAddress
from hoaflow.client.errors import Denied, TooBusy, Unreachable
from hoaflow.client.reasons import innermost, root_reason
from hoaflow.client.token_file import TokenFile
from hoaflow.closing import Closing

RETRY_AFTER = 1.0  # seconds, if a 429 has no Retry-After
SHOWN = 500  # characters of an answer that an error's text shows
# Hints by the reason for which a certificate is not trusted: OpenSSL's X509_V_ERR_*, see x509_vfy.h.
UNKNOWN_ISSUER = (2, 7, 18, 19, 20, 21)
MISMATCH = "the controller's certificate is for another address than --controller: one of the two has to change"
VERIFY_HINTS = {
    9: "a certificate is not valid yet: the controller's, or one of --ca; is this host's clock right?",
    10: "a certificate has expired: the controller's, or one of --ca; renew it",
    26: "the certificate is not a server's: scripts/pki DIRECTORY server makes one",
    62: MISMATCH,  # host name
    64: MISMATCH,  # IP address
}


class _Adapter(HTTPAdapter):
    """Open connections with the given arguments of urllib3's PoolManager."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **kwargs, **self._arguments)


class Northbound(Closing):
    """Call the controller at `url`. A context manager. Not thread safe: use one per thread.

    `ip`: one of the addresses of the URL's name, to call this one only; the certificate still has to be for the name.
    `source_address`: that of the management network, to connect from. Raises ValueError for a wrong URL, AccessError
    for an unusable token file.
    """

    def __init__(
        self,
        url: str,
        access: Access | None = None,
        source_address: str | None = None,
        ip: str | None = None,
    ) -> None:
        access = access or Access()
        named = controller_url(url)
        self.url = str(MemberAddress(named, ip))
        self._host = None if ip is None else urlsplit(named).netloc
        self._token_file = None if access.token_file is None else TokenFile(access.token_file)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, no .netrc: the controller is in one's own network
        if access.ca is not None:
            self._session.verify = str(access.ca)
        if access.certificate is not None:
            self._session.cert = (str(access.certificate), str(access.key))
        connecting: dict[str, Any] = {} if source_address is None else {"source_address": (source_address, 0)}
        encrypted = {} if ip is None else {"server_hostname": urlsplit(named).hostname}
        self._session.mount("http://", _Adapter(connecting))
        self._session.mount("https://", _Adapter(connecting | encrypted))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        timeout: tuple[float, float],
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Make one call and return its answer, whatever its status except 401, 403 and 429.

        `timeout`: seconds to connect, and between two pieces of the answer. `body` is sent as JSON, bytes as they are.
        With `stream` the caller reads the answer's content. Raises Unreachable, Denied, TooBusy.
        """
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self._host is not None:
            sent["Host"] = self._host
        if self._token_file is not None:
            sent["Authorization"] = f"Bearer {self._token_file.token()}"
        try:
            answer = self._session.request(
                method,
                self.url + path,
                data=body if body is None or isinstance(body, bytes) else json.dumps(body, separators=(",", ":")),
                params=params,
                headers=sent,
                timeout=timeout,
                allow_redirects=False,
                stream=stream,
            )
            if answer.status_code in (401, 403, 429):
                raise self._refusal(f"{method} {self.url}{path}", answer)
        except requests.exceptions.SSLError as error:
            raise Unreachable(
                f"{method} {self.url}{path}: TLS failed: {root_reason(error)}{self._tls_hint(error)}"
            ) from None
        except requests.RequestException as error:
            raise Unreachable(f"{method} {self.url}{path}: {root_reason(error)}") from None
        return answer

    def _refusal(self, what: str, answer: requests.Response) -> Denied | TooBusy:
        detail = problem_detail(answer)
        if answer.status_code == 429:
            wait = answer.headers.get("Retry-After", "")
            return TooBusy(f"{what}: 429 {detail}", float(wait) if wait.isdecimal() else RETRY_AFTER)
        if answer.status_code == 403:
            hint = ""
        elif self._token_file is None:
            hint = " (it requires a token: give --token-file)"
        else:
            hint = f" (it does not know the token in {self._token_file.path})"
        return Denied(f"{what}: {answer.status_code} {detail}{hint}", answer.status_code, _errors(answer))

    def _tls_hint(self, error: Exception) -> str:
        if "CERTIFICATE_REQUIRED" in str(error):
            return " (the controller requires a certificate: give --certificate and --key)"
        cause = innermost(error)
        if not isinstance(cause, ssl.SSLCertVerificationError):
            return ""
        if cause.verify_code not in UNKNOWN_ISSUER:
            hint = VERIFY_HINTS.get(cause.verify_code)
            return "" if hint is None else f" ({hint})"
        if self._session.verify is True:
            return " (give --ca with the certificate that the controller's is signed with)"
        return " (the controller's certificate is not signed by --ca)"


def json_of(answer: requests.Response) -> Any:
    """Return an answer's JSON. Raises ValueError, also for one that is nested too deep for Python's parser."""
    try:
        return answer.json()
    except RecursionError:
        raise ValueError("nested too deep") from None


def problem_detail(answer: requests.Response) -> str:
    """Return a refusal's detail (RFC 9457) in one line, or the beginning of any other answer."""
    problem = _problem(answer)
    if problem is None:
        return " ".join(answer.text[:SHOWN].split()) or answer.reason or ""
    return " ".join(str(problem.get("detail") or problem.get("title") or "").split())


def _errors(answer: requests.Response) -> list[Any]:
    errors = (_problem(answer) or {}).get("errors")
    return errors if isinstance(errors, list) else []


def _problem(answer: requests.Response) -> dict[str, Any] | None:
    try:
        content = json_of(answer)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
