"""Peppers are read whole or not at all, and a fault never shows what was written (P6)."""

import pytest

from odea_keys.peppers import PEPPERS_MAX, Pepper, parse_peppers

GOOD = "5e" * 32


def test_peppers_keep_their_order() -> None:
    peppers = parse_peppers(f"new:{'A7' * 64}, old_1:{GOOD}")
    assert peppers == (
        Pepper(pepper_id="new", value=b"\xa7" * 64),
        Pepper(pepper_id="old_1", value=b"\x5e" * 32),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "entry 1 does not begin with an id"),
        (GOOD, "entry 1 does not begin with an id"),
        (f"{GOOD}:p1", "entry 1 does not begin with an id"),
        (f"P1:{GOOD}", "entry 1 does not begin with an id"),
        (f":{GOOD}", "entry 1 does not begin with an id"),
        (f"p1\n:{GOOD}", "entry 1 does not begin with an id"),
        (f"p1:{GOOD},", "entry 2 does not begin with an id"),
        ("p1", "entry 1 has no hex digits"),
        ("p1:", "entry 1 has no hex digits"),
        (f"p1:{GOOD}0", "entry 1 has no hex digits in pairs"),
        (f"p1:{GOOD[:-2]}zz", "entry 1 has no hex digits in pairs"),
        (f"p1:{GOOD[:20]} {GOOD[20:]}", "entry 1 has no hex digits in pairs"),
        (f"p1:{GOOD[:-2]}", "entry 1 is shorter than 32 bytes"),
        (f"p1:{GOOD},p1:{GOOD}", "entry 2 repeats an id"),
    ],
)
def test_a_fault_is_named(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault}") as caught:
        parse_peppers(text)
    assert GOOD[:20] not in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"entry 1 .*; entry 2 .*; entry 4 ") as caught:
        parse_peppers(f"p1:00,what,p3:{GOOD},p3:{GOOD}")
    assert "entry 3" not in str(caught.value)


def test_their_number_is_bounded() -> None:
    """P10."""
    entries = [f"p{index}:{GOOD}" for index in range(PEPPERS_MAX)]
    assert len(parse_peppers(",".join(entries))) == PEPPERS_MAX
    with pytest.raises(ValueError, match=f"more than {PEPPERS_MAX} entries"):
        parse_peppers(",".join([*entries, f"last:{GOOD}"]))


def test_a_pepper_stays_out_of_the_repr() -> None:
    assert repr(parse_peppers(f"p1:{GOOD}")) == "(Pepper(pepper_id='p1'),)"
