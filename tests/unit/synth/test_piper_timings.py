"""When Piper's sentences are heard: the times follow from the samples, and words are refused honestly."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from odea_contracts.synth import TimestampKind
from odea_synth.providers.base import ErrorClass, ProviderError, Utterance
from odea_synth.providers.piper import PiperOptions, PiperProvider
from odea_synth.providers.piper.voices import VoiceFile

SAID = Utterance(text="One two.  Three!\n\nFour.", voice="en_US-joe-medium", model="piper")


class Metronome:
    """Takes a tenth of a second for each character."""

    def speak(self, text: str, *, speed: float, stopped: Callable[[], bool]) -> bytes:
        assert speed
        assert not stopped()
        return bytes(2 * 2205 * len(text))


@pytest.fixture
async def piper() -> PiperProvider:
    def load(file: VoiceFile, options: PiperOptions) -> Metronome:
        assert file.rate_hz == 22_050
        assert options.workers
        return Metronome()

    provider = PiperProvider(PiperOptions(), load=load)
    await provider.start()
    return provider


async def test_a_sentence_is_heard_from_its_first_sample_to_its_last(piper: PiperProvider) -> None:
    chunks = [chunk async for chunk in piper.stream(replace(SAID, timestamps=TimestampKind.SENTENCE))]
    timings = [(timing.word, timing.start_ms, timing.end_ms) for chunk in chunks for timing in chunk.timings]
    assert timings == [("One two.", 0, 1000), ("Three!", 1000, 1800), ("Four.", 1800, 2300)]
    assert all(len(chunk.timings) == 1 for chunk in chunks)
    await piper.close()


async def test_nobody_gets_timings_unasked(piper: PiperProvider) -> None:
    assert not any([chunk.timings async for chunk in piper.stream(SAID)])
    await piper.close()


async def test_words_are_refused_before_anything_is_held(piper: PiperProvider) -> None:
    asked = replace(SAID, timestamps=TimestampKind.WORD)
    with pytest.raises(ProviderError) as refused:
        piper.source_format(asked)
    assert (refused.value.error_class, refused.value.param) == (ErrorClass.CALLER, "timestamps")
    with pytest.raises(ProviderError, match="not of words"):
        await anext(piper.stream(asked))
    await piper.close()
