"""What an operator types is read, or refused with an example."""

import click
import pytest

from odea_local.admin.values import Count, Duration, Moment, moment_text, unless_none


@pytest.mark.parametrize(("text", "ms"), [("0s", 0), ("90s", 90_000), ("30m", 1_800_000), ("14d", 1_209_600_000)])
def test_durations(text: str, ms: int) -> None:
    assert Duration().convert(text, None, None) == ms


@pytest.mark.parametrize("text", ["", "14", "d", "-1d", "1.5h", "1w", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="14d"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-01T01:00:00Z", 3_600_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("never", "never"),
    ],
)
def test_moments(text: str, ms: int | str) -> None:
    assert Moment().convert(text, None, None) == ms


def test_what_is_no_moment_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="2027-01-31"):
        Moment().convert("soon", None, None)


def test_counts() -> None:
    assert Count().convert("5_000", None, None) == 5_000
    assert Count(0).convert("0", None, None) == 0
    assert unless_none(Count().convert("none", None, None)) is None
    for bad in ("0", "-1", "many", ""):
        with pytest.raises(click.BadParameter, match="from 1 on"):
            Count().convert(bad, None, None)


def test_a_moment_is_shown_in_utc() -> None:
    assert moment_text(86_400_000) == "1970-01-02 00:00:00"
    assert moment_text(None) == ""
