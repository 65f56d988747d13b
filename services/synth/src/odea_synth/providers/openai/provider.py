"""The provider `openai`: the speech endpoint of OpenAI, wherever it is served."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import httpx
import msgspec
import structlog
from pydantic import SecretStr

from odea_contracts.synth import AudioFormat
from odea_synth.providers.base import Chunk, Encoded, ErrorClass, Pcm, ProviderError, SourceFormat, Utterance, Voice
from odea_synth.providers.credentials import Credential, Credentials
from odea_synth.providers.openai.options import OPENAI_VOICES, WAYS, Flavour, OpenAIOptions
from odea_synth.providers.openai.refusals import refusal
from odea_synth.providers.openai.voices import read_voices
from odea_synth.providers.units import most_units
from odea_synth.providers.upstream import Slots, UpstreamClient, broken, pieces, read_body, upstream_faults
from odea_synth.providers.voicelist import VoiceList

SPEED_MIN: Final = 0.25
SPEED_MAX: Final = 4.0
RATE_HZ: Final = 24_000
"""The rate of OpenAI's pcm."""

_log = structlog.get_logger()
_ERROR_BODY_BYTES_MAX: Final = 64 * 1024
_VOICES_BYTES_MAX: Final = 8 * 1024 * 1024
_TRACE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_NOBODY: Final = Credential(name="none", secret=SecretStr(""))
# A body that begins like another format than was asked for: some proxies always answer in mp3, whatever they are asked.
_BEGINNINGS: Final = {
    b"RIFF": AudioFormat.WAV,
    b"OggS": AudioFormat.OPUS,
    b"fLaC": AudioFormat.FLAC,
    b"ID3\x03": AudioFormat.MP3,
    b"ID3\x04": AudioFormat.MP3,
}
# What Kokoro-FastAPI would take for an order, it is to speak.
_KOKORO_MARKUP: Final = re.compile(r"\[(?=(?:pause|voice|rate):)")


class OpenAIProvider:
    """A `Provider` whose units are the characters of the text, or what another Odea holds for them.

    The whole text counts as billed from the first audio on: no server tells how far it has come.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        """Prepare only; `start` opens the connections."""
        self.name = options.name
        self._options = options
        self._ways = WAYS[options.flavour]
        self._formats = self._ways.formats if options.formats is None else options.formats
        self._text_characters_max = options.text_characters_max or self._ways.text_characters_max
        self._credentials = Credentials(options.name, options.credentials or (_NOBODY,))
        self._slots = Slots(options.upstream)
        self._voices = VoiceList(self._list_voices, ttl_s=options.voices_ttl_s, voices_max=options.voices_max)
        self._client: UpstreamClient | None = None

    async def start(self) -> None:
        """See `Provider`. Nothing is asked of the server yet, so that its trouble keeps nobody from starting."""
        self._client = UpstreamClient(self._options.base_url, self._options.upstream)

    async def close(self) -> None:
        """See `Provider`."""
        if self._client:
            await self._client.close()

    async def voices(self) -> tuple[Voice, ...]:
        """See `Provider`. A voice that is not in the list may speak all the same."""
        return await self._voices.get()

    def bound_units(self, utterance: Utterance) -> int:
        """See `Provider`."""
        # Another Odea bills as its own provider does.
        return most_units(utterance.text) if self._options.flavour is Flavour.ODEA else len(utterance.text)

    def source_format(self, utterance: Utterance) -> SourceFormat:
        """See `Provider`."""
        self._check(utterance)
        wanted, rate_hz = utterance.response_format, utterance.sample_rate_hz
        if wanted in self._formats and (rate_hz is None or self._ways.sample_rate):
            return Encoded(audio_format=wanted)
        return Pcm(rate_hz=rate_hz if rate_hz and self._ways.sample_rate else RATE_HZ)

    def stream(self, utterance: Utterance) -> AsyncGenerator[Chunk]:
        """See `Provider`."""
        return self._credentials.speak(utterance.model, partial(self._speak, utterance))

    def _check(self, utterance: Utterance) -> None:
        longest = self._text_characters_max
        if longest is not None and len(utterance.text) > longest:
            raise _refused(f"This model takes texts of at most {longest} characters.", "input")
        if not SPEED_MIN <= utterance.speed <= SPEED_MAX:
            raise _refused(f"The speed must lie between {SPEED_MIN} and {SPEED_MAX}.", "speed")
        if utterance.timestamps is not None:
            raise _refused("This model does not tell the times of words.", "timestamps")

    def _body(self, utterance: Utterance) -> bytes:
        source = self.source_format(utterance)
        text = utterance.text
        if self._options.flavour is Flavour.KOKORO:
            text = _KOKORO_MARKUP.sub("\uff3b", text)
        body: dict[str, object] = {
            "model": utterance.model,
            "input": text,
            "voice": utterance.voice,
            "response_format": "pcm" if isinstance(source, Pcm) else source.audio_format.value,
            "speed": utterance.speed,
        }
        if self._ways.instructions and utterance.instructions:
            body["instructions"] = utterance.instructions
        if self._ways.sample_rate:
            body["sample_rate"] = source.rate_hz if isinstance(source, Pcm) else utterance.sample_rate_hz or RATE_HZ
        if self._options.flavour is Flavour.ODEA and utterance.minimax is not None:
            body["minimax"] = utterance.minimax
        return msgspec.json.encode(body)

    async def _speak(self, utterance: Utterance, credential: Credential) -> AsyncGenerator[Chunk]:
        units = len(utterance.text)
        headers = {**_headers(credential), "content-type": "application/json", "accept": "*/*"}
        asked = self._opened().ask("POST", "/audio/speech", body=self._body(utterance), headers=headers)
        with self._slots.one(), upstream_faults(billed_units=lambda: units):
            async with asked as response:
                trace_id = _trace_of(response)
                if response.status_code != 200:
                    refused = await read_body(response, _ERROR_BODY_BYTES_MAX)
                    raise refusal(response, refused, self._options, trace_id=trace_id)
                units = self._units(response, units)
                # It has begun to work, which is what it bills, whether the caller waits for audio or not.
                yield Chunk(audio=b"", billed_units=units)
                try:
                    audio = _Audio(response, self.source_format(utterance), self._options.upstream.audio_bytes_max)
                    async with aclosing(pieces(response)) as parts:
                        async for part in parts:
                            yield Chunk(audio=audio.hear(part), billed_units=units)
                    audio.end()
                except ProviderError as error:
                    error.billed_units, error.trace_id = units, trace_id
                    raise
        _log.debug("a speech server has spoken", provider=self.name, trace_id=trace_id)

    def _units(self, response: httpx.Response, units: int) -> int:
        """What another Odea holds is the most that it may charge; others do not tell."""
        held = response.headers.get("odea-characters", "")
        if self._options.flavour is Flavour.ODEA and re.fullmatch(r"[0-9]{1,9}", held):
            return int(held)
        return units

    async def _list_voices(self) -> Sequence[Voice]:
        own = [
            Voice(id=name, name=name, language=None, provider=self.name)
            for name in self._options.voices or OPENAI_VOICES
        ]
        if self._options.voices or not self._ways.lists_voices:
            return own
        return await self._credentials.ask(self._list_voices_of) or own

    async def _list_voices_of(self, credential: Credential) -> Sequence[Voice]:
        with upstream_faults(billed_units=lambda: 0):
            async with self._opened().ask("GET", "/audio/voices", headers=_headers(credential)) as response:
                if response.status_code in (404, 405):
                    # Just a convention of compatible servers, and not of all.
                    return ()
                if response.status_code != 200:
                    refused = await read_body(response, _ERROR_BODY_BYTES_MAX)
                    raise refusal(response, refused, self._options, trace_id=_trace_of(response))
                return read_voices(await read_body(response, _VOICES_BYTES_MAX), self.name)

    def _opened(self) -> UpstreamClient:
        if self._client is None:
            raise RuntimeError("the provider has not been started")
        return self._client


class _Audio:
    """The audio of one answer. Raises a `ProviderError` of class upstream where it is not as was asked for."""

    def __init__(self, response: httpx.Response, source: SourceFormat, bytes_max: int) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith("text/") or kind.endswith("json"):
            raise broken("the answer is text and not audio")
        if "content-length" not in response.headers and "chunked" not in response.headers.get("transfer-encoding", ""):
            raise broken("the answer has no end that could be told from a cut")
        self._expected = AudioFormat.PCM if isinstance(source, Pcm) else source.audio_format
        self._bytes_max = bytes_max
        self._heard_bytes = 0

    def hear(self, part: bytes) -> bytes:
        """The next part, checked."""
        if not self._heard_bytes:
            found = _BEGINNINGS.get(part[:4], self._expected)
            if found is not self._expected:
                raise broken(f"the answer is {found.value}, which was not asked for")
        self._heard_bytes += len(part)
        if self._heard_bytes > self._bytes_max:
            raise broken(f"there are more than {self._bytes_max} bytes of audio")
        return part

    def end(self) -> None:
        """That was all."""
        if not self._heard_bytes:
            raise broken("there is no audio in the answer")


def _headers(credential: Credential) -> dict[str, str]:
    secret = credential.secret.get_secret_value()
    return {"authorization": f"Bearer {secret}"} if secret else {}


def _trace_of(response: httpx.Response) -> str | None:
    trace_id = response.headers.get("x-request-id", "")
    return trace_id if _TRACE.fullmatch(trace_id) else None


def _refused(text: str, param: str) -> ProviderError:
    return ProviderError(ErrorClass.CALLER, text, param=param)
