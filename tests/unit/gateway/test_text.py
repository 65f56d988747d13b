"""Nothing invisible is charged, and nothing hides in what is spoken (P7)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odea_gateway.text import clean

CLEANED = {
    "plain": ("Hello, world.", "Hello, world."),
    "newline and tab stay": ("a\n\tb", "a\n\tb"),
    "nothing is collapsed": ("  a   b  \n\n", "  a   b  \n\n"),
    "Windows line ends": ("a\r\nb\rc", "a\nb\nc"),
    "other line ends": ("a\x0bb\x0cc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\nf"),
    "controls": ("a\x00b\x07c\x1bd\x7fe\x9ff", "abcdef"),
    "zero-width space": ("pass\u200bword", "password"),
    "byte order mark": ("\ufeffhello", "hello"),
    "word joiner": ("a\u2060b", "ab"),
    "soft hyphen": ("syn\u00adthesis", "synthesis"),
    "bidi override": ("abc\u202edef\u202c", "abcdef"),
    "bidi isolates": ("\u2066abc\u2069\u200f\u200e\u061c", "abc"),
    "tags that hide text": ("hi\U000e0041\U000e0042\U000e007f", "hi"),
    "variation selectors": ("\u2764\ufe0f\U000e0100", "\u2764"),
    "Hangul fillers": ("a\u115f\u3164\uffa0b", "ab"),
    "annotation marks": ("a\ufff9b\ufffac\ufffb", "abc"),
    "joiners in Latin": ("s\u200de\u200cc", "sec"),
    "a run of joiners": ("ن\u200c\u200cن", "نن"),
    "joiner at the ends": ("\u200dن\u200d", "ن"),
    "Persian non-joiner stays": ("می\u200cشود", "می\u200cشود"),
    "Devanagari joiner stays": ("क्\u200dष", "क्\u200dष"),
    "emoji family stays": ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
    "heart on fire": ("\u2764\ufe0f\u200d\U0001f525", "\u2764\u200d\U0001f525"),
    "no non-joiner between emoji": ("\U0001f468\u200c\U0001f469", "\U0001f468\U0001f469"),
    "composed": ("e\u0301", "é"),
    "composed across what is removed": ("e\u200b\u0301", "é"),
    "composed across a joiner": ("e\u200d\u0301", "é"),
    "compatibility forms stay": ("\ufb01n \u2460", "\ufb01n \u2460"),
    "right-to-left text stays": ("שלום", "שלום"),
    "only invisible": ("\u200b\u2060\ufeff\x00", ""),
}


@pytest.mark.parametrize(("text", "cleaned"), CLEANED.values(), ids=CLEANED)
def test_text_is_cleaned(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


_TRICKY = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\u200c\u200d\u200b\ufe0f\u0301\u0338\r\n\x85\u2adc\u0628\u093c\u2764\U0001f525\U000e0041"),
    ),
    max_size=30,
)


@given(_TRICKY)
def test_cleaning_again_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(_TRICKY)
def test_what_is_left_is_composed_and_visible(text: str) -> None:
    cleaned = clean(text)
    assert unicodedata.is_normalized("NFC", cleaned)
    hidden = [c for c in cleaned if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    bidi = [c for c in cleaned if unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI"}]
    assert not hidden
    assert not bidi


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_plain_text_is_left_alone(text: str) -> None:
    assert clean(text) == text
