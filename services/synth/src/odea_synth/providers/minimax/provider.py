"""The provider `minimax`: speech and voices of T2A v2."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog

from odea_contracts.synth import TimestampKind, Timing
from odea_synth.providers.base import Chunk, ProviderError, SourceFormat, Utterance, Voice
from odea_synth.providers.credentials import Credential, Credentials
from odea_synth.providers.minimax.answers import Answer, read_answers, trace_of
from odea_synth.providers.minimax.codes import MiniMaxError, refusal, status_refusal
from odea_synth.providers.minimax.options import MiniMaxOptions
from odea_synth.providers.minimax.requests import sent_text, source_format, write_request
from odea_synth.providers.minimax.subtitles import BYTES_MAX, timings_of
from odea_synth.providers.minimax.voices import read_voices
from odea_synth.providers.units import likely_units, most_units
from odea_synth.providers.upstream import (
    Slots,
    UpstreamClient,
    broken,
    read_body,
    upstream_faults,
)
from odea_synth.providers.voicelist import VoiceList

_log = structlog.get_logger()
_VOICES_BYTES_MAX: Final = 8 * 1024 * 1024


class MiniMaxProvider:
    """A `Provider` whose units are MiniMax's billed characters.

    MiniMax says only at the end what it bills, so until then a chunk has the figure that its rule gives; the last one
    has MiniMax's own. A credential that is refused before the first audio is parked, and the next one tried.
    """

    def __init__(self, options: MiniMaxOptions) -> None:
        """Prepare only; `start` opens the connections."""
        self.name = options.name
        self._options = options
        self._credentials = Credentials(options.name, options.credentials)
        self._slots = Slots(options.upstream)
        self._voices = VoiceList(self._list_voices, ttl_s=options.voices_ttl_s, voices_max=options.voices_max)
        self._client: UpstreamClient | None = None

    async def start(self) -> None:
        """See `Provider`. Nothing is asked of MiniMax yet, so that its trouble keeps nobody from starting."""
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
        return most_units(sent_text(utterance))

    def source_format(self, utterance: Utterance) -> SourceFormat:
        """See `Provider`. Everything is checked that can be without asking MiniMax."""
        write_request(utterance, streaming=self._options.streaming)
        return source_format(utterance)

    def stream(self, utterance: Utterance) -> AsyncGenerator[Chunk]:
        """See `Provider`."""
        return self._credentials.speak(utterance.model, partial(self._speak, utterance))

    async def _speak(self, utterance: Utterance, credential: Credential) -> AsyncGenerator[Chunk]:
        request = write_request(utterance, streaming=self._options.streaming)
        likely = likely_units(request.text)
        asked = self._opened().ask(
            "POST", "/v1/t2a_v2", body=request.body, headers=_headers(credential), params=self._params()
        )
        with self._slots.one(), upstream_faults(billed_units=lambda: likely):
            async with asked as response, aclosing(self._chunks(response, utterance, likely)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _chunks(self, response: httpx.Response, utterance: Utterance, likely: int) -> AsyncGenerator[Chunk]:
        heard_bytes, last = 0, None
        try:
            async with aclosing(read_answers(response, self._options)) as answers:
                async for answer in answers:
                    last = answer
                    # What the last event repeats has been heard by then, if there were others.
                    if (audio := answer.audio()) and not (heard_bytes and answer.is_last):
                        heard_bytes += len(audio)
                        if heard_bytes > (most := self._options.upstream.audio_bytes_max):
                            raise broken(f"there are more than {most} bytes of audio")
                        yield Chunk(audio=audio, billed_units=likely)
            if not heard_bytes:
                raise broken("there is no audio in the answer")
            usage = last.usage() if last else None
            units = likely = likely if usage is None else usage
            timings = await self._timings(last, utterance.timestamps) if utterance.timestamps else ()
        except MiniMaxError as error:
            # What was refused at once is not billed; what had begun to sound may be.
            error.billed_units = likely if heard_bytes else 0
            raise
        except ProviderError as error:
            error.billed_units = likely
            error.trace_id = trace_of(response, last)
            raise
        _log.debug("MiniMax has spoken", provider=self.name, trace_id=trace_of(response, last), provider_units=usage)
        yield Chunk(audio=b"", billed_units=units, timings=timings)

    async def _timings(self, last: Answer | None, kind: TimestampKind) -> tuple[Timing, ...]:
        url = last.data.subtitle_file if last and last.data else None
        if not url or not self._may_fetch(url):
            raise broken("the subtitles have no address")
        # The caller of this knows what was billed.
        with upstream_faults(billed_units=lambda: 0):
            async with self._opened().ask("GET", url) as response:
                if response.status_code != 200:
                    raise broken(f"the subtitles answer with status {response.status_code}")
                return timings_of(await read_body(response, BYTES_MAX), kind)

    def _may_fetch(self, url: str) -> bool:
        """The address comes from outside: it must be public by its scheme, or the very server that we talk to."""
        try:
            parts, own = urlsplit(url), urlsplit(self._options.base_url)
        except ValueError:
            return False
        return parts.scheme == "https" or (parts.scheme, parts.netloc) == (own.scheme, own.netloc)

    async def _list_voices(self) -> Sequence[Voice]:
        return await self._credentials.ask(self._list_voices_of)

    async def _list_voices_of(self, credential: Credential) -> Sequence[Voice]:
        with upstream_faults(billed_units=lambda: 0):
            async with self._opened().ask(
                "POST",
                "/v1/get_voice",
                body=b'{"voice_type":"all"}',
                headers=_headers(credential),
                params=self._params(),
            ) as response:
                if response.status_code != 200:
                    raise status_refusal(response, self._options, trace_id=trace_of(response))
                body = await read_body(response, _VOICES_BYTES_MAX)
        listed = read_voices(body)
        if listed.base_resp and listed.base_resp.status_code:
            raise refusal(listed.base_resp.status_code, listed.base_resp.status_msg, self._options)
        return listed.voices(self.name)

    def _params(self) -> dict[str, str]:
        return {"GroupId": self._options.group_id} if self._options.group_id else {}

    def _opened(self) -> UpstreamClient:
        if self._client is None:
            raise RuntimeError("the provider has not been started")
        return self._client


def _headers(credential: Credential) -> dict[str, str]:
    return {
        "authorization": f"Bearer {credential.secret.get_secret_value()}",
        "content-type": "application/json",
        "accept": "*/*",
    }
