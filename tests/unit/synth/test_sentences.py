"""The cutting of text: nothing lost, nothing too long, nothing torn (P2: pieces are what is billed)."""

# ruff: noqa: RUF001 - real text has typographic marks and other scripts in it.
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odea_synth.providers.sentences import split

PROSE = st.text(st.sampled_from("aB9é你 .,;:!?…—–-\"'”()\n\t。！，"), max_size=400)


@given(st.one_of(PROSE, st.text(max_size=300)), st.integers(1, 60))
@example("", 1)
@example(" \n \n ", 2)
def test_the_pieces_are_the_text_and_none_is_empty_or_too_long(text: str, chars_max: int) -> None:
    pieces = list(split(text, chars_max))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= chars_max for piece in pieces)


@given(st.lists(st.text(st.sampled_from("abcdefgXYZ"), min_size=1, max_size=9), max_size=80), st.integers(9, 60))
def test_no_word_is_torn_that_fits(words: list[str], chars_max: int) -> None:
    pieces = split(" ".join(words), chars_max)
    assert [word for piece in pieces for word in piece.split()] == words


def test_a_word_that_alone_is_too_long_is_torn() -> None:
    assert list(split("ab " + "x" * 25 + " cd", 10)) == ["ab ", "x" * 10, "x" * 10, "xxxxx cd"]


@pytest.mark.parametrize(
    "pieces",
    [
        ["Hello there. ", "How are you? ", "Fine!"],
        ["Mr. Smith met Dr. Who. ", "J. K. Rowling left."],
        ["So do I. ", "He went."],
        ['"What?" he asked. ', '"No!" she said. ', "(Yes.) ", "Go"],
        ["He said “stop.” ", "Then he left."],
        ["Pi is 3.14, see example.com. ", "Done."],
        ["It took 5 min. or so… but it worked."],
        ["第一句。", "第二句！", "「好。」 ", "第三句"],
        ["A title\n\n", "A line\nand its end.\n", "More"],
        ["Wait... ", "What?! ", "No."],
    ],
)
def test_sentences_end_where_a_reader_would_stop(pieces: list[str]) -> None:
    assert list(split("".join(pieces), 300)) == pieces


def test_a_long_sentence_is_cut_between_clauses_if_that_leaves_no_scrap() -> None:
    text = "When the rain had stopped at last, all of the children from our village ran out to the river."
    assert list(split(text, 60)) == [
        "When the rain had stopped at last, ",
        "all of the children from our village ran out to the river.",
    ]
    assert list(split("Oh, " + text[35:].replace("river", "river and swam"), 60)) == [
        "Oh, all of the children from our ",
        "village ran out to the river and swam.",
    ]


def test_without_clauses_it_is_cut_between_words() -> None:
    assert list(split("one two three four five six seven", 20)) == ["one two three four ", "five six seven"]


@pytest.mark.parametrize(
    "text", ["." * 200_000 + "x", ". " * 25_000, " " * 50_000, "\n " * 25_000, '."' * 25_000, "a, " * 17_000]
)
@pytest.mark.timeout(5)
def test_hostile_text_takes_no_longer_than_other_text(text: str) -> None:
    # P7, P10: a pattern that tries again at each mark would take minutes.
    assert sum(len(piece) for piece in split(text, 160)) == len(text)
