# SPDX-License-Identifier: Apache-2.0
"""Refuse all changes of flows in a switch's place: `python -m tools.chaos.refusal PORT=CONTROLLER:PORT ...`.

A switch that connects to a PORT on loopback is relayed to that controller. Flow messages, and commits of bundles, are
answered by an error (OFPFMFC_EPERM) and never reach the switch; all else passes.
"""

import asyncio
import contextlib
import signal
import struct
import sys
from functools import partial

HEADER, BUNDLE = struct.Struct("!BBHI"), struct.Struct("!IIIH")
ERROR, EXPERIMENTER, FLOW_MOD = 1, 4, 14
BUNDLE_CONTROL, COMMIT_REQUEST = 2300, 4  # EXT-230
REFUSED = struct.pack("!HH", 5, 5)  # OFPET_FLOW_MOD_FAILED, OFPFMFC_EPERM


def is_change(message: bytes) -> bool:
    """Tell whether a controller's message would change flows."""
    kind = HEADER.unpack_from(message)[1]
    if kind == EXPERIMENTER and len(message) >= HEADER.size + BUNDLE.size:
        _, experiment, _, step = BUNDLE.unpack_from(message, HEADER.size)
        return (experiment, step) == (BUNDLE_CONTROL, COMMIT_REQUEST)
    return bool(kind == FLOW_MOD)


def refusal(message: bytes) -> bytes:
    """Return the error that answers it."""
    version, _, _, xid = HEADER.unpack_from(message)
    body = REFUSED + message[:64]
    return HEADER.pack(version, ERROR, HEADER.size + len(body), xid) + body


async def _from_controller(
    controller: asyncio.StreamReader, answers: asyncio.StreamWriter, switch: asyncio.StreamWriter
) -> None:
    while True:
        head = await controller.readexactly(HEADER.size)
        message = head + await controller.readexactly(HEADER.unpack(head)[2] - HEADER.size)
        target, data = (answers, refusal(message)) if is_change(message) else (switch, message)
        target.write(data)
        await target.drain()


async def _from_switch(switch: asyncio.StreamReader, controller: asyncio.StreamWriter) -> None:
    while data := await switch.read(65536):
        controller.write(data)
        await controller.drain()


async def _relay(host: str, port: int, from_switch: asyncio.StreamReader, to_switch: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(to_switch):
        from_controller, to_controller = await asyncio.open_connection(host, port)
        with contextlib.closing(to_controller):
            ways = [
                asyncio.ensure_future(_from_controller(from_controller, to_controller, to_switch)),
                asyncio.ensure_future(_from_switch(from_switch, to_controller)),
            ]
            done, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                other.cancel()
            for way in done:
                way.result()


async def serve(pairs: list[str]) -> None:
    """Relay until cancelled."""
    for pair in pairs:
        own, _, controller = pair.partition("=")
        host, _, port = controller.rpartition(":")
        await asyncio.start_server(partial(_relay, host, int(port)), "127.0.0.1", int(own))
    print("event=ready", flush=True)
    await asyncio.Event().wait()


def main() -> int:
    """Refuse until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(serve(sys.argv[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
