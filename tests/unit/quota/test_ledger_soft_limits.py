"""Soft limits: each is told once a window, and only by what the plan paid."""

import pytest

from odea_quota.book import Book, Crossing
from odea_quota.ledger import decide
from unit.quota.samples import NOW_US, account, at_us, book, expire, reserve, settle, topup

_NEXT_MONTH_US = at_us("2026-04-01T00:00:00")


def _spend(now: Book, *units: int, at_us: int = NOW_US) -> list[int]:
    """Charge so many units one after the other; which percentages were told of in the meantime."""
    told = len(now.crossings)
    for number, amount in enumerate(units, start=len(now.resolved) + 1):
        decide(now, reserve(number, amount), at_us)
        decide(now, settle(number, amount), at_us)
    return [one.percent for one in now.crossings[told:]]


def test_a_soft_limit_is_told_when_it_is_reached_and_not_again() -> None:
    now = book(account(soft_limits_percent=(50, 80, 100)))
    assert _spend(now, 49) == []
    assert _spend(now, 1) == [50]
    assert _spend(now, 1, 28) == []
    assert _spend(now, 1) == [80]
    assert _spend(now, 20) == [100]
    assert now.crossings[-1] == Crossing(
        account_id="hall",
        tenant_id="ten",
        percent=100,
        used=100,
        limit=100,
        window_ends_at_ms=_NEXT_MONTH_US // 1000,
    )


def test_a_leap_over_several_tells_the_highest() -> None:
    now = book(account(soft_limits_percent=(80, 50)))
    assert _spend(now, 90) == [80]
    assert now.accounts["hall"].crossed_percent == 80


def test_a_new_window_tells_anew() -> None:
    now = book(account(soft_limits_percent=(50,)))
    assert _spend(now, 60) == [50]
    assert _spend(now, 40, at_us=_NEXT_MONTH_US) == []
    assert _spend(now, 20, at_us=_NEXT_MONTH_US) == [50]


def test_what_is_held_or_paid_by_a_top_up_does_not_count() -> None:
    now = book(account(soft_limits_percent=(50,), topups=[topup(1, 60)]))
    assert _spend(now, 60) == []
    decide(now, reserve(7, 90), NOW_US)
    assert now.crossings == []


def test_a_late_settlement_counts() -> None:
    now = book(account(soft_limits_percent=(50,)))
    decide(now, reserve(1, 60), NOW_US)
    decide(now, expire(1), NOW_US + 61_000_000)
    decide(now, settle(1, 60), NOW_US + 61_000_000)
    assert [one.percent for one in now.crossings] == [50]


@pytest.mark.parametrize("limit", [None, 0])
def test_without_units_to_be_part_of_nothing_is_told(limit: int | None) -> None:
    now = book(account(limit=limit, soft_limits_percent=(50,)))
    assert _spend(now, 90) == []


def test_both_accounts_tell_their_own() -> None:
    now = book(account(soft_limits_percent=(50,)), account("stage", limit=200, soft_limits_percent=(25,)))
    decide(now, reserve(1, 60, "hall", "stage"), NOW_US)
    decide(now, settle(1, 60), NOW_US)
    assert [(one.account_id, one.percent) for one in now.crossings] == [("hall", 50), ("stage", 25)]
