"""A hold's whole life, every command in every state of it: the answer, the balance and what is written (P1, P2)."""

from copy import deepcopy
from typing import Final

import pytest
from msgspec.structs import replace

from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.quota import (
    Denied,
    ExceedsHold,
    Expired,
    Extended,
    HoldConflict,
    HoldUnknown,
    Outcome,
    Released,
    ReleasedBefore,
    Reserved,
    Settled,
    SettledBefore,
)
from odea_quota.book import Book
from odea_quota.ledger import Answer, Command, decide
from unit.quota.samples import NOW_MS, NOW_US, account, book, expire, extend, hold_id, release, reserve, settle

# The hold of this page: 50 units of an account of 100, for 60 s; in the state `settled`, charged 30.
_LATER_US: Final = NOW_US + 61_000_000
_LATER_MS: Final = _LATER_US // 1000

_HISTORIES: dict[str, list[tuple[Command, int]]] = {
    "none": [],
    "open": [(reserve(), NOW_US)],
    "settled": [(reserve(), NOW_US), (settle(), NOW_US)],
    "released": [(reserve(), NOW_US), (release(), NOW_US)],
    "expired": [(reserve(), NOW_US), (expire(), _LATER_US)],
    "overdue": [(reserve(), NOW_US)],
}
_STATES: Final = ("none", "open", "settled", "released", "expired", "overdue")

_HELD = Reserved(hold_id=hold_id(), units=50, expires_at_ms=NOW_MS + 60_000, balances=())
_CHARGED = Settled(hold_id=hold_id(), units=30)
_GIVEN_BACK = Released(hold_id=hold_id())
_WAS_SETTLED = SettledBefore(hold_id=hold_id(), units=30)
_WAS_RELEASED = ReleasedBefore(hold_id=hold_id())
_EXPIRED = Expired(hold_id=hold_id())
_UNKNOWN = HoldUnknown(hold_id=hold_id())
_CONFLICT = HoldConflict(hold_id=hold_id())
_TOO_MUCH = ExceedsHold(hold_id=hold_id(), held=50)
_SAME: Final[None] = None
"""Nothing changes: neither the balance nor anything that would be written."""
_FREE, _OPEN, _PAID = (0, 0, 0), (0, 50, 1), (30, 0, 0)
"""Used, held, in flight."""

_Cell = tuple[Answer, tuple[int, int, int] | None]


def _row(none: _Cell, opened: _Cell, settled: _Cell, released: _Cell, expired: _Cell, overdue: _Cell) -> list[_Cell]:
    return [none, opened, settled, released, expired, overdue]


_LATE = Settled(hold_id=hold_id(), units=30, late=True)
_FREE_OF_CHARGE = Settled(hold_id=hold_id(), units=0)
_TABLE: list[tuple[str, Command, list[_Cell]]] = [
    (
        "reserve",
        reserve(),
        _row(
            (replace(_HELD, expires_at_ms=_LATER_MS + 60_000), _OPEN),
            (_HELD, _SAME),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (_EXPIRED, _SAME),
            (_HELD, _SAME),
        ),
    ),
    (
        "reserve other units",
        reserve(1, 51),
        _row(
            (replace(_HELD, units=51, expires_at_ms=_LATER_MS + 60_000), (0, 51, 1)),
            (_CONFLICT, _SAME),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (_EXPIRED, _SAME),
            (_CONFLICT, _SAME),
        ),
    ),
    (
        "settle",
        settle(),
        _row(
            (_UNKNOWN, _SAME),
            (_CHARGED, _PAID),
            (_CHARGED, _SAME),
            (_WAS_RELEASED, _SAME),
            (_LATE, _PAID),
            (_CHARGED, _PAID),
        ),
    ),
    (
        "settle another amount",
        settle(1, 20),
        _row(
            (_UNKNOWN, _SAME),
            (replace(_CHARGED, units=20), (20, 0, 0)),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (replace(_LATE, units=20), (20, 0, 0)),
            (replace(_CHARGED, units=20), (20, 0, 0)),
        ),
    ),
    (
        "settle all that is held",
        settle(1, 50),
        _row(
            (_UNKNOWN, _SAME),
            (replace(_CHARGED, units=50), (50, 0, 0)),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (replace(_LATE, units=50), (50, 0, 0)),
            (replace(_CHARGED, units=50), (50, 0, 0)),
        ),
    ),
    (
        "settle more than is held",
        settle(1, 51),
        _row(
            (_UNKNOWN, _SAME),
            (_TOO_MUCH, _SAME),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (_TOO_MUCH, _SAME),
            (_TOO_MUCH, _SAME),
        ),
    ),
    (
        "write off",
        settle(1, 0, Outcome.WRITTEN_OFF),
        _row(
            (_UNKNOWN, _SAME),
            (_FREE_OF_CHARGE, _FREE),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (replace(_LATE, units=0), _FREE),
            (_FREE_OF_CHARGE, _FREE),
        ),
    ),
    (
        "release",
        release(),
        _row(
            (_UNKNOWN, _SAME),
            (_GIVEN_BACK, _FREE),
            (_WAS_SETTLED, _SAME),
            (_GIVEN_BACK, _SAME),
            (_EXPIRED, _SAME),
            (_GIVEN_BACK, _FREE),
        ),
    ),
    (
        "extend",
        extend(),
        _row(
            (_UNKNOWN, _SAME),
            (Extended(hold_id=hold_id(), expires_at_ms=NOW_MS + 120_000), _OPEN),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (_EXPIRED, _SAME),
            (Extended(hold_id=hold_id(), expires_at_ms=_LATER_MS + 120_000), _OPEN),
        ),
    ),
    (
        "expire",
        expire(),
        _row(
            (_UNKNOWN, _SAME),
            (Extended(hold_id=hold_id(), expires_at_ms=NOW_MS + 60_000), _SAME),
            (_WAS_SETTLED, _SAME),
            (_WAS_RELEASED, _SAME),
            (_EXPIRED, _SAME),
            (_EXPIRED, _FREE),
        ),
    ),
]
_CASES = [
    pytest.param(command, state, *cell, id=f"{name}-{state}")
    for name, command, cells in _TABLE
    for state, cell in zip(_STATES, cells, strict=True)
]


def _in_state(state: str) -> Book:
    """The book as the next batch would load it, with nothing noted for writing."""
    past = book(account())
    for command, at_us in _HISTORIES[state]:
        decide(past, command, at_us)
    return Book(accounts=past.accounts, holds=past.holds, resolutions=past.resolutions)


def _now_us(state: str) -> int:
    return NOW_US if state == "open" else _LATER_US


def _without_balances(answer: Answer) -> Answer:
    return replace(answer, balances=()) if isinstance(answer, Reserved | Denied) else answer


@pytest.mark.parametrize(("command", "state", "answer", "balance"), _CASES)
def test_every_command_in_every_state(
    command: Command, state: str, answer: Answer, balance: tuple[int, int, int] | None
) -> None:
    now = _in_state(state)
    before = deepcopy(now)
    assert _without_balances(decide(now, command, _now_us(state))) == answer
    if balance is None:
        assert now == before
        return
    hall = now.accounts["hall"]
    assert (hall.used, hall.held, hall.in_flight) == balance
    if now.accounts != before.accounts:
        assert now.changed == now.accounts
    # One of the two: the hold is open and will be kept, or it ended and will be recorded.
    is_open = hall.in_flight == 1
    assert (hold_id() in now.holds) is is_open
    assert len(now.resolved) == (0 if is_open else 1)


@pytest.mark.parametrize(("command", "state", "answer", "balance"), _CASES)
def test_a_command_that_is_repeated_changes_nothing_more(
    command: Command, state: str, answer: Answer, balance: tuple[int, int, int] | None
) -> None:
    """P2: the second delivery of any message gets the first answer again, or the one that names what happened."""
    del balance
    now = _in_state(state)
    decide(now, command, _now_us(state))
    before = deepcopy(now)
    assert _without_balances(decide(now, command, _now_us(state))) == answer
    assert now == before


@pytest.mark.parametrize("state", _STATES)
def test_what_is_written_off_costs_nothing(state: str) -> None:
    now = _in_state(state)
    before = deepcopy(now)
    answer = decide(now, settle(1, 5, Outcome.WRITTEN_OFF), _now_us(state))
    assert isinstance(answer, Failure)
    assert (answer.code, answer.param) == (ErrorCode.INVALID_VALUE, "units")
    assert now == before


def test_the_same_id_on_another_account_is_a_conflict() -> None:
    now = book(account(), account("stage"))
    decide(now, reserve(), NOW_US)
    before = deepcopy(now)
    assert decide(now, reserve(1, 50, "stage"), NOW_US) == _CONFLICT
    assert decide(now, reserve(1, 50, "hall", "stage"), NOW_US) == _CONFLICT
    assert now == before


def test_an_extension_never_shortens_a_lease() -> None:
    now = _in_state("open")
    before = deepcopy(now)
    assert decide(now, extend(1, 1_000), NOW_US) == Extended(hold_id=hold_id(), expires_at_ms=NOW_MS + 60_000)
    assert now == before


def test_a_lease_ends_at_its_very_millisecond() -> None:
    now = _in_state("open")
    end_us = (NOW_MS + 60_000) * 1000
    assert isinstance(decide(now, expire(), end_us - 1), Extended)
    assert decide(now, expire(), end_us) == _EXPIRED
