"""The verdict over a run: each way in which money can go astray is found, and a good run passes."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from bench.books import Books, Watch
from bench.money import Verdict, judge
from bench.records import End, Record, Wish

LIMITS = {"ten_a": 1000, "ten_tight": 150}


def record(name: str, end: End = End.WHOLE, **changes: object) -> Record:
    """A good one, but for what is said."""
    good = Record(
        id=name,
        tenant_id="ten_a",
        characters=100,
        wish=Wish.OK,
        end=end,
        status=200 if end is not End.REFUSED else 502,
        began=0.0,
        first_ms=1.0,
        total_ms=2.0,
        bytes=16384,
        sound=True,
        code="",
        retry_after=False,
    )
    return msgspec.structs.replace(good, **changes)


RECORDS = (
    record("a.1"),
    record("a.2", End.LEFT, wish=Wish.LEAVE),
    record("a.3", End.BROKEN, wish=Wish.CUT),
    record("a.4", End.REFUSED, wish=Wish.REFUSE),
    record("a.5", tenant_id="ten_tight"),
    record("a.6", End.REFUSED, tenant_id="ten_tight", status=429, code="insufficient_quota"),
)
MADE = {"a.1": 100, "a.2": 100, "a.3": 100, "a.5": 100}
BOOKS = Books(
    charges={"a.1": [100], "a.2": [100], "a.5": [100]},
    events={"a.1": [100], "a.2": [100], "a.5": [100]},
    entries={"a.1": 100, "a.2": 100, "a.5": 100},
    written_off={"a.3": 100},
    lost_attempts={},
    used={"ten_a": 200, "ten_tight": 100},
    open_holds=0,
    audit="",
)


def verdict(
    *records: Record,
    made: dict[str, int] = MADE,
    books: Books = BOOKS,
    over: dict[str, int] | None = None,
    **more: bool,
) -> Verdict:
    watch = Watch(looks=3, over=over or {})
    return judge(records or RECORDS, made, books, limits=LIMITS, watch=watch, **more)


def test_a_good_run_adds_up() -> None:
    found = verdict()
    assert found.faults == []
    assert (found.synthesised, found.charged, found.written_off) == (400, 300, {"a.3": 100})
    assert (found.whole, found.left, found.undelivered, found.looks) == (2, 1, [], 3)


def charged(name: str, *units: int) -> Books:
    """Everywhere, so that only the request itself is at fault."""
    charges = {**BOOKS.charges, name: list(units)}
    used = {**BOOKS.used, "ten_a": sum(map(sum, charges.values())) - 100}
    return replace(BOOKS, charges=charges, events=charges, entries={k: sum(v) for k, v in charges.items()}, used=used)


WRONG_BOOKS: dict[str, tuple[Books, str]] = {
    "a unit less": (charged("a.1", 99), "a.1 (ok) ended as whole"),
    "a unit more": (charged("a.1", 101), "a.1 (ok) ended as whole"),
    "twice": (charged("a.1", 100, 100), "charged 2 times"),
    "released instead of settled": (charged("a.1", 0), "a.1 (ok) ended as whole"),
    "whoever left goes free": (charged("a.2", 0), "a.2 (leave) ended as left"),
    "a cut is charged": (charged("a.3", 100), "a.3 (cut) ended as broken"),
    "a refusal is charged": (charged("a.4", 100), "a.4 (refuse) ended as refused"),
    "a stranger is charged": (charged("z.1", 5), "z.1 was charged, and nobody asked"),
    "an event is missing": (replace(BOOKS, events={"a.1": [100]}), "events and records differ for 2"),
    "an event came twice": (replace(BOOKS, events={**BOOKS.events, "a.1": [100, 100]}), "differ for 1"),
    "an entry is missing": (replace(BOOKS, entries={"a.1": 100}), "entries say 100, records 300"),
    "a balance lags": (replace(BOOKS, used={"ten_a": 100}), "balances say 100, records 300"),
    "a write-off without a record": (replace(BOOKS, written_off={}), "no record says why"),
    "a hold is open": (replace(BOOKS, open_holds=1), "1 holds are still open"),
    "the audit finds something": (replace(BOOKS, audit="used 1, ledger 2"), "used 1, ledger 2"),
    "overspent": (replace(BOOKS, used={"ten_a": 149, "ten_tight": 151}), "ten_tight used 151 of 150"),
    "refused with room left": (replace(BOOKS, used={"ten_a": 250, "ten_tight": 50}), "refused 100 with 100 left"),
}


@pytest.mark.parametrize(("books", "told"), WRONG_BOOKS.values(), ids=WRONG_BOOKS)
def test_wrong_books_are_found(books: Books, told: str) -> None:
    assert any(told in fault for fault in verdict(books=books).faults), verdict(books=books).faults


def one(changed: Callable[[Record], Record]) -> tuple[Record, ...]:
    return (changed(RECORDS[0]), *RECORDS[1:])


def test_a_truncated_body_that_looks_whole_is_found() -> None:
    found = verdict(*one(lambda good: msgspec.structs.replace(good, sound=False, bytes=9)))
    assert found.faults == ["a.1 ended as whole after 9 bytes that are not the audio"]


def test_what_nobody_asked_for_is_found() -> None:
    assert "z.9 was synthesised, and nobody asked for it" in verdict(made={**MADE, "z.9": 7}).faults


def test_a_charge_for_what_was_never_made_is_found() -> None:
    made = {name: units for name, units in MADE.items() if name != "a.1"}
    assert "a.1 was charged 100, but 0 were synthesised" in verdict(made=made).faults


def test_being_over_the_limit_for_a_moment_is_found() -> None:
    assert verdict(over={"ten_tight": 3}).faults == ["ten_tight was 3 over its limit for a moment"]


def test_a_write_off_is_a_fault_where_nothing_was_to_go_wrong() -> None:
    broken = msgspec.structs.replace(RECORDS[2], wish=Wish.OK)
    (fault,) = verdict(*RECORDS[:2], broken, *RECORDS[3:]).faults
    assert "though nothing was to go wrong" in fault
    assert verdict(*RECORDS[:2], broken, *RECORDS[3:], killed=True).faults == []


def test_what_a_killed_process_could_not_deliver_is_listed() -> None:
    cut = one(lambda good: msgspec.structs.replace(good, end=End.BROKEN))
    assert len(verdict(*cut).faults) == 1
    found = verdict(*cut, killed=True)
    assert (found.faults, found.undelivered) == ([], ["a.1"])
