"""A speech server that costs next to nothing: OpenAI's endpoint on a bare protocol, which counts what it synthesised.

`python -m bench.upstream [--port N]` prints its URL. Which request it is stands in the text (see `request_text`),
so the count is by request id, whatever way it came. A text counts when its first audio is sent, as vendors bill.

`POST /control` sets the delays (seconds; log-normal around the median) and the mood; `GET /counts` tells the counts.
"""

import asyncio
import random
import signal
import zlib
from collections import Counter
from enum import StrEnum
from typing import Any, Final, cast

import click
import msgspec
import uvloop

from bench.records import AUDIO_BYTES, PIECES, Wish

HOST: Final = "127.0.0.1"
AUDIO: Final = b"\xff\xfb\x90\x00" + random.Random(20).randbytes(AUDIO_BYTES - 4)
AUDIO_CRC: Final = zlib.crc32(AUDIO)
_STEP: Final = AUDIO_BYTES // PIECES
_CHUNKS: Final = tuple(
    b"%x\r\n%b\r\n" % (_STEP, AUDIO[start : start + _STEP]) for start in range(0, AUDIO_BYTES, _STEP)
)
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST: Final = b"0\r\n\r\n"
_WHOLE: Final = _HEAD + b"".join(_CHUNKS) + _LAST
_BEGUN: Final = _HEAD + _CHUNKS[0]
_FAILED: Final = b'{"error": {"message": "made to fail", "type": "server_error", "param": null, "code": null}}'


class Mood(StrEnum):
    """How the whole server is."""

    WELL = "well"
    GONE = "gone"
    """Every connection is cut at once, and every new one."""


class Control(msgspec.Struct, kw_only=True):
    """What `POST /control` takes."""

    first_s: float = 0.0
    between_s: float = 0.0
    sigma: float = 0.0
    mood: Mood = Mood.WELL


class Asked(msgspec.Struct):
    """The part of a request that matters here."""

    input: str


class Upstream:
    """What all connections share."""

    def __init__(self) -> None:
        self.control = Control()
        self.counts: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self._random = random.Random(7)

    def delay_s(self, median_s: float) -> float:
        """A time around the median."""
        if not self.control.sigma:
            return median_s
        return median_s * self._random.lognormvariate(0, self.control.sigma)

    def apply(self, control: Control, asked_by: "Connection") -> None:
        """Be like that from now on."""
        self.control = control
        if control.mood is Mood.GONE:
            for connection in self.connections - {asked_by}:
                connection.cut()


class Connection(asyncio.Protocol):
    """One client. Requests are answered one after the other."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._upstream.connections.add(self)
        if self._upstream.control.mood is Mood.GONE:
            # Whoever wants to control it asks once and is served; see `_serve`.
            asyncio.get_running_loop().call_later(0.05, self._leave_unless_control)

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None or isinstance(exc, Exception)
        self._upstream.connections.discard(self)
        self._transport = None
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._serve()

    def cut(self) -> None:
        """Close it without an end."""
        if self._transport:
            self._transport.abort()

    def _leave_unless_control(self) -> None:
        if self._upstream.control.mood is Mood.GONE:
            self.cut()

    def _serve(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if len(rest) < length:
            return
        body, self._buffer = rest[:length], rest[length:]
        self._answer(lines[0], body)

    def _answer(self, line: bytes, body: bytes) -> None:
        if line.startswith(b"post /control"):
            self._upstream.apply(msgspec.json.decode(body, type=Control), self)
            self._json(b"200 OK", b"{}")
        elif line.startswith(b"get /counts"):
            self._json(b"200 OK", msgspec.json.encode(self._upstream.counts))
        elif self._upstream.control.mood is Mood.GONE:
            self.cut()
        elif not line.startswith(b"post /v1/audio/speech"):
            self._json(b"404 Not Found", b"{}")
        else:
            self._speak(msgspec.json.decode(body, type=Asked).input)

    def _speak(self, text: str) -> None:
        request_id, wish, _ = text.split(" ", 2)
        first_s = self._upstream.control.first_s
        if wish == Wish.SILENT:
            self._busy = True
        elif first_s:
            self._later(first_s, self._begin, request_id, wish, len(text))
        else:
            self._begin(request_id, wish, len(text))

    def _begin(self, request_id: str, wish: str, characters: int) -> None:
        if wish == Wish.REFUSE:
            self._json(b"500 Internal Server Error", _FAILED)
            return
        self._upstream.counts[request_id] += characters
        if wish in {Wish.CUT, Wish.STALL} or self._upstream.control.between_s:
            self._write(_BEGUN)
            if wish == Wish.STALL:
                self._busy = True
            else:
                self._later(self._upstream.control.between_s or 0.01, self._go_on, 1, wish)
            return
        self._write(_WHOLE)
        self._done()

    def _go_on(self, piece: int, wish: str) -> None:
        if wish == Wish.CUT:
            self.cut()
        elif piece == PIECES - 1:
            self._write(_CHUNKS[piece] + _LAST)
            self._done()
        else:
            self._write(_CHUNKS[piece])
            self._later(self._upstream.control.between_s, self._go_on, piece + 1, wish)

    def _later(self, median_s: float, what: Any, *arguments: object) -> None:
        self._busy = True
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._upstream.delay_s(median_s), what, *arguments)

    def _json(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self._write(head + body)
        self._done()

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def _done(self) -> None:
        self._busy = False
        if self._buffer:
            self._serve()


async def serve(port: int) -> None:
    """Serve until told to stop."""
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(upstream), HOST, port, backlog=4096)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    click.echo(f"http://{HOST}:{server.sockets[0].getsockname()[1]}")
    await stop.wait()
    server.close()


@click.command()
@click.option("--port", default=0)
def main(port: int) -> None:
    """Serve until told to stop."""
    uvloop.run(serve(port))


if __name__ == "__main__":
    main()
