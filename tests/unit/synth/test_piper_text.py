"""What Piper is given to say: words, and never a command."""

# ruff: noqa: RUF001 - real text has typographic marks and other scripts in it.
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odea_synth.providers.piper.text import is_speakable, plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("say [[hˈaɪ]] now", "say  hˈaɪ  now"),
        ("a\x01 20p b\x00", "a  20p b "),
        ("half \ud83d of a pair", "half   of a pair"),
        ("well done 👍🏽 you ❤️", "well done   you  "),
        ("Mr. Smith met Dr. Who.", "Mr Smith met Dr Who."),
        ("J. K. Rowling, but so do I. He", "J K Rowling, but so do I. He"),
        ("the U.S. Army", "the U.S. Army"),
        ("well... maybe … yes....", "well,  maybe,  yes."),
        ("He left...” ", "He left.” "),
        ("20°C for $5 & 3 > 2 ©", "20°C for $5 & 3 > 2 ©"),
    ],
)
def test_words_stay_and_commands_go(text: str, said: str) -> None:
    assert plain(text) == said


@given(st.text(st.one_of(st.sampled_from("[].…A \0"), st.characters(exclude_categories=[]))))
def test_nothing_that_piper_or_espeak_would_obey_is_left(text: str) -> None:
    said = plain(text)
    assert "[" not in said
    assert "\0" not in said
    assert ".." not in said
    said.encode()


@pytest.mark.parametrize("text", ["a", "é", "你", "7", "$", "&", "©", "...x"])
def test_there_is_something_to_say(text: str) -> None:
    assert is_speakable(text)


@pytest.mark.parametrize("text", ["", " \n", "...", "—", "?!", "“”", "()", "\u200b", "。"])
def test_there_is_nothing_to_say(text: str) -> None:
    assert not is_speakable(text)
