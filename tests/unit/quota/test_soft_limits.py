"""Soft limits: each account tells once a window how far it has come, and is never held back by it."""

from typing import Any

import pytest

from odea_contracts.quota import Settled, Window
from odea_quota.accounts import Account
from odea_quota.book import Book, Crossing
from odea_quota.ledger import decide
from unit.quota.samples import NOW_US, account, at_us, book, expire, hold_id, release, reserve, settle, topup

_APRIL_US = at_us("2026-04-01T00:00:00")


def hall(**fields: Any) -> Account:
    defaults: dict[str, Any] = {"soft_limits_percent": (50, 80, 100)}
    return account(**(defaults | fields))


def charge(page: Book, number: int, units: int, *accounts: str, now_us: int = NOW_US) -> list[int]:
    """Reserve and settle; the percentages that this crossed."""
    before = len(page.crossings)
    decide(page, reserve(number, units, *accounts), now_us)
    assert isinstance(decide(page, settle(number, units), now_us), Settled)
    return [crossing.percent for crossing in page.crossings[before:]]


def test_a_limit_is_crossed_when_it_is_reached_and_once() -> None:
    page = book(hall())
    crossed = [charge(page, number, units) for number, units in enumerate([49, 1, 1, 28, 1, 19, 1])]
    assert crossed == [[], [50], [], [], [80], [], [100]]


def test_the_event_says_where_the_account_stands() -> None:
    page = book(hall(used=45))
    charge(page, 1, 7)
    assert page.crossings == [
        Crossing(
            account_id="hall",
            tenant_id="ten",
            percent=50,
            used=52,
            limit=100,
            window_ends_at_ms=_APRIL_US // 1000,
        )
    ]


def test_several_at_once_are_each_told_in_their_order() -> None:
    page = book(hall(soft_limits_percent=(80, 50, 100, 50)))
    assert charge(page, 1, 85) == [50, 80]
    assert charge(page, 2, 15) == [100]


def test_what_is_held_crosses_nothing() -> None:
    page = book(hall())
    for number, end in enumerate([release, expire]):
        decide(page, reserve(number, 100), NOW_US)
        decide(page, end(number), NOW_US + 3_600_000_000)
    decide(page, reserve(9, 100), NOW_US)
    assert not page.crossings


def test_a_new_window_tells_again() -> None:
    page = book(hall())
    assert charge(page, 1, 90) == [50, 80]
    assert charge(page, 2, 60, now_us=_APRIL_US) == [50]
    assert page.crossings[-1].used == 60


def test_a_hold_of_the_old_window_counts_where_it_is_settled() -> None:
    page = book(hall(used=49, window=Window.DAY, window_ends_at_ms=NOW_US // 1000 + 1))
    decide(page, reserve(1, 50), NOW_US)
    decide(page, settle(1, 50), NOW_US + 1_000)
    assert [(crossing.percent, crossing.used) for crossing in page.crossings] == [(50, 50)]


def test_a_late_settlement_crosses_too() -> None:
    page = book(hall())
    decide(page, reserve(1, 80), NOW_US)
    decide(page, expire(1), NOW_US + 3_600_000_000)
    assert decide(page, settle(1, 80), NOW_US + 3_600_000_000) == Settled(hold_id=hold_id(1), units=80, late=True)
    assert [crossing.percent for crossing in page.crossings] == [50, 80]


def test_repeated_settlements_tell_nothing_more() -> None:
    page = book(hall())
    charge(page, 1, 50)
    decide(page, settle(1, 50), NOW_US)
    decide(page, settle(1, 51), NOW_US)
    assert len(page.crossings) == 1


def test_topups_do_not_count_against_the_plan() -> None:
    page = book(hall(topups=[topup(1, 90)]))
    assert charge(page, 1, 90) == []
    assert charge(page, 2, 50) == [50]


def test_tenant_and_key_tell_each_for_itself() -> None:
    page = book(hall(limit=1_000), account("key", soft_limits_percent=(25,)))
    charge(page, 1, 30, "hall", "key")
    assert [(crossing.account_id, crossing.percent) for crossing in page.crossings] == [("key", 25)]


@pytest.mark.parametrize("limit", [None, 0])
def test_without_a_limit_there_is_no_share_of_it(limit: int | None) -> None:
    page = book(hall(limit=limit, topups=[topup(1, 50)]))
    assert charge(page, 1, 50) == []


def test_fractions_of_a_unit_are_not_rounded_up() -> None:
    page = book(hall(limit=3, soft_limits_percent=(34, 67)))
    assert [charge(page, number, 1) for number in range(3)] == [[], [34], [67]]
