"""Reads what T2A v2 answers: one JSON object, or one in each event of a stream."""

import binascii
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import httpx
import msgspec

from odea_synth.providers.minimax.codes import refusal, status_refusal
from odea_synth.providers.minimax.options import MiniMaxOptions
from odea_synth.providers.upstream import UNREADABLE, broken, read_body, read_lines

_TRACE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TRACE_HEADERS: Final = ("trace-id", "x-trace-id", "minimax-request-id")
_ERROR_BODY_BYTES_MAX: Final = 64 * 1024


class Base(msgspec.Struct, frozen=True):
    """How it went."""

    status_code: int = 0
    status_msg: str = ""
    trace_id: str | None = None


class Data(msgspec.Struct, frozen=True):
    """A piece of audio in hex."""

    audio: str | None = None
    status: int | None = None
    subtitle_file: str | None = None


class Extra(msgspec.Struct, frozen=True):
    """What is told at the end."""

    usage_characters: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """A whole answer, or an event."""

    data: Data | None = None
    extra_info: Extra | None = None
    trace_id: str | None = None
    base_resp: Base | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing comes behind it."""
        return self.data is not None and self.data.status == 2

    def audio(self) -> bytes:
        """The audio in it.

        Raises:
            ProviderError: of class upstream; it is not hex.
        """
        try:
            return binascii.unhexlify(self.data.audio) if self.data and self.data.audio else b""
        except ValueError as error:
            raise broken("the audio is not hex") from error

    def usage(self) -> int | None:
        """What MiniMax billed, if it says so in a way that can be true."""
        units = self.extra_info.usage_characters if self.extra_info else None
        return units if units is not None and units >= 0 else None


_ANSWER: Final = msgspec.json.Decoder(Answer)


def trace_of(response: httpx.Response, answer: Answer | None = None) -> str | None:
    """MiniMax's names for a request, for its support; whatever does not look like one is left out."""
    base = answer.base_resp if answer else None
    given = (
        answer.trace_id if answer else None,
        base.trace_id if base else None,
        *(response.headers.get(name) for name in _TRACE_HEADERS),
    )
    traces = dict.fromkeys(trace for trace in given if trace and _TRACE.fullmatch(trace))
    return " ".join(traces) or None


async def read_answers(response: httpx.Response, options: MiniMaxOptions) -> AsyncGenerator[Answer]:
    """The events of a stream, or the one object that came instead. The last one has status 2.

    Args:
        response: headers are there, the body not yet.
        options: bounds, and how refusals are judged.

    Raises:
        ProviderError: a refusal in any of its shapes, or an answer that is not whole.
    """
    if response.status_code != 200:
        raise await _refused(response, options)
    if _media_type(response) != "text/event-stream":
        yield _checked(await read_body(response, options.upstream.body_bytes_max), response, options)
        return
    async with aclosing(read_lines(response, options.upstream.line_bytes_max)) as lines:
        async for line in lines:
            if (payload := _payload(line)) is None:
                continue
            answer = _checked(payload, response, options)
            yield answer
            if answer.is_last:
                return
    raise broken("the stream has no end")


def _payload(line: bytes) -> bytes | None:
    if line.startswith(b"data:"):
        payload = line[5:].strip()
        return None if payload in (b"", b"[DONE]") else payload
    # A refusal was seen as a bare object, too.
    return line if line.startswith(b"{") else None


def _checked(payload: bytes, response: httpx.Response, options: MiniMaxOptions) -> Answer:
    try:
        answer = _ANSWER.decode(payload)
    except UNREADABLE as error:
        raise broken("the answer is not JSON as agreed") from error
    base = answer.base_resp
    if base is not None and base.status_code != 0:
        raise refusal(base.status_code, base.status_msg, options, trace_id=trace_of(response, answer))
    return answer


async def _refused(response: httpx.Response, options: MiniMaxOptions) -> Exception:
    try:
        answer = _ANSWER.decode(await read_body(response, _ERROR_BODY_BYTES_MAX))
    except UNREADABLE:
        answer = Answer()
    trace_id = trace_of(response, answer)
    if answer.base_resp and answer.base_resp.status_code:
        return refusal(answer.base_resp.status_code, answer.base_resp.status_msg, options, trace_id=trace_id)
    return status_refusal(response, options, trace_id=trace_id)


def _media_type(response: httpx.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()
