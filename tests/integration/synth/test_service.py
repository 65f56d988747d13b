"""The real process with the real voice: what comes out can be heard, and how it ends is clean or at least visible."""

import asyncio
import io
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from integration.synth.caller import WITHIN_S, Heard, request, synth_settings
from integration.synth.harness import House, open_house
from odea_contracts import synth
from odea_contracts.synth import AudioFormat, CancelReason, Speak
from odea_local.ports import find_free
from odea_runtime.bus import NoRespondersError
from odea_runtime.streams import RefusedError, StreamBrokenError
from support.databases import Databases
from support.waiting import until

TEXT = "The quick brown fox jumps over the lazy dog."
LONG = " ".join(f"This is sentence number {number} of a long story." for number in range(12))
LEASE_S = 3


class Process:
    """`python -m odea_synth serve`, with its log in a file."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        self.environ = environ
        self.log = log
        self.ops = f"http://{environ['ODEA_OPS_ADDRESS']}"
        self.status: int | None = None
        self.child: asyncio.subprocess.Process | None = None

    async def serve(self, stop: asyncio.Event) -> None:
        """Run it until it ends, by itself or with SIGTERM when `stop` is set."""
        with self.log.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "odea_synth", "serve", env=self.environ, stdout=log, stderr=log
            )
        ended = asyncio.create_task(self.child.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            self.child.terminate()
        stopped.cancel()
        self.status = await ended

    def kill(self) -> None:
        assert self.child
        self.child.kill()

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.ops + path, timeout=WITHIN_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@asynccontextmanager
async def open_process(nats_url: str, databases: Databases, log: Path) -> AsyncGenerator[tuple[House, Process]]:
    more = {
        "ops_address": f"127.0.0.1:{find_free()}",
        "synth_lease_s": str(LEASE_S),
        "drain_s": "60",
        "piper_workers": "1",
        # So that there are lines at all.
        "log_level": "debug",
    }
    dsn = await databases.create("synth")
    settings = synth_settings(nats_url, dsn, **more)
    environ = {f"ODEA_{name.upper()}": value for name, value in more.items()}
    environ |= {"ODEA_NATS_URL": nats_url, "ODEA_DATABASE_URL": dsn, "PATH": os.environ["PATH"]}
    process = Process(environ, log)
    async with open_house(settings, await databases.create("quota"), process.serve) as house:
        yield house, process


@pytest.fixture(scope="module")
async def opened(
    nats_url: str, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[tuple[House, Process]]:
    async with open_process(nats_url, databases, tmp_path_factory.mktemp("synth") / "log") as opened:
        yield opened


@pytest.fixture
def house(opened: tuple[House, Process]) -> House:
    return opened[0]


@pytest.fixture
def process(opened: tuple[House, Process]) -> Process:
    return opened[1]


@pytest.mark.parametrize("audio_format", [AudioFormat.MP3, AudioFormat.WAV, AudioFormat.PCM])
async def test_a_sentence_can_be_heard_in_each_format(house: House, account: str, audio_format: AudioFormat) -> None:
    asked = request(account, TEXT, voice="alloy", response_format=audio_format)
    heard = await house.hear(asked)
    samples, rate_hz = decode(heard)
    assert heard.head.provider == "piper"
    assert 2.0 < len(samples) / rate_hz < 5.0
    loudness_db = 20 * np.log10(np.sqrt(np.mean(samples**2)))
    assert -30 < loudness_db < -10
    assert heard.tail.units == len(TEXT)
    assert (await house.books(asked)).charged == len(TEXT)


async def test_a_request_to_read_anew_ends_nothing_where_there_is_no_file(
    house: House, process: Process, account: str
) -> None:
    """SIGHUP by itself ends a process."""
    assert process.child
    pid = process.child.pid
    process.child.send_signal(signal.SIGHUP)
    await house.hear(request(account, TEXT, voice="alloy"))
    assert (process.child.pid, process.child.returncode) == (pid, None)


async def test_lists_come_from_the_voice(house: House) -> None:
    voices = await house.bus.call(synth.VOICES, synth.Voices(model="piper"))
    assert isinstance(voices, synth.VoiceList)
    assert {voice.provider for voice in voices.voices} == {"piper"}
    assert "en_US-joe-medium" in {voice.id for voice in voices.voices}
    models = await house.bus.call(synth.MODELS, synth.Models())
    assert isinstance(models, synth.ModelList)
    assert "piper" in {model.id for model in models.models}


async def test_the_process_is_ready_and_counts(house: House, process: Process, account: str) -> None:
    await house.hear(request(account, TEXT, voice="alloy"))
    assert await process.get("/livez") == (200, "alive\n")
    assert await process.get("/readyz") == (200, "ready\n")
    status, metrics = await process.get("/metrics")
    assert status == 200
    assert 'odea_synth_speeches_total{outcome="completed",provider="piper"}' in metrics
    assert "odea_synth_settled_units_total" in metrics


async def test_a_text_that_was_spoken_stands_in_no_line_of_the_log(
    house: House, process: Process, account: str
) -> None:
    """P6, also for a text that fails and for one that is left."""
    words = "unrepeatable confession"
    await house.hear(request(account, f"An {words}.", voice="alloy"))
    async with house.speak(request(account, f"{LONG} An {words}.", voice="alloy")) as stream:
        await stream.head()
        await stream.cancel(CancelReason.CLIENT_GONE)
    with pytest.raises(RefusedError):
        await house.hear(request(account, f"An {words}.", voice="unknown"))
    log = process.log.read_text()
    assert '"event"' in log
    assert all(json.loads(line) for line in log.splitlines())
    assert words not in log
    assert "tests-only" not in log


async def test_sigterm_in_mid_stream_lets_the_speech_finish_and_settles_it(house: House, process: Process) -> None:
    """The exit status says that all went well, and new requests find nobody at once. Then it comes back."""
    asked = long_request(await house.open_account(units=10_000))
    async with house.speak(asked) as stream:
        await stream.head()
        stopping = asyncio.create_task(house.synth.stop())
        await until(lambda: finds_nobody(house), within_s=WITHIN_S)
        audio = b"".join([frame async for frame in stream])
    assert stream.tail
    assert stream.tail.bytes == len(audio)
    await stopping
    assert process.status == 0
    books = await house.books(asked)
    assert (books.charged, books.logged) == (len(LONG), "completed")
    await house.synth.start()


async def test_a_killed_process_leaves_a_broken_stream_and_an_uncharged_hold(house: House, process: Process) -> None:
    """P3 and P4, by the quickest death there is."""
    account = await house.open_account(units=10_000)
    asked = long_request(account)
    async with house.speak(asked) as stream:
        await stream.head()
        process.kill()
        async with asyncio.timeout(8):
            with pytest.raises(StreamBrokenError):
                _ = [frame async for frame in stream]
    await until(lambda: house.is_resolved(asked), within_s=LEASE_S + 10)
    [end] = await house.resolutions(asked)
    assert (end["kind"], end["units_settled"]) == ("expired", 0)
    balance = await house.balance(account)
    assert (balance.used, balance.held, balance.in_flight) == (0, 0, 0)
    await house.synth.stop()
    assert process.status == -9


def long_request(account: str) -> Speak:
    """Longer than what fits into the window, so that it cannot be through before it is read."""
    return request(account, LONG, voice="alloy", response_format=AudioFormat.WAV, credits=1)


async def finds_nobody(house: House) -> bool:
    try:
        await house.bus.call(synth.MODELS, synth.Models())
    except NoRespondersError:
        return True
    return False


def decode(heard: Heard) -> tuple[NDArray[np.float64], int]:
    """Samples and their rate."""
    if heard.head.content_type == "audio/pcm":
        return np.frombuffer(heard.audio, dtype="<i2") / 32768, 24_000
    with av.open(io.BytesIO(heard.audio), "r") as container:
        stream = container.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(stream)])
        return samples.astype(np.float64) / (32768 if samples.dtype == np.int16 else 1), stream.rate
