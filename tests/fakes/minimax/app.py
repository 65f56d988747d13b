"""The fake's endpoints."""

# ruff: noqa: RUF001 - the brackets of that voice are what its name is written with.
import asyncio
from collections import deque
from collections.abc import Mapping

import msgspec
from aiohttp import web

from fakes import tones
from fakes.minimax.behaviour import Behaviour, End, Heard
from fakes.minimax.requests import RefusedError, T2a, read, units
from fakes.minimax.subtitles import subtitles
from fakes.serving import Delays, cut, write

VOICES = (
    "English_expressive_narrator", "English_Graceful_Lady", "male-qn-qingse", "Santa_Claus ",
    "Cantonese_ProfessionalHost（F)",
)  # fmt: skip
KEY = "test-minimax-key"


class FakeMiniMax:
    """The server. `behaviours` are used up one a request for speech; after that all goes well."""

    def __init__(self, *, keys: tuple[str, ...] = (KEY,), delays: Delays | None = None, pieces: int = 4) -> None:
        self.keys = keys
        self.behaviours: deque[Behaviour] = deque()
        self.by_key: dict[str, Behaviour] = {}
        self.heard: list[Heard] = []
        self.voice_lists = 0
        self.voices_fail: int = 0
        self._delays = delays or Delays()
        self._pieces = pieces
        self._subtitles: dict[str, bytes] = {}
        self.app = web.Application(client_max_size=1024 * 1024)
        self.app.add_routes(
            [
                web.post("/v1/t2a_v2", self._speak),
                web.post("/v1/get_voice", self._voices),
                web.get("/files/{name}", self._file),
            ]
        )

    @property
    def billed_units(self) -> int:
        """What all requests together were billed."""
        return sum(heard.billed_units for heard in self.heard)

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        heard = Heard(key=_key(request), path=request.path, query=dict(request.query), body=await request.read())
        self.heard.append(heard)
        behaviour = self.by_key.get(heard.key) or (self.behaviours.popleft() if self.behaviours else Behaviour())
        try:
            asked = self._read(request, heard)
            if behaviour.status != 200 or behaviour.body is not None:
                body = behaviour.body or b"<html>bad gateway</html>"
                return web.Response(status=behaviour.status, body=body, headers=behaviour.headers)
            await self._delays.first()
            if behaviour.code and behaviour.end is not End.ERROR:
                return _bare(behaviour.code, behaviour.text)
            heard.billed_units = units(asked.text)
            if asked.stream:
                return await self._stream(request, asked, behaviour, heard)
            return await self._whole(request, asked, behaviour, heard)
        except RefusedError as refused:
            return _bare(refused.code, refused.text)
        except (asyncio.CancelledError, ConnectionError):
            heard.left = True
            raise
        finally:
            heard.ended.set()

    def _read(self, request: web.Request, heard: Heard) -> T2a:
        if not heard.key:
            raise RefusedError(
                1004, "login fail: Please carry the API secret key in the 'Authorization' field of the request header"
            )
        if heard.key not in self.keys:
            raise RefusedError(2049, "invalid api key")
        if request.content_type != "application/json":
            raise RefusedError(2013, "invalid params, content-type")
        return read(heard.body, frozenset(VOICES))

    async def _whole(self, request: web.Request, asked: T2a, behaviour: Behaviour, heard: Heard) -> web.StreamResponse:
        if behaviour.end is End.STALL:
            await asyncio.Event().wait()
        heard.audio = _spoken(asked)
        text = "" if behaviour.no_audio else behaviour.piece or heard.audio.hex()
        answer = self._ending(request, asked, behaviour, text)
        body = msgspec.json.encode(answer)
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(body))})
        await response.prepare(request)
        if behaviour.end is End.CUT:
            await response.write(body[: len(body) // 2])
            cut(request)
            return response
        await write(response, body, behaviour.split_bytes)
        return response

    async def _stream(self, request: web.Request, asked: T2a, behaviour: Behaviour, heard: Heard) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "trace-id": "header-trace"})
        await response.prepare(request)
        ends = behaviour.end is not End.WHOLE
        pieces = [] if behaviour.no_audio else tones.pieces(_spoken(asked), self._pieces)
        for piece in pieces[: behaviour.pieces_before_end if ends else None]:
            if heard.pieces:
                await self._delays.between()
            event = {"data": {"audio": behaviour.piece or piece.hex(), "status": 1}, "trace_id": "chunk-trace"}
            await write(response, _event(event, behaviour), behaviour.split_bytes)
            heard.pieces += 1
            heard.audio += piece
        match behaviour.end:
            case End.STALL:
                await asyncio.Event().wait()
            case End.CUT:
                await response.write(b'data: {"data":{"audio":"00')
                cut(request)
            case End.ERROR:
                failed = {"trace_id": "failed-trace", "base_resp": _base(behaviour.code, behaviour.text)}
                await write(response, _event(failed, behaviour), behaviour.split_bytes)
            case End.WHOLE:
                await self._last(response, request, asked, behaviour, heard)
            case End.SILENT:
                pass
        return response

    async def _last(
        self, response: web.StreamResponse, request: web.Request, asked: T2a, behaviour: Behaviour, heard: Heard
    ) -> None:
        repeated = behaviour.repeats or not asked.stream_options.exclude_aggregated_audio
        text = heard.audio.hex() if repeated else "" if behaviour.last_audio else None
        answer = self._ending(request, asked, behaviour, text)
        await write(response, _event(answer, behaviour), behaviour.split_bytes)
        if behaviour.done_marker:
            await response.write(b"data: [DONE]\n\n")

    def _ending(self, request: web.Request, asked: T2a, behaviour: Behaviour, text: str | None) -> dict[str, object]:
        data: dict[str, object] = {"status": 2, "ced": ""}
        if text is not None:
            data["audio"] = text
        if asked.subtitle_enable:
            name = f"{len(self._subtitles)}.json"
            self._subtitles[name] = behaviour.subtitles or subtitles(asked)
            data["subtitle_file"] = f"http://{request.host}/files/{name}"
        extra = {
            "audio_length": int(tones.duration_s(asked.text) * 1000),
            "audio_sample_rate": asked.audio_setting.sample_rate,
            # The real one was seen to say 0 for a good file.
            "audio_size": 0,
            "bitrate": asked.audio_setting.bitrate,
            "audio_format": asked.audio_setting.format,
            "audio_channel": asked.audio_setting.channel,
            "invisible_character_ratio": 0,
            "usage_characters": units(asked.text) if behaviour.usage is None else behaviour.usage,
            "word_count": len(asked.text.split()),
        }
        return {"data": data, "extra_info": extra, "trace_id": "last-trace", "base_resp": _base(0, "success")}

    async def _voices(self, request: web.Request) -> web.Response:
        self.voice_lists += 1
        if _key(request) not in self.keys:
            return _bare(2049, "invalid api key")
        if self.voices_fail:
            return _bare(self.voices_fail, "failed")
        asked = await request.json()
        if asked not in [{"voice_type": kind} for kind in ("system", "voice_cloning", "voice_generation", "all")]:
            return _bare(2013, "invalid params, voice_type")
        system = [{"voice_id": name, "voice_name": name.title(), "description": ["A voice."]} for name in VOICES]
        clones = [{"voice_id": "OurClone1", "description": [], "created_time": "2026-11-01"}]
        answer = {"system_voice": system, "voice_cloning": clones, "voice_generation": None}
        return web.json_response(answer | {"base_resp": _base(0, "success")})

    async def _file(self, request: web.Request) -> web.Response:
        if "authorization" in request.headers:
            return web.Response(status=400, text="a signed URL takes no credentials")
        body = self._subtitles.get(request.match_info["name"])
        return web.Response(status=404) if body is None else web.Response(body=body, content_type="application/json")


def _spoken(asked: T2a) -> bytes:
    setting = asked.audio_setting
    return tones.audio(len(asked.text), setting.format, setting.sample_rate, setting.channel)


def _key(request: web.Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key if scheme == "Bearer" else ""


def _base(code: int, text: str) -> dict[str, object]:
    return {"status_code": code, "status_msg": text}


def _bare(code: int, text: str) -> web.Response:
    return web.json_response({"base_resp": _base(code, text)})


def _event(event: Mapping[str, object], behaviour: Behaviour) -> bytes:
    padding = {"padding": "x" * behaviour.padding_bytes} if behaviour.padding_bytes else {}
    whole = {**padding, "base_resp": _base(0, ""), **event}
    return b"data: " + msgspec.json.encode(whole) + b"\n\n"
