"""Ids sort by time, secrets are evenly random."""

from collections import Counter
from uuid import UUID

from odea_runtime.ids import BASE62, new_id, new_uuid, random_base62


def test_uuids_sort_in_the_order_of_their_making_and_differ() -> None:
    made = [new_uuid() for _ in range(20_000)]
    assert sorted(made) == made
    assert len(set(made)) == len(made)


def test_a_uuid_is_version_7_in_lower_case() -> None:
    text = new_uuid()
    assert str(UUID(text)) == text
    assert UUID(text).version == 7


def test_ids_carry_their_prefix_and_sort_too() -> None:
    made = [new_id("ten") for _ in range(20_000)]
    assert sorted(made) == made
    assert len(set(made)) == len(made)
    assert all(len(text) == len("ten_") + 32 and text.startswith("ten_") for text in made[:10])


def test_base62_has_the_asked_length_and_only_letters_and_digits() -> None:
    assert [len(random_base62(length)) for length in (0, 1, 12, 86)] == [0, 1, 12, 86]
    assert set(random_base62(10_000)) == set(BASE62)
    assert len(set(BASE62)) == 62
    assert "".join(sorted(BASE62)) == BASE62


def test_base62_is_even_enough() -> None:
    """Chi-squared with 61 degrees of freedom: even digits fail once in many million runs, a modulo bias always."""
    length = 124_000
    expected = length / 62
    counts = Counter(random_base62(length))
    assert sum((counts[digit] - expected) ** 2 / expected for digit in BASE62) < 145


def test_base62_does_not_repeat() -> None:
    made = [random_base62(12) for _ in range(20_000)]
    assert len(set(made)) == len(made)
