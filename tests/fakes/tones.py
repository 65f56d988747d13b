"""What fakes speak: a tone for each text, as long as the text, in every format."""

import io
from functools import lru_cache

import av
import numpy as np
from av.audio.frame import AudioFrame

SECONDS_PER_CHARACTER = 0.06
_CODECS = {
    "mp3": ("mp3", "libmp3lame"),
    "opus": ("ogg", "libopus"),
    "flac": ("flac", "flac"),
    "aac": ("adts", "aac"),
    "wav": ("wav", "pcm_s16le"),
    "pcmu_raw": ("mulaw", "pcm_mulaw"),
    "pcmu_wav": ("wav", "pcm_mulaw"),
}


def duration_s(text: str) -> float:
    """How long `text` sounds."""
    return SECONDS_PER_CHARACTER * len(text)


@lru_cache(maxsize=256)
def tone(characters: int, rate_hz: int, channels: int = 1) -> bytes:
    """Signed 16 bit samples, as long as that many characters."""
    times = np.arange(int(characters * SECONDS_PER_CHARACTER * rate_hz)) / rate_hz
    samples = (np.sin(2 * np.pi * 220 * times) * 8000).astype("<i2")
    return np.repeat(samples, channels).tobytes()


@lru_cache(maxsize=256)
def audio(characters: int, audio_format: str, rate_hz: int, channels: int = 1) -> bytes:
    """A whole tone in a format."""
    pcm = tone(characters, rate_hz, channels)
    if audio_format == "pcm":
        return pcm
    container, codec = _CODECS[audio_format]
    sink = io.BytesIO()
    layout = "stereo" if channels == 2 else "mono"
    with av.open(sink, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz)
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        frame = AudioFrame(format="s16", layout=layout, samples=len(pcm) // (2 * channels))
        frame.sample_rate = rate_hz
        frame.planes[0].update(pcm)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return sink.getvalue()


def pieces(data: bytes, count: int) -> list[bytes]:
    """Cut into `count` pieces of about the same, odd length, none of them empty."""
    step = max(1, len(data) // count) | 1
    return [data[start : start + step] for start in range(0, len(data), step)]
