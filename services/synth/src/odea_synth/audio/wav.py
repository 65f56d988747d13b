"""WAV: the header that we write, and reading what others write, as it streams in.

Not with FFmpeg's demuxer, which looks through the first 64 KB for other codecs in disguise: a second of speech.
"""

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from odea_synth.audio.formats import SAMPLE_BYTES
from odea_synth.audio.plain import pcm_of
from odea_synth.providers.base import ErrorClass, ProviderError

_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_STREAMED_SIZE_MIN: Final = 0x7FFFF000
"""Sizes from here on are placeholders, as is 0: servers that stream write 0xFFFFFFFF, 0x7FFFFFFF and the like."""
_FOREWORD_BYTES_MAX: Final = 64 * 1024
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SAMPLES: Mapping[tuple[int, int], str] = MappingProxyType(
    {(_PCM, 8): "u8", (_PCM, 16): "s16", (_PCM, 32): "s32", (_FLOAT, 32): "flt", (_FLOAT, 64): "dbl"}
)
"""FFmpeg's names of what samples are, by kind and bits."""


def wav_header(rate_hz: int) -> bytes:
    """A RIFF header for mono s16le; its sizes are placeholders, as OpenAI's, since a stream does not know them."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", _UNKNOWN_SIZE, b"WAVE"),
        *(b"fmt ", 16, 1, 1, rate_hz, rate_hz * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES),
        *(b"data", _UNKNOWN_SIZE),
    )


class WavDecoder:
    """A WAV as it comes, mono s16le samples out. Raises `ProviderError` of class upstream if it is none."""

    def __init__(self, rate_hz: int) -> None:
        self._resampler = AudioResampler(format="s16", layout="mono", rate=rate_hz)
        self._rest = b""
        self._layout: _Layout | None = None
        self._heard = False
        self._left: int | None = None

    def feed(self, encoded: bytes) -> bytes:
        """The samples that can be had now."""
        self._rest += encoded
        if self._layout is None and not self._read_header():
            return b""
        assert self._layout is not None
        whole_bytes = len(self._rest) if self._left is None else min(self._left, len(self._rest))
        whole_bytes -= whole_bytes % self._layout.frame_bytes
        samples, self._rest = self._rest[:whole_bytes], self._rest[whole_bytes:]
        if self._left is not None:
            self._left -= whole_bytes
            if self._left < self._layout.frame_bytes:
                # What follows are notes about the audio.
                self._rest, self._left = b"", 0
        if not samples:
            return b""
        self._heard = True
        return pcm_of(self._resampler.resample(self._layout.frame(samples)))

    def finish(self) -> bytes:
        """The last samples; there must have been some at all, and as many as the header says."""
        if not self._heard:
            raise unplayable("a WAV without audio")
        if self._left:
            raise unplayable("a WAV that is cut")
        return pcm_of(self._resampler.resample(None))

    def close(self) -> None:
        """There is nothing to free."""

    def _read_header(self) -> bool:
        """Read as far as the samples; whether they have been reached."""
        found = _find_samples(self._rest)
        if found is None:
            if len(self._rest) > _FOREWORD_BYTES_MAX:
                raise unplayable("a WAV that does not come to its audio")
            return False
        self._layout, at, self._left = found
        self._rest = self._rest[at:]
        return True


class _Layout:
    """How samples lie in a WAV."""

    def __init__(self, fmt: bytes) -> None:
        if len(fmt) < 16:
            raise unplayable("a WAV whose format is cut")
        kind, channels, self._rate_hz, _, self.frame_bytes, bits = struct.unpack_from("<HHIIHH", fmt)
        if kind == _EXTENSIBLE and len(fmt) >= 26:
            (kind,) = struct.unpack_from("<H", fmt, 24)
        samples = _SAMPLES.get((kind, bits))
        names = {1: "mono", 2: "stereo"}
        if samples is None or channels not in names or self.frame_bytes != channels * bits // 8 or not self._rate_hz:
            raise unplayable(f"a WAV of kind {kind} with {bits} bits and {channels} channels")
        self._samples, self._channels = samples, names[channels]

    def frame(self, samples: bytes) -> AudioFrame:
        """`samples` for FFmpeg."""
        count = len(samples) // self.frame_bytes
        frame = AudioFrame(format=self._samples, layout=self._channels, samples=count, align=1)
        frame.sample_rate = self._rate_hz
        frame.planes[0].update(samples)
        return frame


def _find_samples(start: bytes) -> tuple[_Layout, int, int | None] | None:
    """How the samples lie, where they begin and how many bytes they are if that is told; `None` if it must go on."""
    if len(start) >= 12 and (start[:4], start[8:12]) != (b"RIFF", b"WAVE"):
        raise unplayable("it is no WAV")
    at, layout = 12, None
    while len(start) >= at + 8:
        name, size = struct.unpack_from("<4sI", start, at)
        at += 8
        if name == b"data":
            if layout is None:
                raise unplayable("a WAV without a format")
            return layout, at, size if 0 < size < _STREAMED_SIZE_MIN else None
        if name == b"fmt ":
            if len(start) < at + size:
                return None
            layout = _Layout(start[at : at + size])
        at += size + size % 2
    return None


def unplayable(detail: str) -> ProviderError:
    """What is raised for audio of a provider that can't be played."""
    return ProviderError(ErrorClass.UPSTREAM, "The speech provider sent audio that cannot be played.", detail=detail)
