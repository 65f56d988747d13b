"""The provider in the box: Piper, a neural engine that speaks on our own processors and needs no account.

A text is spoken sentence by sentence on a bounded pool of threads. While one sentence is read, at most the next is
being made, so a slow reader stops the work and memory stays flat. Everything here runs on one event loop.
"""

import asyncio
import importlib.util
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

from odea_contracts.synth import TIMED_CHARS_MAX, TimestampKind, Timing
from odea_synth.providers.base import Chunk, ErrorClass, Pcm, ProviderError, Utterance, Voice
from odea_synth.providers.piper.options import PiperOptions
from odea_synth.providers.piper.voices import VoiceFile, find_voices, unusable
from odea_synth.providers.sentences import split

__all__ = ["Engine", "PiperOptions", "PiperProvider", "load_piper"]

SPEED_MIN: Final = 0.25
SPEED_MAX: Final = 4.0

T = TypeVar("T")


class Engine(Protocol):
    """A loaded voice; `piper.engine` has the real one."""

    def speak(self, text: str, *, speed: float, stopped: Callable[[], bool]) -> bytes:
        """Mono s16le samples of one piece, never none. Called on worker threads, several at once."""
        ...


class PiperProvider:
    """A `Provider` whose units are the characters of the text.

    A text with nothing to say in it, such as punctuation or emoji, becomes a short silence for each piece. Writing that
    the voice does not know is spelled out or described, as eSpeak does. Timings are those of the sentences, or of the
    parts that a long one is spoken in.
    """

    def __init__(
        self, options: PiperOptions, *, load: Callable[[VoiceFile, PiperOptions], Engine] | None = None
    ) -> None:
        """Prepare only; `start` does the work.

        Args:
            options: how to run.
            load: makes an engine on a worker thread; Piper's own if not given.
        """
        self.name: Final = options.name
        self._options = options
        self._load = load or load_piper
        self._files: Mapping[str, VoiceFile] = {}
        self._engines: dict[str, asyncio.Task[Engine]] = {}
        self._pool = ThreadPoolExecutor(options.workers, thread_name_prefix="piper")
        self._streams = 0
        self._closing = threading.Event()

    async def start(self) -> None:
        """Find the voices, and load them if that was chosen. See `Provider`."""
        if self._load is load_piper and importlib.util.find_spec("piper") is None:
            raise unusable("Piper is not installed; install the extra `piper` of odea-synth")
        self._files = await asyncio.to_thread(find_voices, self._options.voices)
        if self._options.load_at_start:
            for voice in self._files:
                await self._engine(voice)

    async def close(self) -> None:
        """End what is under way within one sentence, and free the voices."""
        self._closing.set()
        await asyncio.to_thread(self._pool.shutdown)
        self._engines.clear()

    async def voices(self) -> tuple[Voice, ...]:
        """See `Provider`."""
        return tuple(file.voice for file in self._files.values())

    def bound_units(self, utterance: Utterance) -> int:
        """See `Provider`. It is what will be billed, too."""
        return len(utterance.text)

    def source_format(self, utterance: Utterance) -> Pcm:
        """See `Provider`."""
        self._check(utterance)
        return Pcm(rate_hz=self._file(utterance.voice).rate_hz)

    async def stream(self, utterance: Utterance) -> AsyncGenerator[Chunk]:
        """See `Provider`. There is one chunk for each sentence, or part of a long one."""
        self._check(utterance)
        with self._one_more_stream():
            engine = await self._engine(utterance.voice)
            pieces = split(utterance.text, self._options.piece_chars_max)
            left = threading.Event()
            ahead = self._begin(engine, piece := next(pieces), utterance.speed, left)
            try:
                billed_units, heard_bytes = 0, 0
                while piece:
                    audio = await ahead
                    billed_units += len(piece)
                    timings = self._timings(utterance, piece, heard_bytes, heard_bytes + len(audio))
                    heard_bytes += len(audio)
                    if piece := next(pieces, ""):
                        ahead = self._begin(engine, piece, utterance.speed, left)
                    yield Chunk(audio=audio, billed_units=billed_units, timings=timings)
            finally:
                left.set()
                _abandon(ahead)

    def _check(self, utterance: Utterance) -> None:
        self._file(utterance.voice)
        if not utterance.text:
            raise ProviderError(ErrorClass.CALLER, "There is no text to speak.", param="input")
        if not SPEED_MIN <= utterance.speed <= SPEED_MAX:
            text = f"The speed must lie between {SPEED_MIN} and {SPEED_MAX}."
            raise ProviderError(ErrorClass.CALLER, text, param="speed")
        if utterance.timestamps is TimestampKind.WORD:
            # Only voices that were changed for that tell how long a phoneme is, and none of which word it is part.
            text = "This model tells the times of sentences, not of words."
            raise ProviderError(ErrorClass.CALLER, text, param="timestamps")

    def _timings(self, utterance: Utterance, piece: str, start_byte: int, end_byte: int) -> tuple[Timing, ...]:
        words = piece.strip()[:TIMED_CHARS_MAX]
        if utterance.timestamps is None or not words:
            return ()
        bytes_per_ms = 2 * self._file(utterance.voice).rate_hz / 1000
        return (Timing(word=words, start_ms=int(start_byte / bytes_per_ms), end_ms=int(end_byte / bytes_per_ms)),)

    def _file(self, voice: str) -> VoiceFile:
        file = self._files.get(voice)
        if file is None:
            raise ProviderError(ErrorClass.CALLER, "The model has no such voice.", param="voice")
        return file

    @contextmanager
    def _one_more_stream(self) -> Generator[None]:
        if self._streams >= self._options.streams_max:
            retry_after_s = self._options.retry_after_s
            raise ProviderError(ErrorClass.THROTTLE, "The voice engine is busy.", retry_after_s=retry_after_s)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def _engine(self, voice: str) -> Engine:
        """The voice in memory. Whoever comes while it is loading waits for the same load."""
        loading = self._engines.get(voice)
        if loading is None:
            loading = asyncio.create_task(self._load_on_pool(voice))
            loading.add_done_callback(partial(self._forget_failure, voice))
            self._engines[voice] = loading
        # One caller who leaves must not take the load away from the others.
        return await asyncio.shield(loading)

    async def _load_on_pool(self, voice: str) -> Engine:
        return await self._run(partial(self._load, self._files[voice], self._options))

    def _forget_failure(self, voice: str, loading: asyncio.Task[Engine]) -> None:
        if loading.cancelled() or loading.exception() is not None:
            self._engines.pop(voice, None)

    def _begin(self, engine: Engine, piece: str, speed: float, left: threading.Event) -> asyncio.Future[bytes]:
        def stopped() -> bool:
            return left.is_set() or self._closing.is_set()

        def speak() -> bytes:
            if stopped():
                raise _closed()
            return engine.speak(piece, speed=speed, stopped=stopped)

        return self._run(speak)

    def _run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._closing.is_set():
            raise _closed()
        return asyncio.get_running_loop().run_in_executor(self._pool, work)


def load_piper(file: VoiceFile, options: PiperOptions) -> Engine:
    """Piper's own engine for a voice. Takes about a second, so not on the event loop.

    Raises:
        ProviderError: of class account; Piper is not installed, or the files are not a voice.
    """
    try:
        from odea_synth.providers.piper.engine import load_engine  # noqa: PLC0415 - an optional extra, and slow
    except ImportError as error:
        raise unusable(f"Piper cannot be imported ({error}); install the extra `piper` of odea-synth") from error
    return load_engine(file, threads=options.threads, phonemes_max=options.phonemes_max)


def _closed() -> ProviderError:
    return ProviderError(ErrorClass.UPSTREAM, "The voice engine is shutting down.")


def _abandon(ahead: asyncio.Future[bytes]) -> None:
    """Take work back that nobody waits for; if it has failed already, that no longer matters to anyone."""
    if not ahead.cancel() and not ahead.cancelled():
        ahead.exception()
