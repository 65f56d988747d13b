"""Reads MiniMax's list of voices. It tells no language, but most ids begin with the name of one."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from odea_synth.providers.base import Voice
from odea_synth.providers.minimax.answers import Base
from odea_synth.providers.upstream import UNREADABLE, broken

LANGUAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "arabic": "ar", "cantonese": "yue", "chinese (mandarin)": "zh", "czech": "cs", "dutch": "nl", "english": "en",
        "finnish": "fi", "french": "fr", "german": "de", "greek": "el", "hindi": "hi", "indonesian": "id",
        "italian": "it", "japanese": "ja", "korean": "ko", "polish": "pl", "portuguese": "pt", "romanian": "ro",
        "russian": "ru", "spanish": "es", "thai": "th", "turkish": "tr", "ukrainian": "uk", "vietnamese": "vi",
    }
)  # fmt: skip
_FIRST: Final = re.compile(r"([A-Za-z]+(?: \([A-Za-z]+\))?)_")


class _ListedVoice(msgspec.Struct, frozen=True):
    voice_id: str = ""
    voice_name: str | None = None


class Listed(msgspec.Struct, frozen=True):
    """The answer of `get_voice`."""

    system_voice: tuple[_ListedVoice, ...] | None = None
    voice_cloning: tuple[_ListedVoice, ...] | None = None
    voice_generation: tuple[_ListedVoice, ...] | None = None
    base_resp: Base | None = None

    def voices(self, provider: str) -> list[Voice]:
        """All of them, each id once and to the byte."""
        listed = (*(self.system_voice or ()), *(self.voice_cloning or ()), *(self.voice_generation or ()))
        named = {voice.voice_id: voice for voice in listed if voice.voice_id}
        return [
            Voice(id=name, name=voice.voice_name or name, language=_language(name), provider=provider)
            for name, voice in named.items()
        ]


def read_voices(body: bytes) -> Listed:
    """What a body says; a refusal is in `base_resp`.

    Raises:
        ProviderError: of class upstream; it is not a list of voices.
    """
    try:
        return msgspec.json.decode(body, type=Listed)
    except UNREADABLE as error:
        raise broken("the list of voices is not JSON as agreed") from error


def _language(voice_id: str) -> str | None:
    found = _FIRST.match(voice_id)
    return LANGUAGES.get(found[1].lower()) if found else None
