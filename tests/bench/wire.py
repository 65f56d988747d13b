"""One HTTP/1.1 connection for load: no more than a speech client needs, and exact about how an answer ends."""

import asyncio
import re
import time
import zlib
from typing import Final, cast

from bench.records import End

_LENGTH: Final = re.compile(rb"content-length: *(\d+)")
_CODE: Final = re.compile(rb'"code": ?"([a-z_]+)"')
_RETRY: Final = re.compile(rb"\nretry-after: *([0-9]+)")


class Answer:
    """What came back so far."""

    __slots__ = ("body", "bytes", "crc", "end", "first", "head", "status")

    def __init__(self) -> None:
        self.status = 0
        self.head = b""
        self.bytes = 0
        self.crc = 0
        self.body = b""
        self.first = 0.0
        self.end: End | None = None

    @property
    def code(self) -> str:
        """The error's."""
        found = _CODE.search(self.body)
        return found[1].decode() if found else ""

    @property
    def retry_after_s(self) -> float | None:
        """When to come back."""
        found = _RETRY.search(self.head)
        return float(found[1]) if found else None


class Connection(asyncio.Protocol):
    """Asks one request at a time. After anything but a whole answer it is closed and must be made anew."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer = Answer()
        self._waiter: asyncio.Future[None] | None = None
        self._rest = b""
        self._length = 0
        self._chunked = False
        self._left = 0
        self._line_end = False
        self._last = False
        self._leave_at_first = False

    @property
    def usable(self) -> bool:
        """Whether another request can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, *, hang_s: float, leave_at_first: bool, leave_after_s: float | None) -> Answer:
        """The answer, however it ends."""
        assert self._transport
        answer = self._answer = Answer()
        self._rest, self._left, self._line_end, self._last = b"", 0, False, False
        self._leave_at_first = leave_at_first
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(
            hang_s if leave_after_s is None else leave_after_s, self._give_up, leave_after_s is None
        )
        self._transport.write(request)
        try:
            await self._waiter
        finally:
            timer.cancel()
        return answer

    def close(self) -> None:
        """Close it, whatever it does."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None or isinstance(exc, Exception)
        self._transport = None
        self._end(End.BROKEN if self._answer.status == 200 else End.LOST)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            # Nothing was asked: the server says that it closes.
            self.close()
            return
        if not self._answer.status:
            head, found, rest = (self._rest + data).partition(b"\r\n\r\n")
            if not found:
                self._rest += data
                return
            self._begin(head.lower(), rest)
        else:
            self._body(data)

    def _begin(self, head: bytes, rest: bytes) -> None:
        answer = self._answer
        answer.head, answer.status, self._rest = head, int(head[9:12]), b""
        self._chunked = b"transfer-encoding: chunked" in head
        length = _LENGTH.search(head)
        self._length = int(length[1]) if length else 0
        if rest or (not self._chunked and not self._length):
            self._body(rest)

    def _body(self, data: bytes) -> None:
        answer = self._answer
        if not answer.first:
            answer.first = time.monotonic()
        if self._chunked:
            self._chunks(self._rest + data if self._rest else data)
        else:
            self._take(data)
            if answer.bytes >= self._length:
                self._end(End.WHOLE if answer.status == 200 else End.REFUSED)
        if self._leave_at_first and answer.status == 200 and answer.end is None:
            self._end(End.LEFT)
            self.close()

    def _chunks(self, data: bytes) -> None:
        at, size = 0, len(data)
        while True:
            if self._left:
                piece = data[at : at + self._left]
                self._take(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._line_end = True
            if self._line_end:
                if size - at < 2:
                    break
                at += 2
                self._line_end = False
                if self._last:
                    self._end(End.WHOLE if self._answer.status == 200 else End.REFUSED)
                    break
            stop = data.find(b"\r\n", at)
            if stop < 0:
                break
            self._left = int(data[at:stop].partition(b";")[0], 16)
            at = stop + 2
            self._last = self._line_end = not self._left
        self._rest = data[at:]

    def _take(self, piece: bytes) -> None:
        answer = self._answer
        answer.bytes += len(piece)
        if answer.status == 200:
            answer.crc = zlib.crc32(piece, answer.crc)
        else:
            answer.body += piece

    def _give_up(self, hung: bool) -> None:
        self._end(End.HUNG if hung else End.LEFT)
        self.close()

    def _end(self, end: End) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter and not waiter.done():
            self._answer.end = end
            waiter.set_result(None)
