"""The way from clients to ready gateways, as a Service has it: a TCP proxy that follows who is in and who is out."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

PIECE_BYTES: Final = 65_536


class Edge:
    """Listens on a loopback port of its own while it is open; connections that stand are left alone.

    Args:
        targets: where a new connection may go, asked each time.
    """

    def __init__(self, targets: Callable[[], Sequence[tuple[str, int]]]) -> None:
        self._targets = targets
        self._turn = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        # The loop itself holds its tasks by weak references alone.
        self._serving: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def open(self) -> str:
        """Start; the URL."""
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result(10)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stop at once; what is under way breaks."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        targets = self._targets()
        try:
            there, back = await asyncio.open_connection(*targets[next(self._turn) % len(targets)])
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            back.close()
            writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(PIECE_BYTES):
            sink.write(piece)
            await sink.drain()
    with suppress(OSError):
        sink.write_eof()
