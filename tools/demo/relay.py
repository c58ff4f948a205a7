# SPDX-License-Identifier: Apache-2.0
"""Forward a TCP port of this host into the private network of a testbed."""

import asyncio
import contextlib
import socket
import threading
from types import TracebackType


class Relay:
    """Forward connections to `listener`, a socket outside the private network, to HOST and PORT inside.

    A context manager, entered inside.
    """

    def __init__(self, listener: socket.socket, host: str, port: int) -> None:
        self._listener = listener
        self._target = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._carry, sock=self._listener)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy both directions of one connection until either end closes it, or the inside refuses it."""
        with contextlib.suppress(OSError), contextlib.closing(writer):
            inside_reader, inside_writer = await asyncio.open_connection(*self._target)
            with contextlib.closing(inside_writer):
                await asyncio.gather(_copy(reader, inside_writer), _copy(inside_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
