"""The encoders: what goes in comes out, early, in a form that other people's decoders take (P4)."""

import ctypes
import io
import subprocess
import sys

import av
import numpy as np
import pytest
from av import _core as ffmpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from odea_contracts.synth import AudioFormat
from odea_synth.audio import open_encoder, sample_rate_for
from odea_synth.providers.piper.engine import PiperEngine

SOURCE_RATE_HZ = 22_050
TONE_HZ = 440
MPEG_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
RATES_HZ = {
    AudioFormat.MP3: MPEG_RATES_HZ,
    AudioFormat.AAC: MPEG_RATES_HZ,
    AudioFormat.OPUS: (8_000, 12_000, 16_000, 24_000, 48_000),
    AudioFormat.FLAC: (8_000, 9_999, 24_000, 48_000),
    AudioFormat.WAV: (8_000, 9_999, 24_000, 48_000),
    AudioFormat.PCM: (8_000, 9_999, 24_000, 48_000),
}
# Opus always decodes at 48 kHz, whatever it was made from.
DECODED_RATE_HZ = {AudioFormat.OPUS: 48_000}


def tone(seconds: float) -> bytes:
    at_s = np.arange(int(SOURCE_RATE_HZ * seconds)) / SOURCE_RATE_HZ
    return (np.sin(2 * np.pi * TONE_HZ * at_s) * 0.5 * 32767).astype("<i2").tobytes()


def encode(audio_format: AudioFormat, pcm: bytes, *, step: int = 4410, sample_rate_hz: int | None = None) -> bytes:
    encoder = open_encoder(audio_format, source_rate_hz=SOURCE_RATE_HZ, sample_rate_hz=sample_rate_hz)
    return b"".join(encoder.feed(pcm[at : at + step]) for at in range(0, len(pcm), step)) + encoder.finish()


def decode(audio_format: AudioFormat, encoded: bytes, pcm_rate_hz: int = 24_000) -> tuple[int, NDArray[np.float64]]:
    """Rate and samples; fails unless there is exactly one channel."""
    if audio_format is AudioFormat.PCM:
        return pcm_rate_hz, np.frombuffer(encoded, dtype="<i2") / 32768
    with av.open(io.BytesIO(encoded), "r") as container:
        stream = container.streams.audio[0]
        assert stream.channels == 1
        samples = [frame.to_ndarray().reshape(-1) for frame in container.decode(stream)]
        full_scale = 32768 if samples[0].dtype == np.int16 else 1
        return stream.rate, np.concatenate(samples).astype(np.float64) / full_scale


def decibels(samples: NDArray[np.float64]) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(samples**2))))


@pytest.mark.parametrize(
    ("audio_format", "rate_hz"), [(audio_format, rate) for audio_format, rates in RATES_HZ.items() for rate in rates]
)
def test_a_tone_survives_at_every_rate(audio_format: AudioFormat, rate_hz: int) -> None:
    encoded = encode(audio_format, tone(1.5), sample_rate_hz=rate_hz)
    decoded_rate_hz, samples = decode(audio_format, encoded, rate_hz)
    assert decoded_rate_hz == DECODED_RATE_HZ.get(audio_format, rate_hz)
    # MP3 and AAC begin with the codec's own delay and end with a full frame; neither can say so in a stream.
    frames = {AudioFormat.MP3: 3 * (576 if rate_hz < 32_000 else 1152), AudioFormat.AAC: 2 * 1024 + 64}
    surplus_s = frames.get(audio_format, 0) / rate_hz
    assert -0.01 <= len(samples) / decoded_rate_hz - 1.5 <= max(0.01, surplus_s)
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    assert decibels(middle) == pytest.approx(-9.03, abs=0.7)
    loudest = np.argmax(np.abs(np.fft.rfft(middle))) * decoded_rate_hz / len(middle)
    assert loudest == pytest.approx(TONE_HZ, abs=3)


@pytest.mark.parametrize("audio_format", [*AudioFormat])
def test_it_is_24_khz_unless_asked_and_lasts_as_long_as_its_source(audio_format: AudioFormat) -> None:
    rate_hz, samples = decode(audio_format, encode(audio_format, tone(2)))
    assert rate_hz == DECODED_RATE_HZ.get(audio_format, 24_000)
    late_s = {AudioFormat.MP3: 0.075, AudioFormat.AAC: 0.09}.get(audio_format, 0.01)
    assert -0.01 <= len(samples) / rate_hz - 2 <= late_s


@pytest.mark.parametrize("audio_format", [*AudioFormat])
def test_speech_keeps_its_loudness(audio_format: AudioFormat, joe: PiperEngine) -> None:
    spoken = joe.speak("The sound of a voice is kept.", speed=1, stopped=lambda: False)
    _, samples = decode(audio_format, encode(audio_format, spoken))
    assert decibels(samples) == pytest.approx(decibels(np.frombuffer(spoken, dtype="<i2") / 32768), abs=1)


@pytest.mark.parametrize("audio_format", [*AudioFormat])
def test_bytes_leave_before_the_end_and_can_be_played(audio_format: AudioFormat) -> None:
    encoder = open_encoder(audio_format, source_rate_hz=SOURCE_RATE_HZ)
    early = b"".join(encoder.feed(tone(0.1)) for _ in range(10))
    _, samples = decode(audio_format, early)
    assert len(samples) / DECODED_RATE_HZ.get(audio_format, 24_000) >= 0.75
    assert len(encoder.finish()) < len(early) / 2


@pytest.mark.parametrize("audio_format", [*AudioFormat])
@pytest.mark.parametrize("step", [1, 333, 4097])
def test_where_the_bytes_are_cut_changes_nothing(audio_format: AudioFormat, step: int) -> None:
    pcm = tone(0.2)
    assert encode(audio_format, pcm, step=step) == encode(audio_format, pcm, step=len(pcm))


@given(st.lists(st.binary(max_size=64), max_size=12))
@settings(deadline=None, max_examples=50)
def test_pcm_at_its_own_rate_is_passed_on_as_it_is(cuts: list[bytes]) -> None:
    encoder = open_encoder(AudioFormat.PCM, source_rate_hz=16_000, sample_rate_hz=16_000)
    whole = b"".join(cuts)
    assert b"".join(map(encoder.feed, cuts)) + encoder.finish() == whole[: len(whole) // 2 * 2]


def test_mp3_has_no_headers_that_a_stream_cannot_keep_true() -> None:
    encoded = encode(AudioFormat.MP3, tone(0.5))
    assert encoded[:2] == b"\xff\xf3"  # the first frame, with no ID3 tag before it
    assert not any(mark in encoded for mark in (b"Xing", b"Info", b"ID3"))


def test_streamed_wav_has_the_placeholder_sizes_of_openai() -> None:
    header = open_encoder(AudioFormat.WAV, source_rate_hz=SOURCE_RATE_HZ).feed(tone(0.1))[:44]
    assert header == bytes.fromhex(
        "52494646ffffffff57415645666d742010000000010001"  # RIFF, no size, WAVE, fmt, 16 bytes, PCM, mono
        "00c05d000080bb0000020010006461 7461ffffffff"  # 24,000 Hz, 48,000 bytes/s, 2 bytes, 16 bit, data, no size
    )


@pytest.mark.parametrize(
    ("audio_format", "rate_hz", "told"),
    [
        (AudioFormat.MP3, 9_999, "8000, 11025"),
        (AudioFormat.AAC, 10_000, "8000, 11025"),
        (AudioFormat.OPUS, 44_100, "8000, 12000, 16000, 24000, 48000"),
        (AudioFormat.PCM, 7_999, "between 8000 and 48000"),
        (AudioFormat.WAV, 48_001, "between 8000 and 48000"),
        (AudioFormat.FLAC, 0, "between 8000 and 48000"),
    ],
)
def test_a_rate_that_cannot_be_had_is_refused_with_what_can(audio_format: AudioFormat, rate_hz: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        sample_rate_for(audio_format, rate_hz)
    with pytest.raises(ValueError, match=told):
        open_encoder(audio_format, source_rate_hz=SOURCE_RATE_HZ, sample_rate_hz=rate_hz)


@pytest.mark.parametrize("audio_format", [*AudioFormat])
def test_a_closed_encoder_says_so(audio_format: AudioFormat) -> None:
    finished, left = (open_encoder(audio_format, source_rate_hz=SOURCE_RATE_HZ) for _ in range(2))
    finished.feed(tone(0.1))
    finished.finish()
    left.feed(tone(0.1))
    left.close()
    for encoder in (finished, left):
        encoder.close()
        with pytest.raises(ValueError, match="closed"):
            encoder.feed(b"\0\0")
        with pytest.raises(ValueError, match="closed"):
            encoder.finish()


@pytest.mark.parametrize("audio_format", [*AudioFormat])
def test_no_audio_at_all_is_no_fault(audio_format: AudioFormat) -> None:
    encoder = open_encoder(audio_format, source_rate_hz=SOURCE_RATE_HZ)
    assert encoder.feed(b"") == b""
    assert encoder.feed(b"\x01") == b""
    assert len(encoder.finish()) < 200


def test_no_encoder_starts_threads() -> None:
    # P10: FFmpeg would start one for each processor in each encoder.
    assert ctypes.CDLL(ffmpeg.__file__).av_cpu_count() == 1


def test_encoders_leave_nothing_behind() -> None:
    # P10: in a process of its own, since only its high-water mark of memory can be read everywhere.
    script = """
import resource
from odea_contracts.synth import AudioFormat
from odea_synth.audio import open_encoder
def use(times):
    for at in range(times):
        for audio_format in AudioFormat:
            encoder = open_encoder(audio_format, source_rate_hz=22050)
            encoder.feed(bytes(8820))
            encoder.finish() if at % 2 else encoder.close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
warm = use(10)
print(use(60) / warm)
"""
    grown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert float(grown.stdout) < 1.04
    assert grown.stderr == ""
