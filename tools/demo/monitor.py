# SPDX-License-Identifier: Apache-2.0
"""Watch the demo while it runs: data packets at the anchor, and round-trip times."""

import statistics
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tools.demo import priority
from tools.demo.narration import Narrator
from topologies.load import AnchorLoad


class LoadSample(NamedTuple):
    """Record how many data packets had reached the anchor at the time `at`."""

    at: float
    packets: int


class Monitor(threading.Thread):
    """Sample the anchor's load every `interval` seconds and show it, while the context lasts."""

    def __init__(self, load: AnchorLoad, records: Path, narrator: Narrator, interval: float, anchor: str) -> None:
        """Prepare to watch the load of `anchor`, and `records`, which the correspondent node's probe writes."""
        super().__init__(name="monitor")
        self.samples: list[LoadSample] = []
        self.where = ""
        self._load, self._anchor = load, anchor
        self._records = records
        self._position = 0
        self._narrator = narrator
        self._interval = interval
        self._stopped = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> "Monitor":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.join()
        if self._error and not error:
            raise self._error

    def run(self) -> None:
        """Take samples until the context ends, which raises the error that a sample raised."""
        try:
            with priority.raised(priority.NETWORK):  # a count that is read late is a wrong rate
                while not self._stopped.is_set():
                    begun = time.monotonic()
                    self._sample()
                    self._stopped.wait(max(0.0, self._interval - (time.monotonic() - begun)))
        except Exception as error:
            self._error = error

    def _sample(self) -> None:
        before = self.samples[-1] if self.samples else None
        asked = time.time()
        packets = self._load.packets()
        now = LoadSample((asked + time.time()) / 2, packets)
        self.samples.append(now)
        rate = (now.packets - before.packets) / (now.at - before.at) if before else 0.0
        rtts = self._new_round_trips()
        shown = f"{statistics.median(rtts):6.1f} ms" if rtts else "     none"
        self._narrator.status(f"{self.where}   round trip {shown}   {self._anchor} {rate:4.0f} data packets/s")

    def _new_round_trips(self) -> list[float]:
        """Return the round-trip times recorded since the last call, in milliseconds."""
        with open(self._records) as records:
            records.seek(self._position)
            text = records.read()
        whole = text[: text.rfind("\n") + 1]
        self._position += len(whole)
        fields = (line.split() for line in whole.splitlines() if line.startswith("R "))
        return [int(line[3]) / 1e6 for line in fields if line[3] != "0"]
