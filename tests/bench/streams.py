"""What the way through Odea adds to an upstream's first byte, and whether a crowd of long streams stays exact.

A whole stack, the fake upstream and the caller, each a process of its own, share the machine.
"""

import asyncio
import statistics
import time
from hashlib import sha256

import click
import httpx

from fakes import tones
from support.upstreams import stack_with, upstream

ADDED_MS_MAX = 10.0
PATH = "/v1/audio/speech"
WARM_UP = 20
MINUTE_CHARACTERS = 1000
LENGTHS = 4


@click.group()
def main() -> None:
    """Measure streams."""


@main.command("first-byte")
@click.option("--rounds", default=200)
@click.option("--upstream-ms", default=50.0, help="The upstream's own time to its first byte.")
def first_byte(rounds: int, upstream_ms: float) -> None:
    """One caller: the upstream's first byte of audio, and the same through Odea."""
    with upstream("openai", "--first-s", str(upstream_ms / 1000), "--between-s", "0.005") as url:
        own, through = asyncio.run(_first_bytes(url, rounds))
    for name, times in (("upstream", own), ("through Odea", through)):
        click.echo(f"{name:14} median {_median(times):6.2f} ms, p95 {_p95(times):6.2f} ms")
    added_ms = _median(through) - _median(own)
    click.echo(
        f"{'added':14} median {added_ms:6.2f} ms, p95 {_p95(through) - _p95(own):6.2f} ms; at most {ADDED_MS_MAX:.0f}"
        f" in the median, of {rounds} each"
    )
    if added_ms > ADDED_MS_MAX:
        raise SystemExit(1)


async def _first_bytes(url: str, rounds: int) -> tuple[list[float], list[float]]:
    own, through = list[float](), list[float]()
    async with stack_with(url) as served, served.client() as client, served.direct() as direct:
        for turn in range(WARM_UP + rounds):
            # One after the other, so that both meet the same noise.
            pair = await _until_first(direct), await _until_first(client)
            if turn >= WARM_UP:
                own.append(pair[0])
                through.append(pair[1])
    return own, through


async def _until_first(client: httpx.AsyncClient) -> float:
    """Milliseconds to the first byte of audio; the rest is read, too."""
    body = {"model": "tts-1", "voice": "alloy", "input": "Say this at once.", "response_format": "mp3"}
    began = time.perf_counter()
    async with client.stream("POST", PATH, json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        pieces = answer.aiter_raw()
        await anext(pieces)
        took_ms = (time.perf_counter() - began) * 1000
        async for _ in pieces:
            pass
    return took_ms


def _median(times: list[float]) -> float:
    return statistics.median(times)


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


@main.command()
@click.option("--streams", default=500)
@click.option("--between-ms", default=1000.0, help="The upstream's pause between two of the thirty pieces of a stream.")
def crowd(streams: int, between_ms: float) -> None:
    """Many streams at once, a minute of audio each: every one exact by its digest."""
    options = ("--first-s", "0.2", "--between-s", str(between_ms / 1000), "--sigma", "0.3", "--pieces", "30")
    lengths = [MINUTE_CHARACTERS + number % LENGTHS for number in range(streams)]
    sent = {length: tones.audio(length, "mp3", 24_000) for length in set(lengths)}
    with upstream("openai", *options) as url:
        got, took_s, grown = asyncio.run(_crowd(url, lengths))
    exact = sum(heard == sha256(sent[length]).hexdigest() for heard, length in zip(got, lengths, strict=True))
    total_mb = sum(len(sent[length]) for length in lengths) / 1e6
    click.echo(f"{exact} of {streams} exact, {total_mb:.0f} MB in {took_s:.1f} s")
    click.echo(", ".join(f"{name} grew by {mb:.0f} MB" for name, mb in grown.items()))
    if exact != streams:
        raise SystemExit(1)


async def _crowd(url: str, lengths: list[int]) -> tuple[list[str], float, dict[str, float]]:
    async with stack_with(url) as served, served.client(timeout_s=300.0) as client:
        # Once each: the fake encodes in the loop that serves.
        await asyncio.gather(*(_digest(client, length) for length in set(lengths)))
        before = served.memory_mb()
        began = time.perf_counter()
        got = await asyncio.gather(*(_digest(client, length) for length in lengths))
        took_s = time.perf_counter() - began
        after = served.memory_mb()
    return got, took_s, {name: after[name] - before[name] for name in before}


async def _digest(client: httpx.AsyncClient, length: int) -> str:
    """Of what was heard; what went wrong, if it broke."""
    digest = sha256()
    try:
        body = {"model": "tts-1", "voice": "alloy", "input": "A" * length}
        async with client.stream("POST", PATH, json=body) as answer:
            if answer.status_code != 200:
                return (await answer.aread()).decode()
            async for piece in answer.aiter_raw():
                digest.update(piece)
    except httpx.HTTPError as error:
        return repr(error)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
