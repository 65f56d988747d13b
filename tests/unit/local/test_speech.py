"""The file's name chooses the format."""

from pathlib import Path

import pytest

from odea_local.errors import LocalError
from odea_local.speech import format_of


@pytest.mark.parametrize(
    ("name", "wanted"), [("a.mp3", "mp3"), ("a.b.WAV", "wav"), ("folder/a.pcm", "pcm"), ("-", "mp3")]
)
def test_a_suffix_is_a_format(name: str, wanted: str) -> None:
    assert format_of(Path(name)) == wanted


@pytest.mark.parametrize("name", ["a", "a.txt", ".mp3"])
def test_another_suffix_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(LocalError, match="mp3, opus, aac, flac, wav, pcm"):
        format_of(Path(name))
