"""A provider in front of its fake, and what is seen of an utterance."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from fakes.minimax import FakeMiniMax
from fakes.minimax.app import KEY
from fakes.openai import KEY as OPENAI_KEY
from fakes.openai import FakeOpenAI, Kind
from fakes.serving import serving
from odea_synth.providers.base import Chunk, Provider, ProviderError, Utterance
from odea_synth.providers.credentials import Credential
from odea_synth.providers.minimax import MiniMaxOptions, MiniMaxProvider
from odea_synth.providers.openai import Flavour, OpenAIOptions, OpenAIProvider
from odea_synth.providers.upstream import UpstreamOptions

NARRATOR = "English_expressive_narrator"
_MODELS = {
    Kind.OPENAI: ("gpt-4o-mini-tts", "coral"),
    Kind.KOKORO: ("kokoro", "af_bella(2)+af_heart(1)"),
    Kind.SPEACHES: ("speaches-ai/Kokoro-82M-v1.0-ONNX", "af_heart"),
    Kind.ODEA: ("minimax", "alloy"),
}


@dataclass
class Said:
    """What came of an utterance."""

    accepted_units: int = 0
    """Billed before there was any audio."""
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    error: ProviderError | None = None

    @property
    def audio(self) -> bytes:
        return b"".join(chunk.audio for chunk in self.chunks)

    @property
    def failed(self) -> ProviderError:
        assert self.error
        return self.error


async def say(provider: Provider, utterance: Utterance) -> Said:
    """Let it be spoken to whatever end it comes to."""
    said = Said()
    try:
        async for chunk in provider.stream(utterance):
            if chunk.audio or said.chunks:
                said.chunks.append(chunk)
            else:
                assert chunk.billed_units, "there is nothing else to tell before the audio"
                said.accepted_units = chunk.billed_units
    except ProviderError as error:
        said.error = error
    return said


def text(words: str = "Good morning to you.", **changes: Any) -> Utterance:
    """Something to say."""
    return replace(Utterance(text=words, voice=NARRATOR, model="speech-2.8-hd"), **changes)


def words(kind: Kind = Kind.OPENAI, said: str = "Good morning to you.", **changes: Any) -> Utterance:
    """Something for that kind of OpenAI-compatible server to say."""
    model, voice = _MODELS[kind]
    return text(said, **({"model": model, "voice": voice} | changes))


def credentials(*names: str) -> tuple[Credential, ...]:
    """One for each name, which is its secret, too."""
    return tuple(Credential(name=f"key-{name}", secret=SecretStr(name)) for name in names)


@asynccontextmanager
async def minimax(
    fake: FakeMiniMax, upstream: UpstreamOptions | None = None, **options: Any
) -> AsyncGenerator[MiniMaxProvider]:
    """A provider that talks to `fake`."""
    async with serving(fake.app) as url:
        given: dict[str, Any] = {"credentials": credentials(KEY), "base_url": url}
        provider = MiniMaxProvider(MiniMaxOptions(upstream=upstream or UpstreamOptions(), **(given | options)))
        await provider.start()
        try:
            yield provider
        finally:
            await provider.close()


@asynccontextmanager
async def openai(
    fake: FakeOpenAI, upstream: UpstreamOptions | None = None, **options: Any
) -> AsyncGenerator[OpenAIProvider]:
    """A provider that talks to `fake` in its own flavour."""
    async with serving(fake.app) as url:
        given: dict[str, Any] = {"credentials": credentials(OPENAI_KEY), "flavour": Flavour(fake.kind.value)}
        settings = OpenAIOptions(base_url=f"{url}/v1", upstream=upstream or UpstreamOptions(), **(given | options))
        provider = OpenAIProvider(settings)
        await provider.start()
        try:
            yield provider
        finally:
            await provider.close()
