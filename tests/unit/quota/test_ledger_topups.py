"""Top-ups: taken before the plan's units and before they lapse, given back whole, never used twice (P1)."""

from copy import deepcopy

import pytest

from odea_contracts.quota import Denied, Outcome, Reserved, Settled
from odea_quota.accounts import TopUpBalance
from odea_quota.book import Book, Entry
from odea_quota.ledger import Command, decide
from unit.quota.samples import NOW_US, account, book, expire, hold_id, release, reserve, settle, topup

_SOON_US, _LATE_US = 600_000_000, 7_200_000_000
_LAPSED_US = NOW_US + _SOON_US


def _sold_out(*topups: TopUpBalance) -> Book:
    """An account whose plan has 20 units left, and its top-ups."""
    return book(account(used=80, topups=list(topups)))


def _units(now: Book) -> tuple[int, int, list[tuple[int, int]]]:
    """Used and held of the plan, and left and held of each top-up."""
    hall = now.accounts["hall"]
    return hall.used, hall.held, [(one.units_left, one.units_held) for one in hall.topups]


def test_what_lapses_first_is_taken_first_and_the_plan_last() -> None:
    now = _sold_out(topup(1, 30, _LATE_US), topup(2, 10, _SOON_US))
    answer = decide(now, reserve(1, 50), NOW_US)
    assert isinstance(answer, Reserved)
    assert _units(now) == (80, 10, [(0, 30), (0, 10)])
    assert now.opened[hold_id(1)].topups == {hold_id(1001): 30, hold_id(1002): 10}
    told = answer.balances[0]
    assert (told.held, told.remaining, told.topup_remaining, told.in_flight) == (50, 10, 0, 1)


def test_top_ups_count_into_what_remains_and_no_unit_more() -> None:
    now = _sold_out(topup(1, 30), topup(2, 10))
    refused = decide(now, reserve(1, 61), NOW_US)
    assert isinstance(refused, Denied)
    assert (refused.limit, refused.balances[0].remaining, refused.balances[0].topup_remaining) == ("units", 60, 40)
    assert isinstance(decide(now, reserve(1, 60), NOW_US), Reserved)
    assert isinstance(decide(now, reserve(2, 1), NOW_US), Denied)


def test_a_settlement_uses_top_ups_first_and_gives_the_rest_back() -> None:
    now = _sold_out(topup(1, 30, _LATE_US), topup(2, 10, _SOON_US))
    decide(now, reserve(1, 50), NOW_US)
    assert decide(now, settle(1, 15), NOW_US) == Settled(hold_id=hold_id(1), units=15)
    assert _units(now) == (80, 0, [(25, 0), (0, 0)])
    assert now.entries == [
        Entry(cause_id=hold_id(1), debit=f"topup:{hold_id(1002)}", credit="provider:piper", units=10),
        Entry(cause_id=hold_id(1), debit=f"topup:{hold_id(1001)}", credit="provider:piper", units=5),
    ]


def test_a_settlement_beyond_the_top_ups_goes_to_the_plan() -> None:
    now = _sold_out(topup(1, 30))
    decide(now, reserve(1, 50), NOW_US)
    decide(now, settle(1, 45), NOW_US)
    assert _units(now) == (95, 0, [(0, 0)])
    assert [(one.debit, one.units) for one in now.entries] == [(f"topup:{hold_id(1001)}", 30), ("hall", 15)]


@pytest.mark.parametrize("end", [release(), expire(), settle(1, 0, Outcome.WRITTEN_OFF)])
def test_a_hold_that_is_not_charged_gives_every_unit_back_to_where_it_came_from(end: Command) -> None:
    now = _sold_out(topup(1, 30), topup(2, 10))
    before = _units(now)
    decide(now, reserve(1, 50), NOW_US)
    decide(now, end, NOW_US + 61_000_000)
    assert _units(now) == before
    assert now.changed_topups.keys() == {hold_id(1001), hold_id(1002)}
    assert now.entries == []


def test_a_top_up_lapses_at_its_very_millisecond() -> None:
    now = book(account(limit=0, topups=[topup(1, 30, _SOON_US)]))
    assert isinstance(decide(now, reserve(1, 10), _LAPSED_US - 1), Reserved)
    refused = decide(now, reserve(2, 10), _LAPSED_US)
    assert isinstance(refused, Denied)
    assert (refused.balances[0].remaining, refused.balances[0].topup_remaining) == (0, 0)


def test_what_was_held_before_the_lapse_may_still_be_used_and_what_returns_after_it_is_lost() -> None:
    now = book(account(limit=0, topups=[topup(1, 30, _SOON_US)]))
    decide(now, reserve(1, 30, lease_ms=3_600_000), _LAPSED_US - 1)
    assert decide(now, settle(1, 20), _LAPSED_US) == Settled(hold_id=hold_id(1), units=20)
    assert _units(now) == (0, 0, [(10, 0)])
    assert isinstance(decide(now, reserve(2, 1), _LAPSED_US), Denied)


def test_an_account_without_a_limit_leaves_its_top_ups_alone() -> None:
    now = book(account(limit=None, topups=[topup(1, 30)]))
    decide(now, reserve(1, 50), NOW_US)
    decide(now, settle(1, 40), NOW_US)
    assert _units(now) == (40, 0, [(30, 0)])


def test_a_refusal_by_the_other_account_takes_nothing_from_top_ups() -> None:
    now = book(account(topups=[topup(1, 30)]), account("stage", limit=10))
    before = deepcopy(now)
    assert isinstance(decide(now, reserve(1, 20, "hall", "stage"), NOW_US), Denied)
    assert now == before


def test_each_account_pays_from_its_own_top_ups() -> None:
    now = book(account(topups=[topup(1, 30)]), account("stage", topups=[topup(2, 5, account_id="stage")]))
    decide(now, reserve(1, 50, "hall", "stage"), NOW_US)
    assert now.opened[hold_id(1)].topups == {hold_id(1001): 30, hold_id(1002): 5}
    decide(now, settle(1, 40), NOW_US)
    assert [(one.used, one.held) for one in now.accounts.values()] == [(10, 0), (35, 0)]
    assert [(one.debit, one.credit, one.units) for one in now.entries] == [
        (f"topup:{hold_id(1001)}", "provider:piper", 30),
        ("hall", "provider:piper", 10),
        (f"topup:{hold_id(1002)}", "budget:hall", 5),
        ("stage", "budget:hall", 35),
    ]


def test_a_late_settlement_may_use_a_top_up_in_the_same_order() -> None:
    now = book(account(used=60))
    decide(now, reserve(1, 40), NOW_US)
    later_us = NOW_US + 61_000_000
    decide(now, expire(), later_us)
    now.accounts["hall"].topups.append(topup(1, 15))
    decide(now, reserve(2, 30), later_us)
    # 60 used, 15 held by another, whose other 15 took the top-up: 25 are left.
    assert not isinstance(decide(now, settle(1, 26), later_us), Settled)
    assert decide(now, settle(1, 25), later_us) == Settled(hold_id=hold_id(1), units=25, late=True)
    assert _units(now) == (85, 15, [(0, 15)])


def test_a_late_settlement_takes_from_the_top_up_before_the_plan() -> None:
    now = book(account(used=60))
    decide(now, reserve(1, 40), NOW_US)
    later_us = NOW_US + 61_000_000
    decide(now, expire(), later_us)
    now.accounts["hall"].topups.append(topup(1, 15))
    decide(now, settle(1, 40), later_us)
    assert _units(now) == (85, 0, [(0, 0)])
    assert [(one.debit, one.units) for one in now.entries] == [(f"topup:{hold_id(1001)}", 15), ("hall", 25)]
