"""One loaded Piper voice: text in, samples out. The only module that imports Piper, so it is imported last.

Piper is GPL-3.0 and optional. Its log lines hold the text it speaks, so its loggers are shut for good.
"""

import json
import logging
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort  # pyright: ignore[reportAttributeAccessIssue] - no stub
from piper import PiperVoice, SynthesisConfig
from piper.config import PiperConfig

from odea_synth.providers.base import ErrorClass, ProviderError
from odea_synth.providers.piper.text import is_speakable, plain
from odea_synth.providers.piper.voices import VoiceFile, unusable

SILENCE_S: Final = 0.2

_PEAK: Final = 0.95
# A voice speaks at about a third of full scale. More gain than this would only make noise loud.
_GAIN_MAX: Final = 4.0
_FULL_SCALE: Final = 32767
_CLAUSE_ENDS: Final = frozenset(",;:.!?")
_ORT_ERRORS: Final = (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.RuntimeException)
# eSpeak is one global machine: the voice it is set to and the text it reads are shared by the whole process.
_ESPEAK: Final = threading.Lock()

_piper_log = logging.getLogger("piper")
_piper_log.setLevel(logging.CRITICAL + 1)
_piper_log.propagate = False


def load_engine(file: VoiceFile, *, threads: int, phonemes_max: int) -> "PiperEngine":
    """Load a voice and let it speak once, so that the first caller waits no longer than others. Takes about a second.

    Raises:
        ProviderError: of class account; the files are not a voice of this engine.
    """
    engine = PiperEngine(load_voice(file, threads=threads), phonemes_max=phonemes_max)
    engine.speak("Ready.", speed=1.0, stopped=lambda: False)
    return engine


def load_voice(file: VoiceFile, *, threads: int) -> PiperVoice:
    """Piper's own object for a voice, with a session that does not spin while it waits.

    Raises:
        ProviderError: as `load_engine`.
    """
    try:
        config = PiperConfig.from_dict(json.loads(file.config_path.read_bytes()))
        return PiperVoice(session=_open_session(file, threads), config=config)
    except (OSError, ValueError, KeyError, TypeError, *_ORT_ERRORS) as error:
        raise unusable(f"{file.model_path} is not a voice that can be loaded ({type(error).__name__})") from error


def phonemes_of(voice: PiperVoice, text: str) -> list[str]:
    """The piece as one line of phonemes, the same whatever was read before; empty if none of them makes a sound."""
    with _ESPEAK:
        # Some texts leave a mark in eSpeak that it would speak at the head of the next one.
        voice.phonemize("")
        sentences = voice.phonemize(text)
    phonemes = [phoneme for sentence in sentences for phoneme in (*sentence, " ")][:-1]
    return phonemes if any(map(_sounds, phonemes)) else []


def _open_session(file: VoiceFile, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A memory plan for each length of text is never used again and costs a third more memory.
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(str(file.model_path), sess_options=options, providers=["CPUExecutionProvider"])


class PiperEngine:
    """A voice in memory. Any number of threads may speak with it at once."""

    def __init__(self, voice: PiperVoice, *, phonemes_max: int) -> None:
        self._voice = voice
        self._phonemes_max = phonemes_max

    def speak(self, text: str, *, speed: float, stopped: Callable[[], bool]) -> bytes:
        """Mono s16le samples of one piece of text at the voice's own rate.

        Where there is nothing to say, the samples are a short silence. Memory grows with what is spoken in one go, so
        that is bounded in phonemes and time, since a single character can stand for many words.

        Args:
            text: as the caller wrote it.
            speed: 0.25 to 4, where 1 is the voice's own pace.
            stopped: asked between two goes; true ends the work.

        Raises:
            ProviderError: of class upstream; the engine failed or was stopped.
        """
        try:
            return b"".join(self._speak(plain(text), speed, stopped)) or self._silence()
        except (RuntimeError, MemoryError, *_ORT_ERRORS) as error:
            detail = f"the voice engine raised {type(error).__name__}"
            raise ProviderError(ErrorClass.UPSTREAM, "The voice engine failed.", detail=detail) from error

    def _speak(self, text: str, speed: float, stopped: Callable[[], bool]) -> Iterator[bytes]:
        if not is_speakable(text):
            return
        config = self._voice.config
        synthesis = SynthesisConfig(length_scale=config.length_scale / speed)
        for block in _blocks(phonemes_of(self._voice, text), max(1, int(self._phonemes_max * min(1.0, speed)))):
            if stopped():
                raise ProviderError(ErrorClass.UPSTREAM, "The voice engine was stopped.")
            samples = self._voice.phoneme_ids_to_audio(self._voice.phonemes_to_ids(block), synthesis)
            yield _pcm(np.atleast_1d(np.asarray(samples, dtype=np.float32)))

    def _silence(self) -> bytes:
        return bytes(2 * int(SILENCE_S * self._voice.config.sample_rate))


def _sounds(phoneme: str) -> bool:
    return unicodedata.category(phoneme[0]) in ("Ll", "Lu", "Lo", "Nd")


def _blocks(phonemes: Sequence[str], length_max: int) -> Iterator[list[str]]:
    """Cut behind the last clause of a block, else behind its last word, else where it is full."""
    start = 0
    while start < len(phonemes):
        end = min(start + length_max, len(phonemes))
        if end < len(phonemes):
            blanks = [at + 1 for at in range(start, end) if phonemes[at] == " "]
            clauses = [at for at in blanks if at - start > length_max // 2 and phonemes[at - 2] in _CLAUSE_ENDS]
            end = (clauses or blanks or [end])[-1]
        yield list(phonemes[start:end])
        start = end


def _pcm(samples: NDArray[np.float32]) -> bytes:
    peak = float(np.abs(samples).max(initial=0.0))
    gain = min(_PEAK / peak, _GAIN_MAX) if peak > 0 else 1.0
    return (samples * (gain * _FULL_SCALE)).astype("<i2").tobytes()
