# SPDX-License-Identifier: Apache-2.0
"""Define the errors of calls of etcd."""

from hoaflow.errors import HoaflowError


class EtcdError(HoaflowError):
    """A call of etcd has failed; the message says which, what came and what to do."""


class EtcdAccessError(EtcdError):
    """What is given to prove who one is, or who etcd is, is incomplete or unreadable."""


class EtcdUnavailable(EtcdError):
    """No endpoint could carry the call out: none answers, none is trusted, or etcd has no quorum.

    The call may have taken effect all the same, if it was the answer that got lost.
    """


class EtcdRefused(EtcdError):
    """Etcd has refused the call, which has not taken effect. `code` is that of gRPC."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
