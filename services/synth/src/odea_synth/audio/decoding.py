"""Audio that a provider sends encoded, for clients who want another format: decoded while it streams, then encoded.

FFmpeg's demuxers pull from a file; audio is pushed at us. So each stream has a thread that pulls, and stands still
where the bytes that have come are used up. Whoever feeds waits for that, which makes the two take turns.
"""

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import av
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from odea_contracts.synth import AudioFormat
from odea_synth.audio.plain import pcm_of
from odea_synth.audio.wav import WavDecoder, unplayable

_DEMUXERS: Mapping[AudioFormat, str] = MappingProxyType(
    {
        AudioFormat.MP3: "mp3",
        AudioFormat.OPUS: "ogg",
        AudioFormat.AAC: "aac",
        AudioFormat.FLAC: "flac",
    }
)
_OPTIONS: Final = {
    # Looking ahead, to learn of what a stream is made, would keep back the first seconds.
    "probesize": "32",
    "analyzeduration": "0",
}
_BUFFER_BYTES: Final = 4096
_READ_BYTES_MIN: Final = 128
"""The MP3 demuxer takes what it sees at its first look for all there is, and would lose a frame to a shorter one."""


class _Encoder(Protocol):
    """What comes after the decoding; see `Encoder`."""

    def feed(self, pcm: bytes) -> bytes: ...
    def finish(self) -> bytes: ...
    def close(self) -> None: ...


class DecodingEncoder:
    """An `Encoder` that is fed with audio of another format.

    Its calls raise `ProviderError` of class upstream when that can't be played.

    Args:
        source: the format of what comes; not PCM, which needs no decoding.
        rate_hz: of the samples that `encoder` takes.
        encoder: makes the wanted format; it is closed with this one.
    """

    def __init__(self, source: AudioFormat, rate_hz: int, encoder: _Encoder) -> None:
        self._decoder = WavDecoder(rate_hz) if source is AudioFormat.WAV else _Decoder(source, rate_hz)
        self._encoder = encoder

    def feed(self, pcm: bytes) -> bytes:
        """See `Encoder`; the bytes are those of the source."""
        return self._encoder.feed(self._decoder.feed(pcm))

    def finish(self) -> bytes:
        """See `Encoder`."""
        rest = self._decoder.finish()
        return self._encoder.feed(rest) + self._encoder.finish()

    def close(self) -> None:
        """See `Encoder`."""
        self._decoder.close()
        self._encoder.close()


class _Decoder:
    """Encoded bytes in, mono s16le samples out. The thread runs only while somebody waits in `feed` or `finish`."""

    def __init__(self, source: AudioFormat, rate_hz: int) -> None:
        self._demuxer = _DEMUXERS[source]
        self._resampler = AudioResampler(format="s16", layout="mono", rate=rate_hz)
        self._turn = threading.Condition()
        self._input = bytearray()
        self._output = bytearray()
        self._hungry = self._ended = self._over = False
        self._heard = False
        self._fault: Exception | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    def feed(self, encoded: bytes) -> bytes:
        """The samples that can be had now."""
        self._opened()
        with self._turn:
            self._input += encoded
            return self._give_way()

    def finish(self) -> bytes:
        """The last samples; there must have been some at all."""
        self._opened()
        with self._turn:
            self._ended = True
            samples = self._give_way()
        self.close()
        if not self._heard:
            raise unplayable("it holds no audio")
        return samples

    def close(self) -> None:
        """End the thread, which stands still or is about to."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._turn:
            self._ended = True
            self._turn.notify_all()
        thread.join()

    def read(self, count: int) -> bytes:
        """For the demuxer: some bytes, waited for; none at the end."""
        with self._turn:
            while len(self._input) < min(count, _READ_BYTES_MIN) and not self._ended:
                self._hungry = True
                self._turn.notify_all()
                self._turn.wait()
            taken = bytes(self._input[:count])
            del self._input[:count]
            return taken

    def _opened(self) -> None:
        if self._thread is None:
            raise ValueError("The encoder is closed.")

    def _give_way(self) -> bytes:
        """Let the thread go on until it has used up all that came."""
        self._hungry = False
        self._turn.notify_all()
        self._turn.wait_for(lambda: self._over or self._hungry)
        if self._fault:
            raise unplayable(type(self._fault).__name__) from self._fault
        samples = bytes(self._output)
        self._output.clear()
        self._heard = self._heard or bool(samples)
        return samples

    def _run(self) -> None:
        fault: Exception | None = None
        try:
            self._decode()
        except (FFmpegError, ValueError, OSError) as error:
            # A frame of another kind than the one before is a ValueError of the resampler.
            fault = error
        with self._turn:
            self._fault, self._over = fault, True
            self._turn.notify_all()

    def _decode(self) -> None:
        with av.open(self, "r", format=self._demuxer, options=_OPTIONS, buffer_size=_BUFFER_BYTES) as container:
            for frame in container.decode(audio=0):
                self._output += pcm_of(self._resampler.resample(frame))
        self._output += pcm_of(self._resampler.resample(None))
