"""Top-ups: which units a hold takes, what becomes of them, and that none is lost or made on the way (P1, P2)."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from odea_contracts.quota import Denied, Expired, Limit, Reserved, Settled
from odea_quota.accounts import TopUpBalance
from odea_quota.book import Book, Entry, Expire, Kind
from odea_quota.ledger import Command, decide
from unit.quota.samples import NOW_US, account, book, expire, hold_id, release, reserve, settle, topup

_SECOND_US = 1_000_000
_HOUR_US = 3_600 * _SECOND_US


def parts(*topups: TopUpBalance) -> list[tuple[int, int]]:
    return [(one.units_left, one.units_held) for one in topups]


def paid(entries: list[Entry]) -> dict[tuple[str, str], int]:
    return {(entry.debit, entry.credit): entry.units for entry in entries}


def test_they_are_used_before_the_plan_and_the_soonest_to_lapse_first() -> None:
    late, soon, later = topup(1, 20, 2 * _HOUR_US), topup(2, 10, _HOUR_US), topup(3, 5, 3 * _HOUR_US)
    hall = account(topups=[late, soon, later])
    page = book(hall)
    assert isinstance(decide(page, reserve(1, 25), NOW_US), Reserved)
    assert parts(soon, late, later) == [(0, 10), (5, 15), (5, 0)]
    assert hall.held == 0
    assert isinstance(decide(page, reserve(2, 40), NOW_US), Reserved)
    assert parts(soon, late, later) == [(0, 10), (0, 20), (0, 5)]
    assert (hall.held, hall.in_flight) == (30, 2)
    assert isinstance(decide(page, settle(2, 32), NOW_US), Settled)
    assert paid(page.entries) == {
        (f"topup:{late.topup_id}", "provider:piper"): 5,
        (f"topup:{later.topup_id}", "provider:piper"): 5,
        ("hall", "provider:piper"): 22,
    }
    assert (hall.used, hall.held) == (22, 0)
    assert parts(soon, late, later) == [(0, 10), (0, 15), (0, 0)]


def test_settling_less_than_the_hold_gives_back_the_plans_units_first() -> None:
    extra = topup(1, 10)
    hall = account(topups=[extra])
    page = book(hall)
    decide(page, reserve(1, 50), NOW_US)
    assert decide(page, settle(1, 4), NOW_US) == Settled(hold_id=hold_id(1), units=4)
    assert (hall.used, hall.held, hall.in_flight) == (0, 0, 0)
    assert parts(extra) == [(6, 0)]


def test_plan_and_topups_together_are_the_limit() -> None:
    """P1: one unit more than both is refused and takes nothing from either."""
    extra = topup(1, 10)
    hall = account(topups=[extra], used=90)
    refused = decide(book(hall), reserve(1, 21), NOW_US)
    assert isinstance(refused, Denied)
    assert refused.limit is Limit.UNITS
    assert refused.balances[0].remaining == 20
    assert parts(extra) == [(10, 0)]
    assert isinstance(decide(book(hall), reserve(1, 20), NOW_US), Reserved)


def test_a_topup_helps_an_account_that_is_over_a_lowered_limit() -> None:
    hall = account(limit=10, used=60, topups=[topup(1, 10)])
    page = book(hall)
    assert isinstance(decide(page, reserve(1, 10), NOW_US), Reserved)
    assert isinstance(decide(page, reserve(2, 1), NOW_US), Denied)
    decide(page, settle(1, 10), NOW_US)
    assert (hall.used, hall.held) == (60, 0)


def test_it_lapses_at_its_millisecond() -> None:
    extra = topup(1, 10, _HOUR_US)
    hall = account(limit=0, topups=[extra])
    assert isinstance(decide(book(hall), reserve(1, 1), NOW_US + _HOUR_US), Denied)
    assert isinstance(decide(book(hall), reserve(1, 1), NOW_US + _HOUR_US - 1), Reserved)


def test_what_is_held_survives_the_lapse_and_can_be_settled() -> None:
    extra = topup(1, 10, _HOUR_US)
    hall = account(limit=0, topups=[extra])
    page = book(hall)
    decide(page, reserve(1, 10), NOW_US)
    after_us = NOW_US + 2 * _HOUR_US
    assert hall.balance(after_us).held == 10
    assert decide(page, settle(1, 7), after_us) == Settled(hold_id=hold_id(1), units=7)
    assert paid(page.entries) == {(f"topup:{extra.topup_id}", "provider:piper"): 7}
    assert parts(extra) == [(3, 0)]
    assert hall.balance(after_us).remaining == 0, "what came back has lapsed"


@pytest.mark.parametrize("command", [release(1), expire(1)])
def test_an_end_without_a_charge_gives_all_back_but_nothing_that_lapsed(command: Command) -> None:
    lapsed, live = topup(1, 10, _HOUR_US), topup(2, 10, 9 * _HOUR_US)
    hall = account(topups=[lapsed, live])
    page = book(hall)
    decide(page, reserve(1, 30), NOW_US)
    assert decide(page, command, NOW_US + 2 * _HOUR_US)
    assert (hall.used, hall.held, hall.in_flight) == (0, 0, 0)
    assert parts(lapsed, live) == [(10, 0), (10, 0)]
    assert not page.entries
    assert hall.remaining(NOW_US + 2 * _HOUR_US) == 110
    assert isinstance(decide(page, reserve(2, 111), NOW_US + 2 * _HOUR_US), Denied)
    assert isinstance(decide(page, reserve(3, 110), NOW_US + 2 * _HOUR_US), Reserved)
    assert parts(lapsed, live) == [(10, 0), (0, 10)]


def test_accounts_without_a_limit_leave_them_alone() -> None:
    extra = topup(1, 10)
    hall = account(limit=None, topups=[extra])
    page = book(hall)
    decide(page, reserve(1, 50), NOW_US)
    decide(page, settle(1, 50), NOW_US)
    assert parts(extra) == [(10, 0)]
    assert (hall.used, hall.held) == (50, 0)
    assert not page.changed_topups


def test_a_hold_from_before_the_limit_went_is_settled_from_its_topup() -> None:
    extra = topup(1, 10)
    hall = account(topups=[extra])
    page = book(hall)
    decide(page, reserve(1, 15), NOW_US)
    hall.limit = None
    decide(page, settle(1, 12), NOW_US)
    assert (hall.used, hall.held) == (2, 0)
    assert parts(extra) == [(0, 0)]


def test_tenant_and_key_each_use_their_own() -> None:
    theirs, ours = topup(1, 30), topup(2, 10, account_id="key")
    page = book(account(topups=[theirs]), account("key", topups=[ours]))
    assert isinstance(decide(page, reserve(1, 40, "hall", "key"), NOW_US), Reserved)
    assert parts(theirs, ours) == [(0, 30), (0, 10)]
    decide(page, replace(settle(1, 35), provider="piper"), NOW_US)
    assert paid(page.entries) == {
        (f"topup:{theirs.topup_id}", "provider:piper"): 30,
        ("hall", "provider:piper"): 5,
        (f"topup:{ours.topup_id}", "budget:hall"): 10,
        ("key", "budget:hall"): 25,
    }
    assert set(page.changed_topups) == {theirs.topup_id, ours.topup_id}


def test_a_late_charge_takes_them_as_any_other_does_and_only_live_ones() -> None:
    lapsed, live = topup(1, 10, _HOUR_US), topup(2, 10, 9 * _HOUR_US)
    hall = account(limit=10, topups=[lapsed, live])
    page = book(hall)
    decide(page, reserve(1, 25), NOW_US)
    after_us = NOW_US + 2 * _HOUR_US
    assert isinstance(decide(page, expire(1), after_us), Expired)
    assert isinstance(decide(page, settle(1, 21), after_us), Expired), "one more than plan and live top-up have"
    assert decide(page, settle(1, 15), after_us) == Settled(hold_id=hold_id(1), units=15, late=True)
    assert parts(lapsed, live) == [(10, 0), (0, 0)]
    assert (hall.used, hall.held, hall.in_flight) == (5, 0, 0)
    assert sum(entry.units for entry in page.entries) == 15


_ACCOUNTS = ("hall", "key")
_LIMITS = {"hall": 100, "key": 60}
_LAPSES_US = (20 * _SECOND_US, 90 * _SECOND_US, 40 * 24 * _HOUR_US)
_TARGETS = st.sampled_from([("hall",), ("key",), ("hall", "key")])


@dataclass
class History:
    """A book that is never written, and what was charged to each account by what `decide` answered."""

    page: Book
    charged: Counter[str] = field(default_factory=Counter[str])
    resolved: int = 0

    def apply(self, command: Command, now_us: int) -> None:
        decide(self.page, command, now_us)
        for resolution in self.page.resolved[self.resolved :]:
            for name in resolution.hold.account_ids:
                self.charged[name] += resolution.units
        self.resolved = len(self.page.resolved)


def _reserve(number: int, units: int, accounts: tuple[str, ...]) -> Command:
    return reserve(number, units, *accounts)


_STEPS: st.SearchStrategy[Command] = st.one_of(
    st.builds(_reserve, st.integers(1, 12), st.integers(1, 70), _TARGETS),
    st.builds(settle, st.integers(1, 12), st.integers(0, 70)),
    st.builds(release, st.integers(1, 12)),
    st.builds(expire, st.integers(1, 12)),
)
_PAUSES_US = st.sampled_from([0, 0, 1, 10 * _SECOND_US, 61 * _SECOND_US, 25 * 24 * _HOUR_US])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_PAUSES_US, _STEPS), max_size=60))
def test_no_history_loses_or_makes_a_unit(steps: list[tuple[int, Command]]) -> None:
    """P1 and P2 over top-ups that lapse, windows that roll and holds that end late."""
    topups = {
        name: [topup(10 * row + column, 15, lapse, name) for column, lapse in enumerate(_LAPSES_US)]
        for row, name in enumerate(_ACCOUNTS)
    }
    history = History(book(*(account(name, limit=_LIMITS[name], topups=topups[name]) for name in _ACCOUNTS)))
    now_us = NOW_US
    for pause_us, command in steps:
        now_us += pause_us
        history.apply(command, now_us)
        for name in _ACCOUNTS:
            whole(history, name)
    for name in list(history.page.holds):
        history.apply(Expire(name), now_us + _HOUR_US)
    assert not history.page.holds
    for name in _ACCOUNTS:
        whole(history, name)
        assert history.page.accounts[name].held == 0
        assert all(one.units_held == 0 for one in topups[name])


def whole(history: History, name: str) -> None:
    """Nobody is over, nothing is negative, and the entries are what was charged and what is gone."""
    one = history.page.accounts[name]
    assert min(one.used, one.held, one.in_flight) >= 0
    assert one.limit is not None
    assert one.used + one.held <= one.limit
    entries = history.page.entries
    own = sum(entry.units for entry in entries if entry.debit == name)
    for extra in one.topups:
        assert min(extra.units_left, extra.units_held) >= 0
        gone = sum(entry.units for entry in entries if entry.debit == f"topup:{extra.topup_id}")
        assert extra.units_left + extra.units_held + gone == 15
        own += gone
    assert own == history.charged[name]
    assert one.used <= sum(entry.units for entry in entries if entry.debit == name)
    holds = [hold for hold in history.page.holds.values() if name in hold.account_ids]
    assert one.in_flight == len(holds)
    assert one.held + sum(extra.units_held for extra in one.topups) == sum(hold.units for hold in holds)


def test_the_histories_reach_what_they_are_about() -> None:
    """A fixed history in which a top-up lapses while held, a window rolls over a hold, and a hold is settled late."""
    lapsing = topup(0, 15, _LAPSES_US[0])
    history = History(book(account(topups=[lapsing]), account("key")))
    history.apply(reserve(1, 30, "hall", "key"), NOW_US)
    history.apply(reserve(2, 40, "hall"), NOW_US)
    history.apply(expire(1), NOW_US + 61 * _SECOND_US)
    history.apply(settle(1, 20), NOW_US + 62 * _SECOND_US)
    history.apply(settle(2, 40), NOW_US + 25 * 24 * _HOUR_US)
    kinds = [(one.kind, one.late) for one in history.page.resolved]
    assert kinds == [(Kind.EXPIRED, False), (Kind.SETTLED, True), (Kind.SETTLED, False)]
    assert history.charged == {"hall": 60, "key": 20}
    assert history.page.accounts["hall"].used == 40, "the new window's charge alone"
    whole(history, "key")
