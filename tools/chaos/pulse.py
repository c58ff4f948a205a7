# SPDX-License-Identifier: Apache-2.0
"""Measure how long this machine makes a program wait: `python -m tools.chaos.pulse FILE`.

It does the same work every EVERY seconds, some 4 % of a processor, and writes a line for each beat: see
`tools.chaos.pace`.
"""

import signal
import sys
import time

ADDITIONS = 200_000
NEEDED = 0.01  # seconds for these on an ordinary machine that does nothing else
EVERY = 0.25  # seconds


def work() -> None:
    """Do what every beat does."""
    total = 0
    for number in range(ADDITIONS):
        total += number & 7


def main() -> int:
    """Beat until SIGTERM."""

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    with open(sys.argv[1], "w", buffering=1) as file:
        print("event=ready", flush=True)
        while True:
            due = time.monotonic() + EVERY
            time.sleep(EVERY)
            work()
            slowness = max(1.0, (time.monotonic() - due) / NEEDED)
            file.write(f"{time.time():.3f} {slowness:.2f}\n")


if __name__ == "__main__":
    sys.exit(main())
