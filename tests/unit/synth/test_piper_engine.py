"""The engine with its real voice: what is said is the text, whatever is in it, and it stays within bounds."""

# ruff: noqa: RUF001 - phonemes and other scripts look like other letters.
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from piper import PiperVoice, SynthesisConfig

from odea_synth.providers.base import ErrorClass, ProviderError
from odea_synth.providers.piper.engine import SILENCE_S, PiperEngine, load_voice, phonemes_of
from odea_synth.providers.piper.text import plain
from odea_synth.providers.piper.voices import VoiceFile

RATE_HZ = 22_050
SILENCE = bytes(2 * int(SILENCE_S * RATE_HZ))


class Recorder(PiperVoice):
    """The real voice up to the neural network; then it notes what it was given and makes a click instead of sound."""

    def __init__(self, voice: PiperVoice) -> None:
        super().__init__(session=voice.session, config=voice.config)
        self.blocks: list[str] = []
        self.fails: Exception | None = None

    def phonemes_to_ids(self, phonemes: list[str]) -> list[int]:
        self.blocks.append("".join(phonemes))
        return [1]

    def phoneme_ids_to_audio(
        self,
        phoneme_ids: list[int],  # noqa: ARG002 - Piper's own signature
        syn_config: SynthesisConfig | None = None,  # noqa: ARG002
        include_alignments: bool = False,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        if self.fails:
            raise self.fails
        return np.array([0.5], dtype=np.float32)


class Guarded(PiperVoice):
    """The real voice, which notices when another thread comes between the clearing of eSpeak and the text."""

    inside: int | None = None

    def phonemize(self, text: str) -> list[list[str]]:
        me = threading.get_ident()
        if text:
            assert self.inside == me
            self.inside = None
            return super().phonemize(text)
        assert self.inside is None
        self.inside = me
        for _ in range(3):
            os.sched_yield()
        return super().phonemize(text)


@pytest.fixture
def recorder(joe_voice: PiperVoice) -> Recorder:
    return Recorder(joe_voice)


def say(engine: PiperEngine, text: str, speed: float = 1.0) -> bytes:
    return engine.speak(text, speed=speed, stopped=lambda: False)


def said(voice: Recorder, text: str) -> str:
    voice.blocks.clear()
    say(PiperEngine(voice, phonemes_max=200), text)
    return "".join(voice.blocks)


def test_a_sentence_sounds(joe: PiperEngine) -> None:
    samples = np.frombuffer(say(joe, "Hello there, this is a sentence."), dtype="<i2") / 32768
    assert 1.5 < len(samples) / RATE_HZ < 3.5
    assert 0.93 < np.abs(samples).max() <= 0.951
    assert 0.05 < np.sqrt(np.mean(samples**2)) < 0.3


def test_speed_stretches_time(joe: PiperEngine) -> None:
    normal, slow, fast = (len(say(joe, "Every single word takes its time to say.", speed)) for speed in (1.0, 0.5, 2.0))
    # The voice varies its own pace a little each time.
    assert 1.5 < slow / normal < 2.5
    assert 1.5 < normal / fast < 2.5


@pytest.mark.parametrize("text", ["...", " \n ", "—", "!?", "①.", "😀", "\u200b", "[[]]", "\x00"])
def test_where_there_is_nothing_to_say_there_is_a_short_silence(joe: PiperEngine, text: str) -> None:
    assert say(joe, text) == SILENCE


@pytest.mark.parametrize(
    "text", ["你好世界", "привет", "مرحبا", "नमस्ते", "ελ", "½ \ud83d x", "Zürich naïve", "C++ & x=1"]
)
def test_any_script_and_any_sign_makes_sound(joe: PiperEngine, text: str) -> None:
    assert len(say(joe, text)) > len(SILENCE)


def test_brackets_are_no_phonemes(recorder: Recorder) -> None:
    assert "".join(recorder.phonemize("[[ˈaɪ]]")[0]) == "ˈaɪ"  # what Piper would make of it
    assert said(recorder, "[[ˈaɪ]]") == said(recorder, "ˈaɪ") != "ˈaɪ"
    assert said(recorder, "[[[hidden]]] words [[[[") == said(recorder, "hidden words")


def test_a_sentence_stays_one_breath(recorder: Recorder) -> None:
    assert said(recorder, "Mr. Smith met J. K. Rowling.") == said(recorder, "Mr Smith met J K Rowling.")
    assert len(recorder.blocks) == 1


def test_nothing_is_left_for_the_next_text(recorder: Recorder) -> None:
    # eSpeak would say "dot five and six" here, and the "dot" would be somebody else's.
    fresh = said(recorder, "five and six")
    recorder.phonemize("'5..")
    assert said(recorder, "five and six") == fresh


def test_threads_do_not_disturb_each_other(joe_voice: PiperVoice) -> None:
    voice = Guarded(session=joe_voice.session, config=joe_voice.config)
    texts = ["one two three", "a cat, a dog", "Is it? Yes!", "fünf"]
    read = partial(phonemes_of, voice)
    alone = list(map(read, texts))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(read, texts * 10))
    assert together == alone * 10


@pytest.mark.parametrize(("speed", "length_max"), [(1.0, 200), (4.0, 200), (0.25, 50)])
@pytest.mark.parametrize("text", ["你" * 160, "€1 " * 50, "W" * 160, "one, two; " * 15])
def test_what_is_spoken_in_one_go_is_bounded(recorder: Recorder, text: str, speed: float, length_max: int) -> None:
    # P10: memory grows with it, and one character can stand for many words.
    say(PiperEngine(recorder, phonemes_max=200), text, speed)
    assert max(map(len, recorder.blocks)) <= length_max
    assert "".join(recorder.blocks) == "".join(phonemes_of(recorder, plain(text)))


def test_it_is_cut_behind_a_clause_if_there_is_one(recorder: Recorder) -> None:
    say(PiperEngine(recorder, phonemes_max=30), "We came early, they left very late, and it rained.")
    assert [block[-2:] for block in recorder.blocks] == [", ", ", ", "d."]


def test_it_stops_between_two_goes(recorder: Recorder) -> None:
    asked: Iterator[bool] = iter([False, False, True])
    with pytest.raises(ProviderError):
        PiperEngine(recorder, phonemes_max=50).speak("你" * 100, speed=1, stopped=lambda: next(asked))
    assert len(recorder.blocks) == 2


@pytest.mark.parametrize("fault", [RuntimeError("holds my diary"), MemoryError()])
def test_a_fault_of_the_engine_is_the_upstreams_and_says_nothing_of_the_text(
    recorder: Recorder, fault: Exception
) -> None:
    recorder.fails = fault
    with pytest.raises(ProviderError) as failed:
        say(PiperEngine(recorder, phonemes_max=50), "my diary")
    assert failed.value.error_class is ErrorClass.UPSTREAM
    assert "diary" not in failed.value.message + failed.value.detail


def test_the_text_reaches_no_log(joe: PiperEngine, joe_voice: PiperVoice, caplog: pytest.LogCaptureFixture) -> None:
    # P6: Piper logs the text at debug level, and phonemes that it does not know as warnings.
    caplog.set_level(logging.DEBUG)
    say(joe, "Quagga 你")
    list(joe_voice.synthesize("Quagga"))
    joe_voice.phonemes_to_ids(["☃"])
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000)])
def test_a_broken_model_is_named(tmp_path: Path, joe_file: VoiceFile, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(ProviderError) as refused:
        load_voice(replace(joe_file, model_path=tmp_path / "broken.onnx"), threads=1)
    assert refused.value.error_class is ErrorClass.ACCOUNT
    assert "broken.onnx" in refused.value.detail


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"audio": 1}'])
def test_a_broken_description_is_refused(tmp_path: Path, joe_file: VoiceFile, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(ProviderError, match="not available"):
        load_voice(replace(joe_file, config_path=tmp_path / "broken.json"), threads=1)
