"""What the formats can carry: the sample rates of each, and the cutting of bytes into whole samples."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from av.audio.frame import AudioFrame

from odea_contracts.synth import AudioFormat

SAMPLE_BYTES: Final = 2
DEFAULT_RATE_HZ: Final = 24_000
RATE_HZ_MIN: Final = 8_000
RATE_HZ_MAX: Final = 48_000

_MPEG_RATES_HZ: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_RATES_HZ: Mapping[AudioFormat, tuple[int, ...]] = MappingProxyType(
    {
        AudioFormat.MP3: _MPEG_RATES_HZ,
        AudioFormat.AAC: _MPEG_RATES_HZ,
        AudioFormat.OPUS: (8_000, 12_000, 16_000, 24_000, 48_000),
    }
)


def sample_rate_for(audio_format: AudioFormat, sample_rate_hz: int | None = None) -> int:
    """The rate that a format will have, so that an impossible wish can be refused before anything is spent.

    A rate that the format cannot carry is refused and not rounded, because who names a rate depends on it. PCM, WAV
    and FLAC carry any.

    Raises:
        ValueError: the format has no such rate; the text may be shown to callers.
    """
    if sample_rate_hz is None:
        return DEFAULT_RATE_HZ
    if not RATE_HZ_MIN <= sample_rate_hz <= RATE_HZ_MAX:
        raise ValueError(f"The sample rate must lie between {RATE_HZ_MIN} and {RATE_HZ_MAX} Hz.")
    rates_hz = _RATES_HZ.get(audio_format)
    if rates_hz is not None and sample_rate_hz not in rates_hz:
        allowed = ", ".join(map(str, rates_hz))
        raise ValueError(f"{audio_format.value} cannot have a sample rate of {sample_rate_hz} Hz, only {allowed}.")
    return sample_rate_hz


class Samples:
    """Makes frames of whole samples out of mono s16le bytes that come cut anywhere."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._rest = b""

    def frame(self, pcm: bytes) -> AudioFrame | None:
        """Everything that is whole by now; None if that is nothing."""
        pcm = self._rest + pcm if self._rest else pcm
        whole_bytes = len(pcm) - len(pcm) % SAMPLE_BYTES
        self._rest = pcm[whole_bytes:]
        if not whole_bytes:
            return None
        frame = AudioFrame(format="s16", layout="mono", samples=whole_bytes // SAMPLE_BYTES)
        frame.sample_rate = self._rate_hz
        frame.planes[0].update(pcm[:whole_bytes])
        return frame
