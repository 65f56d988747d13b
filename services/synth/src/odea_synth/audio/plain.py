"""PCM, and WAV, which is the same behind a header."""

from collections.abc import Sequence

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from odea_synth.audio.formats import SAMPLE_BYTES, Samples


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
        return self._take_header() + pcm_of(resampler.resample(frame))

    def finish(self) -> bytes:
        """See `Encoder`."""
        resampler = self._open_resampler()
        self.close()
        return self._take_header() + pcm_of(resampler.resample(None))

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


def pcm_of(frames: Sequence[AudioFrame | None]) -> bytes:
    """The samples that a resampler gave."""
    # A resampler with nothing to do hands back what it was given, also the None that ends it; planes may be padded.
    return b"".join(bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES] for frame in frames if frame is not None)
