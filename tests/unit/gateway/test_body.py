"""Bad bodies are cheap and say what is wrong with them (P7, P10)."""

import asyncio
from collections.abc import Awaitable, Iterable

import msgspec
import pytest
from litestar.types import HTTPDisconnectEvent, HTTPReceiveMessage, HTTPRequestEvent

from odea_contracts.errors import ErrorCode, Failure
from odea_gateway.admin.bodies import TenantBody
from odea_gateway.body import decode_body, read_body
from odea_gateway.problems import ProblemError
from odea_gateway.settings import GatewaySettings
from odea_gateway.speech import DECODER, HINTS

BOUNDS = {"body_bytes_max": 100_000, "body_pieces_max": 16, "body_s": 0.05}


def settings() -> GatewaySettings:
    return GatewaySettings.model_validate({"nats_url": "nats://unused", **BOUNDS})


def piece(body: bytes, *, more: bool = True) -> HTTPRequestEvent:
    return {"type": "http.request", "body": body, "more_body": more}


GONE: HTTPDisconnectEvent = {"type": "http.disconnect"}


class Upload:
    """What a server hands over; silent after its last message."""

    def __init__(self, messages: Iterable[HTTPReceiveMessage]) -> None:
        self._messages = list(messages)
        self.taken = 0

    async def receive(self) -> HTTPReceiveMessage:
        if not self._messages:
            await asyncio.Event().wait()
        self.taken += 1
        return self._messages.pop(0)


async def refused(work: Awaitable[object]) -> Failure:
    with pytest.raises(ProblemError) as caught:
        await work
    return caught.value.failure


def misread(body: bytes) -> Failure:
    with pytest.raises(ProblemError) as caught:
        decode_body(body, DECODER, HINTS)
    return caught.value.failure


async def test_a_body_in_pieces_is_put_together() -> None:
    upload = Upload([piece(b"{"), piece(b"}", more=False)])
    assert await read_body([], upload.receive, settings()) == b"{}"


async def test_a_body_of_known_length_is_not_asked_after() -> None:
    upload = Upload([piece(b"{}")])
    assert await read_body([(b"content-length", b"2")], upload.receive, settings()) == b"{}"
    assert upload.taken == 1


async def test_a_long_body_is_refused_before_it_is_read() -> None:
    upload = Upload([piece(b"x")])
    failure = await refused(read_body([(b"content-length", b"100001")], upload.receive, settings()))
    assert failure.code is ErrorCode.REQUEST_TOO_LARGE
    assert upload.taken == 0


async def test_a_body_that_grows_too_long_is_refused_on_the_way() -> None:
    upload = Upload([piece(b"x" * 60_000)] * 3)
    failure = await refused(read_body([], upload.receive, settings()))
    assert failure.code is ErrorCode.REQUEST_TOO_LARGE
    assert upload.taken == 2


async def test_crumbs_are_refused() -> None:
    upload = Upload([piece(b"x")] * 100)
    failure = await refused(read_body([], upload.receive, settings()))
    assert failure.code is ErrorCode.REQUEST_TOO_LARGE
    assert upload.taken == 16


async def test_a_body_that_does_not_come_is_given_up() -> None:
    upload = Upload([piece(b"{")])
    failure = await refused(read_body([(b"content-length", b"2")], upload.receive, settings()))
    assert failure.code is ErrorCode.INVALID_JSON


async def test_a_body_that_breaks_off_is_refused() -> None:
    upload = Upload([piece(b"{"), GONE])
    failure = await refused(read_body([], upload.receive, settings()))
    assert failure.code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize(
    "kind",
    [b"application/json", b"Application/JSON; charset=utf-8", b"application/problem+json", b"", b" ;charset=utf-8"],
)
async def test_json_by_any_name_is_read(kind: bytes) -> None:
    upload = Upload([piece(b"{}", more=False)])
    assert await read_body([(b"content-type", kind)], upload.receive, settings()) == b"{}"


@pytest.mark.parametrize("kind", [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; a=b"])
async def test_other_kinds_are_refused_unread(kind: bytes) -> None:
    upload = Upload([piece(b"{}", more=False)])
    failure = await refused(read_body([(b"content-type", kind)], upload.receive, settings()))
    assert failure.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
    assert upload.taken == 0


async def test_compressed_bodies_are_refused() -> None:
    upload = Upload([piece(b"{}", more=False)])
    failure = await refused(read_body([(b"content-encoding", b"gzip")], upload.receive, settings()))
    assert failure.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE


NO_JSON = {
    "nothing": b"",
    "text": b"hello",
    "cut": b'{"model":"tts-1"',
    "more after the end": b'{"model":"tts-1","voice":"a","input":"hi"} {}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "not UTF-8": b'{"model":"\xff\xfe"}',
    "a surrogate in UTF-8": b'{"model":"\xed\xa0\xbd"}',
    "half a pair escaped": b'{"model":"tts-1","voice":"a","input":"hi \\ud83d there"}',
    "the other half": b'{"model":"tts-1","voice":"a","input":"\\ude00"}',
    "NaN": b'{"speed":NaN}',
    "a comment": b'{/* */"model":"tts-1"}',
    "nesting without end": b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    failure = misread(body)
    assert failure.code is ErrorCode.INVALID_JSON


def speech(**fields: str) -> bytes:
    given = {"model": '"tts-1"', "voice": '"alloy"', "input": '"Hello"', **fields}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in given.items() if value) + "}").encode()


MISFITS = {
    "no model": (speech(model=""), ErrorCode.MISSING_PARAMETER, "model"),
    "no voice": (speech(voice=""), ErrorCode.MISSING_PARAMETER, "voice"),
    "no input": (speech(input=""), ErrorCode.MISSING_PARAMETER, "input"),
    "nothing at all": (b"{}", ErrorCode.MISSING_PARAMETER, "model"),
    "an array": (b"[]", ErrorCode.INVALID_TYPE, None),
    "a string": (b'"hello"', ErrorCode.INVALID_TYPE, None),
    "null": (b"null", ErrorCode.INVALID_TYPE, None),
    "a number for the input": (speech(input="5"), ErrorCode.INVALID_TYPE, "input"),
    "null for the input": (speech(input="null"), ErrorCode.INVALID_TYPE, "input"),
    "a list for the model": (speech(model='["a"]'), ErrorCode.INVALID_TYPE, "model"),
    "an empty model": (speech(model='""'), ErrorCode.EMPTY_INPUT, "model"),
    "an endless model": (speech(model='"' + "m" * 129 + '"'), ErrorCode.INPUT_TOO_LONG, "model"),
    "a control in the model": (speech(model='"a\\u0000b"'), ErrorCode.INVALID_VALUE, "model"),
    "a newline after the voice": (speech(voice='"alloy\\n"'), ErrorCode.INVALID_VALUE, "voice"),
    "a number for the voice": (speech(voice="1"), ErrorCode.INVALID_TYPE, "voice"),
    "a voice object without an id": (speech(voice="{}"), ErrorCode.MISSING_PARAMETER, "voice.id"),
    "a voice id of the wrong type": (speech(voice='{"id":1}'), ErrorCode.INVALID_TYPE, "voice.id"),
    "an unknown format": (speech(response_format='"mp4"'), ErrorCode.INVALID_VALUE, "response_format"),
    "a number for the format": (speech(response_format="3"), ErrorCode.INVALID_TYPE, "response_format"),
    "too slow": (speech(speed="0.2"), ErrorCode.INVALID_VALUE, "speed"),
    "too fast": (speech(speed="4.01"), ErrorCode.INVALID_VALUE, "speed"),
    "a string for the speed": (speech(speed='"1"'), ErrorCode.INVALID_TYPE, "speed"),
    "true for the speed": (speech(speed="true"), ErrorCode.INVALID_TYPE, "speed"),
    "an unknown stream format": (speech(stream_format='"ws"'), ErrorCode.INVALID_VALUE, "stream_format"),
    "a low rate": (speech(sample_rate="7999"), ErrorCode.INVALID_VALUE, "sample_rate"),
    "a fraction of a rate": (speech(sample_rate="8000.5"), ErrorCode.INVALID_TYPE, "sample_rate"),
    "a number for the instructions": (speech(instructions="1"), ErrorCode.INVALID_TYPE, "instructions"),
}


@pytest.mark.parametrize(("body", "code", "param"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named(body: bytes, code: ErrorCode, param: str | None) -> None:
    failure = misread(body)
    assert (failure.code, failure.param) == (code, param)


def test_no_value_is_repeated() -> None:
    """P6: people put keys into the wrong field."""
    failure = misread(speech(response_format='"odea_sk_secret"'))
    assert "odea_sk" not in failure.message
    assert "mp3" in failure.message


STRICT = msgspec.json.Decoder(TenantBody)


@pytest.mark.parametrize(
    ("name", "param"),
    [
        ("plam", "plam"),
        ("odea_sk_A1b2C3d4E5f6", "?"),
        ("odea_sk_" + "A" * 105, "?"),
        ("a b", "?"),
        ("a`b\\n", "?"),
        ("", "?"),
        ("\u202e", "?"),
    ],
)
def test_a_field_that_is_not_known_is_named_if_it_is_a_name(name: str, param: str) -> None:
    """P6: the name is the caller's too, who may have put a key there."""
    with pytest.raises(ProblemError) as caught:
        decode_body(f'{{"name":"x","{name}":1}}'.encode(), STRICT, {})
    failure = caught.value.failure
    assert (failure.code, failure.param) == (ErrorCode.INVALID_VALUE, param)
    assert failure.message == f"Unknown parameter: '{param}'."


def test_a_number_beyond_all_numbers_is_refused() -> None:
    failure = misread(speech(speed="1e999"))
    assert failure.code in {ErrorCode.INVALID_JSON, ErrorCode.INVALID_VALUE, ErrorCode.INVALID_TYPE}
