"""Handing audio to one HTTP client: as it comes, or whole with its length."""

import time
from typing import Final, Protocol

from litestar.types import Send

from odea_contracts.errors import ErrorCode
from odea_contracts.synth import Head, Tail, Timings
from odea_gateway.problems import problem
from odea_gateway.ratelimits import rate_limit_headers
from odea_gateway.trace import Trace
from odea_gateway.wrapping import Wrapping
from odea_runtime.patience import within

PIECE_BYTES: Final = 16 * 1024
"""The server is given audio in pieces of at most this size, so that a slow client is seen to take some of it."""


class ClientStalledError(Exception):
    """The client took nothing for too long."""


class Delivery(Protocol):
    """What is done with a stream. `begun` tells whether the client has been sent anything."""

    begun: bool

    async def begin(self, head: Head) -> None:
        """The first audio is in hand."""
        ...

    async def audio(self, audio: bytes) -> None:
        """A frame."""
        ...

    async def timings(self, timings: Timings) -> None:
        """When words are heard."""
        ...

    async def end(self, tail: Tail) -> None:
        """That was the whole."""
        ...


class LiveDelivery:
    """Sends audio on as it comes. Raises `ClientStalledError` if the client takes nothing for `stall_s`."""

    def __init__(self, send: Send, wrapping: Wrapping, trace: Trace, stall_s: float) -> None:
        self._send = send
        self._wrapping = wrapping
        self._trace = trace
        self._stall_s = stall_s
        self.begun = False

    async def begin(self, head: Head) -> None:
        """Send status and headers. `odea-characters` is what is held: at most that many are charged."""
        headers = speech_headers(head, self._wrapping, self._trace, head.units_held)
        self.begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def audio(self, audio: bytes) -> None:
        """Send a frame, in pieces."""
        if len(audio) <= PIECE_BYTES:
            await self._piece(audio)
            return
        for start in range(0, len(audio), PIECE_BYTES):
            await self._piece(audio[start : start + PIECE_BYTES])

    async def timings(self, timings: Timings) -> None:
        """Send them, if there is a place for them."""
        if piece := self._wrapping.time(timings.timings):
            await self._give(piece, more=True)

    async def end(self, tail: Tail) -> None:
        """Send what makes the body whole."""
        await self._give(self._wrapping.end(tail.units), more=False)

    async def _piece(self, piece: bytes) -> None:
        await self._give(self._wrapping.wrap(piece), more=True)

    async def _give(self, body: bytes, *, more: bool) -> None:
        try:
            with within(self._stall_s):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise ClientStalledError from None


class Budget:
    """Bytes that all whole deliveries of the process may hold together."""

    def __init__(self, bytes_max: int) -> None:
        self._free = bytes_max

    def take(self, count: int) -> None:
        """Take `count` bytes.

        Raises:
            ProblemError: there are not so many left.
        """
        if count > self._free:
            raise problem(ErrorCode.OVERLOADED)
        self._free -= count

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        self._free += count


class WholeDelivery:
    """Gathers a speech and sends it at once, with its length. Sends nothing if the speech does not become whole."""

    def __init__(self, send: Send, wrapping: Wrapping, trace: Trace, budget: Budget) -> None:
        self._send = send
        self._wrapping = wrapping
        self._trace = trace
        self._budget = budget
        self._head: Head | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self.begun = False

    async def begin(self, head: Head) -> None:
        """Remember what the answer will say."""
        self._head = head

    async def audio(self, audio: bytes) -> None:
        """Keep a frame."""
        self._keep(self._wrapping.wrap(audio))

    async def timings(self, timings: Timings) -> None:
        """Keep them, if there is a place for them."""
        self._keep(self._wrapping.time(timings.timings))

    def _keep(self, piece: bytes) -> None:
        self._budget.take(len(piece))
        self._held += len(piece)
        self._pieces.append(piece)

    async def end(self, tail: Tail) -> None:
        """Send it all. `odea-characters` is what was charged."""
        assert self._head is not None
        body = b"".join([*self._pieces, self._wrapping.end(tail.units)])
        body = self._wrapping.whole(self._head, body)
        headers = speech_headers(self._head, self._wrapping, self._trace, tail.units)
        headers.append((b"content-length", str(len(body)).encode()))
        self.begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def close(self) -> None:
        """Give back the memory."""
        self._pieces.clear()
        self._budget.give_back(self._held)
        self._held = 0


def speech_headers(head: Head, wrapping: Wrapping, trace: Trace, units: int) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with audio; `units` is what `odea-characters` says."""
    overhead_ms = (time.perf_counter() - trace.began) * 1000 - head.first_audio_ms
    headers = [
        ("content-type", wrapping.content_type(head)),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("odea-characters", str(units)),
        ("odea-provider", head.provider),
        ("odea-overhead-ms", str(max(0, round(overhead_ms)))),
        *([("odea-fallback", "1")] if head.fallback else []),
        *rate_limit_headers(head.balances, int(time.time() * 1000)),
    ]
    return [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in headers]
