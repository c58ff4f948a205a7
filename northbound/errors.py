# SPDX-License-Identifier: Apache-2.0
"""What a call of the controller's REST API may come to instead of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hoaflow.errors import HoaflowError


class AccessError(HoaflowError, ValueError):
    """The token, a certificate or a key can't be used; the text names the file and what was expected."""


class NorthboundError(HoaflowError):
    """A call came to nothing. The text says what was asked, what came and what to do.

    ├── Unreachable: no connection, no answer in time, or the other side's certificate is not believed
    ├── Denied: 401 or 403, calling again with the same token is of no use
    └── TooBusy: 429, to be called again after a while
    """


class Unreachable(NorthboundError):
    """No connection, no answer in time, or a certificate that is not believed."""


class Denied(NorthboundError):
    """The controller answered 401 (who are you?) or 403 (you may not). ``errors``: the fields it names, if any."""

    def __init__(self, text: str, status: int, errors: Sequence[Any] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.errors = errors


class TooBusy(NorthboundError):
    """The controller answered 429: more than this client may ask. ``retry_after`` is in seconds."""

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after
