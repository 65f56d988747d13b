"""MP3, Opus, AAC and FLAC: a codec and a container of FFmpeg, written into memory and drained after each call."""

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import av
from av import _core as ffmpeg
from av.audio.stream import AudioStream
from av.container import OutputContainer

from odea_contracts.synth import AudioFormat
from odea_synth.audio.formats import Samples

# Four bits for each sample keep speech transparent, and stay below what MPEG and AAC allow at low rates.
_BITS_PER_SAMPLE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How one compressed format is made.

    Attributes:
        container: FFmpeg's name of the muxer.
        encoder: FFmpeg's name of the encoder.
        bits_per_s_max: ceiling of the bit rate; None for lossless.
        options: what the muxer is told.
    """

    container: str
    encoder: str
    bits_per_s_max: int | None = None
    options: Mapping[str, str] = field(default_factory=dict[str, str])


CODECS: Mapping[AudioFormat, Codec] = MappingProxyType(
    {
        AudioFormat.MP3: Codec(
            container="mp3",
            encoder="libmp3lame",
            bits_per_s_max=128_000,
            options={"write_xing": "0", "id3v2_version": "0"},
        ),
        AudioFormat.OPUS: Codec(
            container="ogg",
            encoder="libopus",
            bits_per_s_max=64_000,
            # In microseconds. The default, a page a second, would hold back that much audio.
            options={"page_duration": "100000"},
        ),
        AudioFormat.AAC: Codec(container="adts", encoder="aac", bits_per_s_max=128_000),
        # Without the option the header ends in 8 KB of padding for tags that may come later.
        AudioFormat.FLAC: Codec(container="flac", encoder="flac", options={"metadata_header_padding": "0"}),
    }
)


class CodecEncoder:
    """An `Encoder` for compressed formats. The container's header leaves with the first packet."""

    def __init__(self, source_rate_hz: int, rate_hz: int, codec: Codec) -> None:
        self._samples = Samples(source_rate_hz)
        self._sink = _Sink()
        # `bitexact` keeps the library's version out of what customers get.
        options = {"fflags": "+bitexact", **codec.options}
        container = av.open(self._sink, "w", format=codec.container, options=options)
        self._open: tuple[OutputContainer, AudioStream] | None = container, _add_stream(container, codec, rate_hz)

    def feed(self, pcm: bytes) -> bytes:
        """See `Encoder`."""
        container, stream = self._opened()
        frame = self._samples.frame(pcm)
        if frame is None:
            return b""
        container.mux(stream.encode(frame))
        return self._sink.drain()

    def finish(self) -> bytes:
        """See `Encoder`."""
        container, stream = self._opened()
        # A text without audio still has a valid header.
        container.start_encoding()
        container.mux(stream.encode(None))
        self.close()
        return self._sink.drain()

    def close(self) -> None:
        """See `Encoder`."""
        opened, self._open = self._open, None
        if opened is not None:
            opened[0].close()

    def _opened(self) -> tuple[OutputContainer, AudioStream]:
        if self._open is None:
            raise ValueError("The encoder is closed.")
        return self._open


class _Sink:
    """A file that can only be written to, so that no muxer goes back to mend its header."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, written: bytes) -> int:
        self._bytes += written
        return len(written)

    def drain(self) -> bytes:
        drained = bytes(self._bytes)
        self._bytes.clear()
        return drained


def _add_stream(container: OutputContainer, codec: Codec, rate_hz: int) -> AudioStream:
    stream = container.add_stream(codec.encoder, rate=rate_hz)
    if not isinstance(stream, AudioStream):
        raise TypeError(f"{codec.encoder} encodes no audio")
    stream.layout = "mono"
    if codec.bits_per_s_max is not None:
        stream.bit_rate = min(codec.bits_per_s_max, rate_hz * _BITS_PER_SAMPLE)
    return stream


def _keep_to_one_thread() -> None:
    """Stop FFmpeg from starting a thread for each CPU inside every encoder; speech keeps none of them busy."""
    # PyAV has no setting for the resamplers in its encoders. A build without the symbol merely has idle threads.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(ffmpeg.__file__).av_cpu_force_count(1)


_keep_to_one_thread()
