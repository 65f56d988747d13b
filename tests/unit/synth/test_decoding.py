"""Audio that a provider sends in one format reaches the client in another, early, whole or not at all (P4)."""

import io
import struct
import subprocess
import sys
import threading
import wave

import numpy as np
import pytest
from numpy.typing import NDArray

from odea_contracts.synth import AudioFormat
from odea_synth.audio import Encoder, open_encoder, open_transcoder
from odea_synth.providers.base import Encoded, ErrorClass, Pcm, ProviderError
from support.audio import listen

RATE_HZ = 24_000
TONE_HZ = 440
ENCODED = [audio_format for audio_format in AudioFormat if audio_format is not AudioFormat.PCM]
PAIRS = [(source, wanted) for source in ENCODED for wanted in AudioFormat if source is not wanted]


def tone(seconds: float, rate_hz: int = RATE_HZ) -> bytes:
    at_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return (np.sin(2 * np.pi * TONE_HZ * at_s) * 0.5 * 32767).astype("<i2").tobytes()


def encoded(audio_format: AudioFormat, seconds: float = 1.5) -> bytes:
    """What a provider sends."""
    encoder = open_encoder(audio_format, source_rate_hz=RATE_HZ)
    return encoder.feed(tone(seconds)) + encoder.finish()


def transcoder(source: AudioFormat, wanted: AudioFormat, sample_rate_hz: int | None = None) -> Encoder:
    opened = open_transcoder(Encoded(audio_format=source), wanted, sample_rate_hz=sample_rate_hz)
    assert opened is not None
    return opened


def transcode(source: AudioFormat, wanted: AudioFormat, audio: bytes, *, step: int = 700) -> bytes:
    made = transcoder(source, wanted)
    return b"".join(made.feed(audio[at : at + step]) for at in range(0, len(audio), step)) + made.finish()


def samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, dtype="<i2") / 32768


def loudest_hz(pcm: bytes, rate_hz: int = RATE_HZ) -> float:
    heard = samples(pcm)
    middle = heard[len(heard) // 4 : -len(heard) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle))) * rate_hz / len(middle))


@pytest.mark.parametrize(("source", "wanted"), PAIRS)
def test_any_format_becomes_any_other(source: AudioFormat, wanted: AudioFormat) -> None:
    made = transcode(source, wanted, encoded(source))
    seconds = len(made) / (2 * RATE_HZ) if wanted is AudioFormat.PCM else listen(made).duration_s
    assert 1.49 <= seconds <= 1.5 + 0.2
    if wanted is AudioFormat.PCM:
        assert loudest_hz(made) == pytest.approx(TONE_HZ, abs=3)
        assert float(np.abs(samples(made)).max()) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("source", ENCODED)
def test_audio_leaves_before_the_end_has_come(source: AudioFormat) -> None:
    audio = encoded(source, 4)
    made = transcoder(source, AudioFormat.PCM)
    early = b"".join(made.feed(audio[at : at + 500]) for at in range(0, len(audio) * 3 // 4, 500))
    made.close()
    # FLAC is told from noise by ten frames in a row, which are 0.8 s.
    assert len(early) / (2 * RATE_HZ) >= (2.0 if source is AudioFormat.FLAC else 2.8)


@pytest.mark.parametrize("source", ENCODED)
@pytest.mark.parametrize("step", [1, 31, 4096])
def test_where_the_bytes_are_cut_changes_nothing(source: AudioFormat, step: int) -> None:
    audio = encoded(source, 0.4)
    whole = transcode(source, AudioFormat.PCM, audio, step=len(audio))
    assert transcode(source, AudioFormat.PCM, audio, step=step) == whole


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_the_rate_is_the_one_that_was_asked_for(rate_hz: int) -> None:
    made = transcoder(AudioFormat.MP3, AudioFormat.PCM, rate_hz)
    pcm = made.feed(encoded(AudioFormat.MP3)) + made.finish()
    assert loudest_hz(pcm, rate_hz) == pytest.approx(TONE_HZ, abs=3)
    with pytest.raises(ValueError, match="cannot have a sample rate"):
        open_transcoder(Encoded(audio_format=AudioFormat.MP3), AudioFormat.OPUS, sample_rate_hz=44_100)


def test_what_a_provider_makes_itself_is_passed_on_and_samples_are_encoded() -> None:
    assert open_transcoder(Encoded(audio_format=AudioFormat.AAC), AudioFormat.AAC) is None
    made = open_transcoder(Pcm(rate_hz=RATE_HZ), AudioFormat.FLAC)
    assert made is not None
    assert listen(made.feed(tone(1)) + made.finish()).duration_s == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("source", ENCODED)
@pytest.mark.parametrize(
    "junk", [b"", b"<html>502 Bad Gateway</html>" * 40, bytes(20_000)], ids=["none", "html", "zero"]
)
def test_what_cannot_be_played_is_the_providers_fault(source: AudioFormat, junk: bytes) -> None:
    """Never a body that is empty and looks whole."""
    with pytest.raises(ProviderError) as caught:
        transcode(source, AudioFormat.PCM, junk)
    assert caught.value.error_class is ErrorClass.UPSTREAM


@pytest.mark.parametrize("source", ENCODED)
def test_a_closed_one_says_so_and_leaves_no_thread(source: AudioFormat) -> None:
    audio, before = encoded(source), threading.active_count()
    for fed in (b"", audio[:300], audio):
        made = transcoder(source, AudioFormat.PCM)
        made.feed(fed)
        made.close()
        made.close()
        with pytest.raises(ValueError, match="closed"):
            made.feed(audio)
    finished = transcoder(source, AudioFormat.PCM)
    assert finished.feed(audio) + finished.finish()
    assert threading.active_count() == before


class TestWav:
    """Headers of other people's servers."""

    @staticmethod
    def heard(audio: bytes) -> bytes:
        return transcode(AudioFormat.WAV, AudioFormat.PCM, audio)

    @staticmethod
    def header(fmt: bytes, size: int, *, before: bytes = b"") -> bytes:
        return (
            b"RIFF\xff\xff\xff\xffWAVE"
            + before
            + struct.pack("<4sI", b"fmt ", len(fmt))
            + fmt
            + struct.pack("<4sI", b"data", size)
        )

    FMT = struct.pack("<HHIIHH", 1, 1, RATE_HZ, RATE_HZ * 2, 2, 16)

    @pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 36, 0])
    def test_a_placeholder_is_no_size(self, size: int) -> None:
        assert self.heard(self.header(self.FMT, size) + tone(0.2)) == tone(0.2)

    def test_a_whole_file_ends_with_its_samples(self) -> None:
        file = io.BytesIO()
        with wave.open(file, "wb") as written:
            written.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            written.writeframes(tone(0.2))
        notes = b"LIST\x0a\x00\x00\x00INFOsomething"
        assert self.heard(file.getvalue() + notes) == tone(0.2)

    def test_a_file_that_is_cut_is_not_taken_for_the_whole(self) -> None:
        """P4."""
        with pytest.raises(ProviderError, match="cannot be played"):
            self.heard(self.header(self.FMT, len(tone(0.2))) + tone(0.1))

    def test_chunks_before_the_samples_are_passed_over(self) -> None:
        before = b"LIST\x05\x00\x00\x00INFOx\x00"
        assert self.heard(self.header(self.FMT, 0xFFFFFFFF, before=before) + tone(0.2)) == tone(0.2)

    def test_stereo_floats_at_another_rate_become_what_everybody_takes(self) -> None:
        rate_hz = 48_000
        one = np.frombuffer(tone(0.5, rate_hz), dtype="<i2") / 32768
        both = np.repeat(one, 2).astype("<f4").tobytes()
        fmt = struct.pack("<HHIIHHHHIH14s", 0xFFFE, 2, rate_hz, rate_hz * 8, 8, 32, 22, 32, 3, 3, bytes(14))
        pcm = self.heard(self.header(fmt, 0xFFFFFFFF) + both)
        assert len(pcm) / (2 * RATE_HZ) == pytest.approx(0.5, abs=0.01)
        assert loudest_hz(pcm) == pytest.approx(TONE_HZ, abs=5)

    @pytest.mark.parametrize(
        "fmt",
        [
            struct.pack("<HHIIHH", 6, 1, 8000, 8000, 1, 8),
            struct.pack("<HHIIHH", 1, 9, 8000, 144_000, 18, 16),
            struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16),
            struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 0, 16),
            b"\x01\x00",
        ],
        ids=["a-law", "nine channels", "no rate", "no size of a frame", "cut"],
    )
    def test_what_we_do_not_know_is_refused(self, fmt: bytes) -> None:
        with pytest.raises(ProviderError):
            self.heard(self.header(fmt, 0xFFFFFFFF) + tone(0.1))

    @pytest.mark.parametrize(
        "start", [b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + bytes(99), b"RIFF\0\0\0\0WAVE" + bytes(99_000)]
    )
    def test_one_that_does_not_come_to_its_audio_is_refused(self, start: bytes) -> None:
        with pytest.raises(ProviderError):
            self.heard(start)


def test_memory_and_threads_stay_flat() -> None:
    """P10."""
    script = """
import resource, threading
from odea_contracts.synth import AudioFormat
from odea_synth.audio import open_encoder, open_transcoder
from odea_synth.providers.base import Encoded
encoder = open_encoder(AudioFormat.MP3, source_rate_hz=24000)
mp3 = encoder.feed(bytes(96000)) + encoder.finish()
def use(times):
    for at in range(times):
        made = open_transcoder(Encoded(audio_format=AudioFormat.MP3), AudioFormat.OPUS)
        made.feed(mp3)
        made.finish() if at % 2 else made.close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
warm = use(40)
print(use(200) / warm, threading.active_count())
"""
    grown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    ratio, threads = grown.stdout.split()
    assert float(ratio) < 1.04
    assert threads == "1"
