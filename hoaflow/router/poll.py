# SPDX-License-Identifier: Apache-2.0
"""Poll the controller in a thread, so that the agent can wait for its answer and for other events at once."""

import os
import threading

from hoaflow.router.client import Controller
from hoaflow.router.tunnel_plan import TunnelList


class Poll:
    """A long poll for news since revision `after`. `descriptor` is readable as soon as it is answered."""

    def __init__(self, controller: Controller, after: int, wait: int) -> None:
        self.descriptor, self._writer = os.pipe()
        self._answer: TunnelList | None = None
        self._error: Exception | None = None
        # A daemon thread, so that the agent can end without waiting for the answer.
        self._thread = threading.Thread(target=self._ask, args=(controller, after, wait), daemon=True, name="poll")
        self._thread.start()

    @property
    def answered(self) -> bool:
        """Whether the answer, or an error, has come."""
        return not self._thread.is_alive()

    def answer(self) -> TunnelList:
        """Return the answer. Raises ControllerError."""
        self._thread.join()
        os.close(self.descriptor)
        if self._error is not None:
            raise self._error
        assert self._answer is not None, "the thread has ended without an error"
        return self._answer

    def _ask(self, controller: Controller, after: int, wait: int) -> None:
        try:
            self._answer = controller.tunnels(after, wait)
        except Exception as error:  # raised by `answer`
            self._error = error
        finally:
            os.close(self._writer)
