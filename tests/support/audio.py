"""Listening to audio in tests: what a decoder makes of it."""

import io
from dataclasses import dataclass

import av
import numpy as np


@dataclass(frozen=True)
class Heard:
    """What a file contains."""

    duration_s: float
    rate_hz: int
    channels: int
    loudness_dbfs: float


def listen(audio: bytes) -> Heard:
    """Decode a whole file; fails if it is not audio."""
    with av.open(io.BytesIO(audio), mode="r") as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
        frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
        rms = float(np.sqrt(np.mean(np.square(samples))))
        return Heard(
            duration_s=len(samples) / stream.rate,
            rate_hz=stream.rate,
            channels=stream.codec_context.channels,
            loudness_dbfs=20 * float(np.log10(max(rms, 1e-9))),
        )
