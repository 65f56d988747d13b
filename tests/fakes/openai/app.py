"""The fake's endpoints."""

import asyncio
import base64
from collections import deque

import msgspec
from aiohttp import web

from fakes import tones
from fakes.openai.behaviour import Behaviour, End, Heard, Kind
from fakes.openai.requests import MODELS, VOICES, AnySpeech, RefusedError, openai_error, read
from fakes.serving import Delays, cut, write

KEY = "test-openai-key"
_TYPES = {
    "mp3": "audio/mpeg", "opus": "audio/opus", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip


class FakeOpenAI:
    """The server. `behaviours` are used up one a request for speech; after that all goes well.

    OpenAI and Odea want a key, the others take anybody.
    """

    def __init__(
        self, kind: Kind = Kind.OPENAI, *, keys: tuple[str, ...] = (KEY,), delays: Delays | None = None, pieces: int = 4
    ) -> None:
        self.kind = kind
        self.keys = keys if kind in {Kind.OPENAI, Kind.ODEA} else None
        self.behaviours: deque[Behaviour] = deque()
        self.by_key: dict[str, Behaviour] = {}
        self.heard: list[Heard] = []
        self.voice_lists = 0
        self.voices: object = None
        self._delays = delays or Delays()
        self._pieces = pieces
        self.app = web.Application(client_max_size=1024 * 1024)
        self.app.add_routes([web.post("/v1/audio/speech", self._speak), web.get("/v1/models", self._models)])
        if kind is not Kind.OPENAI:
            self.app.add_routes([web.get("/v1/audio/voices", self._voices)])

    @property
    def billed_units(self) -> int:
        """What all requests together were billed, in characters."""
        return sum(heard.billed_units for heard in self.heard)

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        heard = Heard(key=_key(request), body=await request.read())
        self.heard.append(heard)
        behaviour = self.by_key.get(heard.key) or (self.behaviours.popleft() if self.behaviours else Behaviour())
        try:
            asked = self._read(request, heard)
            await self._delays.first()
            if behaviour.status != 200:
                return _refusal(behaviour.status, behaviour.error, behaviour)
            heard.billed_units = len(asked.input)
            if getattr(asked, "stream_format", "audio") == "sse":
                return await self._events(request, asked)
            return await self._audio(request, asked, behaviour, heard)
        except RefusedError as refused:
            return _refusal(refused.status, refused.body, behaviour)
        except (asyncio.CancelledError, ConnectionError):
            heard.left = True
            raise
        finally:
            heard.ended.set()

    def _read(self, request: web.Request, heard: Heard) -> AnySpeech:
        if self.keys is not None and heard.key not in self.keys:
            raise RefusedError(401, openai_error("Incorrect API key", "invalid_request_error", "invalid_api_key"))
        if request.content_type != "application/json":
            raise RefusedError(415, openai_error("Unsupported media type", "invalid_request_error"))
        return read(self.kind, heard.body)

    async def _audio(
        self, request: web.Request, asked: AnySpeech, behaviour: Behaviour, heard: Heard
    ) -> web.StreamResponse:
        audio = _spoken(asked, behaviour.form) if behaviour.body is None else behaviour.body
        headers = {
            "content-type": behaviour.content_type or _TYPES[asked.response_format],
            "x-request-id": "req_fake",
            **({"odea-characters": str(2 * len(asked.input))} if self.kind is Kind.ODEA else {}),
            **behaviour.headers,
        }
        response = web.StreamResponse(headers=headers)
        if behaviour.end is End.SHORT:
            response.content_length = len(audio) + 1
        elif behaviour.end is End.UNMARKED:
            heard.audio = audio
            _send_unmarked(request, audio, headers)
            return response
        await response.prepare(request)
        ends = behaviour.end in {End.CUT, End.STALL}
        pieces = tones.pieces(audio, self._pieces) if audio else []
        for piece in pieces[: behaviour.pieces_before_end if ends else None]:
            if heard.pieces:
                await self._delays.between()
            await write(response, piece, behaviour.split_bytes)
            heard.pieces += 1
            heard.audio += piece
        if behaviour.end is End.STALL:
            await asyncio.Event().wait()
        if behaviour.end in {End.CUT, End.SHORT}:
            await response.write(b"")
            await asyncio.sleep(behaviour.pause_s)
            assert request.transport
            request.transport.close() if behaviour.end is End.SHORT else cut(request)
        return response

    async def _events(self, request: web.Request, asked: AnySpeech) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in tones.pieces(_spoken(asked, None), self._pieces):
            await response.write(_event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}))
        usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
        # Speaches calls it otherwise, and always says zero.
        name = "token_usage" if self.kind is Kind.SPEACHES else "usage"
        said = dict.fromkeys(usage, 0) if self.kind is Kind.SPEACHES else usage
        await response.write(_event({"type": "speech.audio.done", name: said}))
        return response

    async def _voices(self, request: web.Request) -> web.Response:
        self.voice_lists += 1
        if self.keys is not None and _key(request) not in self.keys:
            body = openai_error("Incorrect API key", "invalid_request_error", "invalid_api_key")
            return web.json_response(body, status=401)
        voices = [{"id": name, "name": name.title()} for name in VOICES[self.kind]]
        object_ = {"object": "list"} if self.kind is Kind.SPEACHES else {}
        return web.json_response({"voices": voices, **object_} if self.voices is None else self.voices)

    async def _models(self, request: web.Request) -> web.Response:
        assert request.method == "GET"
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "fake"} for name in MODELS[self.kind]]
        return web.json_response({"object": "list", "data": models})


def _spoken(asked: AnySpeech, form: str | None) -> bytes:
    rate_hz = getattr(asked, "sample_rate", None) or 24_000
    return tones.audio(len(asked.input), form or asked.response_format, rate_hz)


def _refusal(status: int, error: dict[str, object], behaviour: Behaviour) -> web.Response:
    headers = {"x-request-id": "req_fake", **behaviour.headers}
    body = behaviour.body if behaviour.body is not None else msgspec.json.encode(error)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


def _key(request: web.Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key if scheme == "Bearer" else ""


def _event(event: dict[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _send_unmarked(request: web.Request, audio: bytes, headers: dict[str, str]) -> None:
    """Neither chunked nor with a length, which the server itself cannot do any more."""
    lines = ["HTTP/1.1 200 OK", "connection: close", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    assert request.transport
    request.transport.write("\r\n".join(lines).encode() + audio)
    request.transport.close()
