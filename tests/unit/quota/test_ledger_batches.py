"""Several commands on one hold in one batch, and settlements that come after the hold expired (P1 before P2)."""

from copy import deepcopy

import pytest

from odea_contracts.quota import Denied, ExceedsHold, Expired, Outcome, Released, Reserved, Settled, SettledBefore
from odea_quota.book import Book, Kind
from odea_quota.ledger import Answer, Command, decide
from unit.quota.samples import NOW_US, account, book, expire, extend, hold_id, release, reserve, settle

_LATER_US = NOW_US + 61_000_000


def _all(now: Book, *commands: Command, at_us: int = NOW_US) -> list[Answer]:
    return [decide(now, command, at_us) for command in commands]


def _next(past: Book) -> Book:
    """The book of the next batch: what was written, loaded again."""
    return Book(accounts=past.accounts, holds=past.holds, resolutions=past.resolutions)


def _used_and_held(now: Book, account_id: str = "hall") -> tuple[int, int, int]:
    one = now.accounts[account_id]
    return one.used, one.held, one.in_flight


def test_two_commands_of_a_batch_never_both_take_the_last_unit() -> None:
    """P1 inside one transaction: the second sees what the first took."""
    now = book(account())
    first, second = _all(now, reserve(1, 60), reserve(2, 60))
    assert isinstance(first, Reserved)
    assert isinstance(second, Denied)
    assert _used_and_held(now) == (0, 60, 1)


def test_what_one_command_gives_back_the_next_can_take() -> None:
    now = book(account())
    answers = _all(now, reserve(1, 60), release(1), reserve(2, 60), settle(2, 10), reserve(3, 90))
    assert [type(answer) for answer in answers] == [Reserved, Released, Reserved, Settled, Reserved]
    assert _used_and_held(now) == (10, 90, 1)


@pytest.mark.parametrize(("end", "kind"), [(settle(), Kind.SETTLED), (release(), Kind.RELEASED)])
def test_a_hold_opened_and_ended_in_one_batch_never_touches_the_hot_table(end: Command, kind: Kind) -> None:
    now = book(account())
    _all(now, reserve(), extend(), end, end, reserve())
    assert (now.opened, now.extended, now.closed, now.holds) == ({}, {}, {}, {})
    assert [(one.kind, one.hold.hold_id) for one in now.resolved] == [(kind, hold_id())]
    assert (now.accounts["hall"].held, now.accounts["hall"].in_flight) == (0, 0)


def test_a_hold_extended_in_the_batch_that_opened_it_is_written_once_with_the_later_lease() -> None:
    now = book(account())
    _all(now, reserve(), extend())
    assert now.opened[hold_id()].lease_ends_at_ms == NOW_US // 1000 + 120_000


def test_a_hold_extended_and_ended_in_a_later_batch_is_only_ended() -> None:
    past = book(account())
    _all(past, reserve())
    now = _next(past)
    _all(now, extend(), settle())
    assert (now.opened, now.extended, list(now.closed)) == ({}, {}, [hold_id()])
    assert len(now.resolved) == 1


def test_only_the_first_of_two_rivals_ends_the_hold() -> None:
    past = book(account())
    _all(past, reserve())
    for first, second, answer in (
        (settle(), release(), SettledBefore(hold_id=hold_id(), units=30)),
        (settle(), settle(1, 29), SettledBefore(hold_id=hold_id(), units=30)),
        (settle(), settle(), Settled(hold_id=hold_id(), units=30)),
    ):
        now = _next(deepcopy(past))
        assert _all(now, first, second)[1] == answer
        assert len(now.resolved) == 1
        assert _used_and_held(now) == (30, 0, 0)


def test_an_extension_before_the_sweeper_in_one_batch_saves_the_hold() -> None:
    past = book(account())
    _all(past, reserve())
    now = _next(past)
    _all(now, extend(), expire(), at_us=_LATER_US)
    assert list(now.extended) == list(now.holds) == [hold_id()]
    assert now.resolved == []


def _expired(*, used: int = 0, limit: int | None = 100, units: int = 50) -> Book:
    past = book(account(used=used, limit=limit))
    _all(past, reserve(1, units))
    _all(past, expire(), at_us=_LATER_US)
    return _next(past)


def test_a_hold_expired_and_settled_in_one_batch_has_both_on_record_and_one_charge() -> None:
    past = book(account())
    _all(past, reserve())
    now = _next(past)
    answers = _all(now, expire(), settle(), settle(), at_us=_LATER_US)
    late = Settled(hold_id=hold_id(), units=30, late=True)
    assert answers == [Expired(hold_id=hold_id()), late, late]
    assert [(one.kind, one.units, one.late) for one in now.resolved] == [
        (Kind.EXPIRED, 0, False),
        (Kind.SETTLED, 30, True),
    ]
    assert list(now.closed) == [hold_id()]
    assert _used_and_held(now) == (30, 0, 0)


def test_a_late_settlement_is_charged_only_if_there_is_still_room() -> None:
    now = _expired(used=40)
    _all(now, reserve(2, 30), at_us=_LATER_US)
    before = deepcopy(now)
    # 40 used, 30 held by another: 30 are left, and 31 are not.
    assert _all(now, settle(1, 31), at_us=_LATER_US) == [Expired(hold_id=hold_id())]
    assert now == before
    assert _all(now, settle(1, 30), at_us=_LATER_US) == [Settled(hold_id=hold_id(), units=30, late=True)]
    assert _used_and_held(now) == (70, 30, 1)


def test_a_late_settlement_is_within_its_hold_even_where_nothing_limits_it() -> None:
    now = _expired(limit=None)
    assert _all(now, settle(1, 51), at_us=_LATER_US) == [ExceedsHold(hold_id=hold_id(), held=50)]
    assert _all(now, settle(1, 50), at_us=_LATER_US) == [Settled(hold_id=hold_id(), units=50, late=True)]


def test_a_late_settlement_needs_room_on_both_accounts_or_charges_neither() -> None:
    past = book(account(), account("stage", limit=60))
    _all(past, reserve(1, 50, "hall", "stage"))
    _all(past, expire(), reserve(2, 20, "stage"), at_us=_LATER_US)
    now = _next(past)
    before = deepcopy(now)
    assert _all(now, settle(1, 41), at_us=_LATER_US) == [Expired(hold_id=hold_id())]
    assert now == before
    _all(now, settle(1, 40), at_us=_LATER_US)
    assert (_used_and_held(now), _used_and_held(now, "stage")) == ((40, 0, 0), (40, 20, 1))


def test_a_late_settlement_takes_no_request_from_the_rate_and_nothing_in_flight() -> None:
    past = book(account(requests_per_minute=1, requests_burst=1, in_flight_max=1))
    _all(past, reserve())
    _all(past, expire(), at_us=_LATER_US)
    now, tat_us = _next(past), past.accounts["hall"].requests_tat_us
    _all(now, settle(), at_us=_LATER_US)
    assert (now.accounts["hall"].requests_tat_us, now.accounts["hall"].in_flight) == (tat_us, 0)


def test_a_late_settlement_is_charged_once_and_keeps_its_amount() -> None:
    now = _expired()
    _all(now, settle(), at_us=_LATER_US)
    again = _next(now)
    assert _all(again, settle(), settle(1, 29), release(), reserve(), extend(), expire(), at_us=_LATER_US) == [
        Settled(hold_id=hold_id(), units=30, late=True),
        *[SettledBefore(hold_id=hold_id(), units=30)] * 5,
    ]
    assert (again.changed, again.resolved) == ({}, [])


def test_a_late_write_off_is_recorded_and_free_even_on_a_full_account() -> None:
    now = _expired(used=50)
    _all(now, reserve(2, 50), at_us=_LATER_US)
    assert _all(now, settle(1, 0, Outcome.WRITTEN_OFF), at_us=_LATER_US) == [
        Settled(hold_id=hold_id(), units=0, late=True)
    ]
    assert _used_and_held(now) == (50, 50, 1)
