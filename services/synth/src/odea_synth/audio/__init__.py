"""Streaming encoders: what a provider sends in, bytes of the wanted format out, as early as the codec allows.

Nothing is ever rewritten behind what has left: streamed WAV carries OpenAI's placeholder sizes, MP3 has no Xing
header, FLAC no total length. Every format is 24 kHz unless another rate is asked for.
"""

from typing import Protocol

from odea_contracts.synth import AudioFormat
from odea_synth.audio.codecs import CODECS, CodecEncoder
from odea_synth.audio.decoding import DecodingEncoder
from odea_synth.audio.formats import sample_rate_for
from odea_synth.audio.plain import PlainEncoder
from odea_synth.audio.wav import wav_header
from odea_synth.providers.base import Encoded, SourceFormat

__all__ = ["Encoder", "open_encoder", "open_transcoder", "sample_rate_for"]


class Encoder(Protocol):
    """Turns samples into one format. Used by one thread at a time, which need not be the same one."""

    def feed(self, pcm: bytes) -> bytes:
        """Take mono s16le samples and give what can leave now, which may be nothing.

        A sample that is split between two calls is put together again.

        Raises:
            ValueError: the encoder is closed.
        """
        ...

    def finish(self) -> bytes:
        """Give the last bytes and close. Half a sample that never got its other byte is dropped.

        Raises:
            ValueError: the encoder is closed.
        """
        ...

    def close(self) -> None:
        """Free everything at once; whatever had not left is lost. Closing twice is fine."""
        ...


def open_encoder(audio_format: AudioFormat, *, source_rate_hz: int, sample_rate_hz: int | None = None) -> Encoder:
    """An encoder from mono s16le at `source_rate_hz` to the format at `sample_rate_hz` (24 kHz if not given).

    Raises:
        ValueError: the format has no such rate; the text may be shown to callers.
    """
    rate_hz = sample_rate_for(audio_format, sample_rate_hz)
    match audio_format:
        case AudioFormat.PCM:
            return PlainEncoder(source_rate_hz, rate_hz)
        case AudioFormat.WAV:
            return PlainEncoder(source_rate_hz, rate_hz, header=wav_header(rate_hz))
        case _:
            return CodecEncoder(source_rate_hz, rate_hz, CODECS[audio_format])


def open_transcoder(
    source: SourceFormat, audio_format: AudioFormat, *, sample_rate_hz: int | None = None
) -> Encoder | None:
    """An encoder that is fed with what a provider sends, whatever that is; `None` if it is to be passed on as it is.

    Where the provider's audio can't be played, the encoder raises `ProviderError` of class upstream.

    Raises:
        ValueError: the format has no such rate; the text may be shown to callers.
    """
    if not isinstance(source, Encoded):
        return open_encoder(audio_format, source_rate_hz=source.rate_hz, sample_rate_hz=sample_rate_hz)
    if source.audio_format is audio_format:
        return None
    rate_hz = sample_rate_for(audio_format, sample_rate_hz)
    encoder = open_encoder(audio_format, source_rate_hz=rate_hz, sample_rate_hz=rate_hz)
    return DecodingEncoder(source.audio_format, rate_hz, encoder)
