"""What a provider adds to the first byte: its fake asked raw, and through the provider, in turn, by one caller.

`PYTHONPATH=tests python tests/bench/providers.py` prints medians and the share that the provider adds.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiohttp
import click
import msgspec
from pydantic import SecretStr

from odea_synth.providers.base import Provider, Utterance
from odea_synth.providers.credentials import Credential
from odea_synth.providers.minimax import MiniMaxOptions, MiniMaxProvider
from odea_synth.providers.openai import OpenAIOptions, OpenAIProvider

TEXT = "A sentence of about the length that people send when they want to hear how it sounds."
WARM_UP = 20


@asynccontextmanager
async def fake(name: str) -> AsyncGenerator[str]:
    """The fake as a process of its own."""
    command = [sys.executable, "-m", f"fakes.{name}", "--key", "k", "--between-s", "0.005"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    try:
        assert process.stdout
        yield (await asyncio.to_thread(process.stdout.readline)).strip()
    finally:
        process.terminate()
        process.wait()


async def first_raw(client: aiohttp.ClientSession, url: str, body: bytes) -> None:
    """Read one answer to its end; only the first byte is timed by the caller of `until_first`."""
    headers = {"authorization": "Bearer k", "content-type": "application/json"}
    async with client.post(url, data=body, headers=headers) as response:
        async for _ in response.content.iter_any():
            return


async def first_of(provider: Provider, utterance: Utterance) -> None:
    """The first audio of an utterance; the rest is left."""
    async with aclosing(provider.stream(utterance)) as chunks:
        async for chunk in chunks:
            if chunk.audio:
                return


async def in_turn(rounds: int, *ways: Callable[[], Awaitable[None]]) -> list[list[float]]:
    """Milliseconds of each way, one after the other, so that the machine treats them alike."""
    taken: list[list[float]] = [[] for _ in ways]
    for turn in range(rounds + WARM_UP):
        for way, times in zip(ways, taken, strict=True):
            began = time.perf_counter()
            await way()
            if turn >= WARM_UP:
                times.append((time.perf_counter() - began) * 1000)
    return taken


async def measure(name: str, rounds: int) -> None:
    """Print one line."""
    async with fake(name) as url:
        credentials = (Credential(name="k", secret=SecretStr("k")),)
        if name == "minimax":
            provider: MiniMaxProvider | OpenAIProvider = MiniMaxProvider(
                MiniMaxOptions(credentials=credentials, base_url=url)
            )
            voice, model, path = "English_expressive_narrator", "speech-2.8-turbo", "/v1/t2a_v2"
            asked: dict[str, object] = {
                "model": model,
                "text": TEXT,
                "stream": True,
                "voice_setting": {"voice_id": voice},
                "audio_setting": {"sample_rate": 24_000, "format": "mp3"},
                "stream_options": {"exclude_aggregated_audio": True},
            }
        else:
            provider = OpenAIProvider(OpenAIOptions(credentials=credentials, base_url=f"{url}/v1"))
            voice, model, path = "coral", "gpt-4o-mini-tts", "/v1/audio/speech"
            asked = {"model": model, "input": TEXT, "voice": voice}
        await provider.start()
        utterance, body = Utterance(text=TEXT, voice=voice, model=model), msgspec.json.encode(asked)
        async with aiohttp.ClientSession() as client:
            raw, through = await in_turn(
                rounds, lambda: first_raw(client, url + path, body), lambda: first_of(provider, utterance)
            )
        await provider.close()
    medians = statistics.median(raw), statistics.median(through)
    click.echo(
        f"{name}: raw {medians[0]:.2f} ms, through the provider {medians[1]:.2f} ms,"
        f" added {medians[1] - medians[0]:.2f} ms (median of {rounds})"
    )


@click.command()
@click.option("--rounds", default=300)
def main(rounds: int) -> None:
    """Measure both providers."""
    for name in ("minimax", "openai"):
        asyncio.run(measure(name, rounds))


main()
