"""Clients that speak for as long as something is done to the services, and what became of every speech."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from openai import OpenAI

SHORT: Final = "The bell rings twice."
LONG: Final = "A sentence that takes its time to be spoken, so that a stream is still open when its service goes. " * 25
CLIENTS: Final = 3
SLOW_CLIENTS: Final = 2
SLOW_PAUSE_S: Final = 0.5


@dataclass
class Load:
    """Clients that speak without end, and what became of every speech."""

    url: str
    key: str
    stop: threading.Event = field(default_factory=threading.Event)
    spoken: list[int] = field(default_factory=list[int])
    """Characters of each speech that ended well."""
    failed: list[str] = field(default_factory=list[str])
    repeated: int = 0
    """Requests that the SDK sent again by itself."""

    def quickly(self) -> None:
        """One short speech after the other."""
        while not self.stop.is_set():
            self._speak(SHORT, pause_s=0)

    def slowly(self) -> None:
        """Long speeches, taken so slowly that a rollout meets them half-way."""
        while not self.stop.is_set():
            self._speak(LONG, pause_s=SLOW_PAUSE_S)

    def _speak(self, text: str, *, pause_s: float) -> None:
        # A client of its own each time: a connection of its own, which goes wherever new ones go now.
        with OpenAI(base_url=f"{self.url}/v1", api_key=self.key, timeout=120) as client:
            received = 0
            try:
                with client.audio.speech.with_streaming_response.create(
                    model="tts-1", voice="alloy", input=text, response_format="pcm"
                ) as answer:
                    self.repeated += answer.retries_taken
                    for piece in answer.iter_bytes(65_536):
                        received += len(piece)
                        if pause_s:
                            threading.Event().wait(pause_s)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test is about
                self.failed.append(f"{type(error).__name__}: {error} after {received} bytes")
            else:
                self.spoken.append(len(text))


@contextmanager
def speaking(load: Load, *, clients: int = CLIENTS, slow_clients: int = SLOW_CLIENTS) -> Generator[None]:
    """Clients at work."""
    jobs = [load.quickly] * clients + [load.slowly] * slow_clients
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(180)
