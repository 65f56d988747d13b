"""PCM and WAV: resampled samples, behind a header if it is WAV."""

import struct
from collections.abc import Sequence
from typing import Final

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from odea_synth.audio.formats import SAMPLE_BYTES, Samples

WAV_HEADER_BYTES: Final = 44
_UNKNOWN_SIZE: Final = 0xFFFFFFFF


def wav_header(rate_hz: int, data_bytes: int | None = None) -> bytes:
    """A RIFF header for mono s16le; its sizes are placeholders unless the number of bytes behind it is known."""
    riff_bytes = _UNKNOWN_SIZE if data_bytes is None else WAV_HEADER_BYTES - 8 + data_bytes
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", riff_bytes, b"WAVE"),
        *(b"fmt ", 16, 1, 1, rate_hz, rate_hz * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES),
        *(b"data", _UNKNOWN_SIZE if data_bytes is None else data_bytes),
    )


def wav_with_true_sizes(streamed: bytes) -> bytes:
    """A whole WAV of our encoder with real sizes; with the placeholders strict readers see hours of audio.

    Raises:
        ValueError: these bytes are not from our WAV encoder.
    """
    if len(streamed) < WAV_HEADER_BYTES or streamed[:4] != b"RIFF" or streamed[36:40] != b"data":
        raise ValueError("These bytes are not from our WAV encoder.")
    (rate_hz,) = struct.unpack_from("<I", streamed, 24)
    return wav_header(rate_hz, len(streamed) - WAV_HEADER_BYTES) + streamed[WAV_HEADER_BYTES:]


class PlainEncoder:
    """An `Encoder` for samples as they are. The header leaves with the first audio."""

    def __init__(self, source_rate_hz: int, rate_hz: int, *, header: bytes = b"") -> None:
        self._samples = Samples(source_rate_hz)
        self._resampler: AudioResampler | None = AudioResampler(format="s16", layout="mono", rate=rate_hz)
        self._header = header

    def feed(self, pcm: bytes) -> bytes:
        """See `Encoder`."""
        resampler = self._open_resampler()
        frame = self._samples.frame(pcm)
        if frame is None:
            return b""
        return self._take_header() + _pcm_of(resampler.resample(frame))

    def finish(self) -> bytes:
        """See `Encoder`."""
        resampler = self._open_resampler()
        self.close()
        return self._take_header() + _pcm_of(resampler.resample(None))

    def close(self) -> None:
        """See `Encoder`."""
        self._resampler = None

    def _open_resampler(self) -> AudioResampler:
        if self._resampler is None:
            raise ValueError("The encoder is closed.")
        return self._resampler

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header


def _pcm_of(frames: Sequence[AudioFrame | None]) -> bytes:
    # A resampler with nothing to do hands back what it was given, also the None that ends it; planes may be padded.
    return b"".join(bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES] for frame in frames if frame is not None)
