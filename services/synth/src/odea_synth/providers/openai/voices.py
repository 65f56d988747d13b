"""Reads `GET /audio/voices`, which every compatible server words a little differently."""

from collections.abc import Iterator

import msgspec

from odea_synth.providers.base import Voice
from odea_synth.providers.upstream import UNREADABLE, broken


class _Listed(msgspec.Struct, frozen=True):
    id: str | None = None
    voice_id: str | None = None
    name: str | None = None
    language: str | None = None
    preview_url: str | None = None


class _List(msgspec.Struct, frozen=True):
    voices: list[_Listed | str] | None = None
    data: list[_Listed | str] | None = None


def read_voices(body: bytes, provider: str) -> list[Voice]:
    """The voices in the order of the list, each once.

    Raises:
        ProviderError: of class upstream; it is not a list of voices.
    """
    try:
        listed = msgspec.json.decode(body, type=_List | list[_Listed | str])
    except UNREADABLE as error:
        raise broken("the list of voices is not JSON as agreed") from error
    entries = listed if isinstance(listed, list) else listed.voices or listed.data or []
    return list({voice.id: voice for voice in _voices(entries, provider)}.values())


def _voices(entries: list[_Listed | str], provider: str) -> Iterator[Voice]:
    for entry in entries:
        one = _Listed(id=entry) if isinstance(entry, str) else entry
        if name := one.id or one.voice_id or one.name:
            yield Voice(
                id=name,
                name=one.name or name,
                language=one.language,
                provider=provider,
                preview_url=one.preview_url,
            )
