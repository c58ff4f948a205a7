# SPDX-License-Identifier: Apache-2.0
"""Define the errors of calls of the controller's REST API."""

from collections.abc import Sequence
from typing import Any

from hoaflow.errors import HoaflowError


class AccessError(HoaflowError, ValueError):
    """The token, a certificate or a key is unusable; the message names the file and what was expected."""


class NorthboundError(HoaflowError):
    """A call has failed; the message says what was asked, what came and what to do."""


class Unreachable(NorthboundError):
    """There was no connection, no answer in time, or no trusted certificate."""


class Denied(NorthboundError):
    """The controller answered 401 (unknown caller) or 403 (not allowed). `errors` lists the fields it names."""

    def __init__(self, text: str, status: int, errors: Sequence[Any] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.errors = errors


class TooBusy(NorthboundError):
    """The controller answered 429: too many requests. `retry_after` is in seconds."""

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after
