"""Encoding beside the event loop: a provider's audio in, the client's format out."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from odea_synth.audio import Encoder, open_transcoder
from odea_synth.providers.base import SourceFormat, Utterance

T = TypeVar("T")


class Transcoder:
    """Encodes many speeches on a few threads."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="encoder")

    @asynccontextmanager
    async def open(self, source: SourceFormat, utterance: Utterance) -> AsyncGenerator["Transcoding"]:
        """One speech in the format that the client gets; what the provider made itself is passed on."""
        encoder = open_transcoder(source, utterance.response_format, sample_rate_hz=utterance.sample_rate_hz)
        try:
            yield Transcoding(encoder, self._threads)
        finally:
            if encoder:
                encoder.close()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Transcoding:
    """The encoding of one speech."""

    def __init__(self, encoder: Encoder | None, threads: ThreadPoolExecutor) -> None:
        self._encoder = encoder
        self._threads = threads

    async def feed(self, audio: bytes) -> bytes:
        """What can leave now of what came in so far."""
        encoder = self._encoder
        return await self._in_thread(lambda: encoder.feed(audio)) if encoder else audio

    async def finish(self) -> bytes:
        """The rest."""
        return await self._in_thread(self._encoder.finish) if self._encoder else b""

    async def _in_thread(self, work: Callable[[], bytes]) -> bytes:
        # Whoever is interrupted closes the encoder next; the thread must have left it by then.
        return await see_through(asyncio.get_running_loop().run_in_executor(self._threads, work))


async def see_through(work: Awaitable[T]) -> T:
    """Wait until `work` has ended, also when cancelled meanwhile; the cancellation is raised after that."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, so that a failure that nobody waits for any more is not reported as forgotten.
            task.exception()
        raise
