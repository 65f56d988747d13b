"""The ledger against a slow and obvious model, over random histories (P1, P2)."""

import calendar
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from odea_contracts import quota
from odea_contracts.quota import Outcome, Window
from odea_quota.accounts import Account
from odea_quota.ledger import Answer, Book, Command, Expire, Hold, Resolution, decide
from unit.quota.ledger_model import Limits, Model, always, each_day, each_month
from unit.quota.samples import account, at_us, expire, extend, release, reserve, settle

_START_US = at_us("2027-12-31T22:30:00")


def _in_words(answer: Answer) -> str:
    """An answer of the ledger as the model puts it."""
    match answer:
        case quota.Reserved():
            return f"reserved {answer.units} until {answer.expires_at_ms * 1000}"
        case quota.Denied():
            return f"denied {answer.limit} {answer.account_id}"
        case quota.Settled():
            return f"settled {answer.units} late {answer.late}"
        case quota.SettledBefore():
            return f"settled before {answer.units}"
        case quota.Extended():
            return f"extended until {answer.expires_at_ms * 1000}"
        case quota.ExceedsHold():
            return f"exceeds {answer.held}"
        case quota.HoldConflict():
            return "conflict"
        case quota.HoldUnknown():
            return "unknown"
        case quota.ReleasedBefore():
            return "released before"
        case quota.Released() | quota.Expired():
            return type(answer).__name__.lower()
        case _:
            return "failure"


@dataclass
class Tables:
    """Where the ledger's state rests between batches: rows go in and out as the book says, and nothing is decided."""

    accounts: dict[str, Account]
    holds: dict[str, Hold] = field(default_factory=dict[str, Hold])
    resolutions: list[Resolution] = field(default_factory=list[Resolution])

    def apply(self, commands: list[Command], now_us: int) -> list[Answer]:
        named = {command.hold_id for command in commands}
        book = Book(
            accounts=deepcopy(self.accounts),
            holds={name: deepcopy(hold) for name, hold in self.holds.items() if name in named},
            # In the order of writing, so the newest of a hold's ends stays.
            resolutions={one.hold.hold_id: one for one in self.resolutions if one.hold.hold_id in named},
        )
        answers = [deepcopy(decide(book, command, now_us)) for command in commands]
        self.accounts.update(deepcopy(book.changed))
        assert not book.opened.keys() & self.holds.keys()
        self.holds.update(deepcopy(book.opened))
        for name, hold in book.extended.items():
            self.holds[name].lease_ends_at_ms = hold.lease_ends_at_ms
        for name in book.closed:
            del self.holds[name]
        self.resolutions.extend(book.resolved)
        return answers


_NUMBERS = st.integers(1, 12)
_ACCOUNTS = st.sampled_from(
    [
        ("month",),
        ("day",),
        ("endless",),
        ("month", "day"),
        ("endless", "month"),
        ("nobody",),
        ("day", "nobody"),
        ("day", "day"),
    ]
)
_UNITS = st.integers(1, 60)
_LEASES = st.sampled_from([1_000, 30_000, 1_800_000])


def _reserve(number: int, accounts: tuple[str, ...], units: int, lease_ms: int) -> Command:
    return reserve(number, units, *accounts, lease_ms=lease_ms)


_COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(_reserve, _NUMBERS, _ACCOUNTS, _UNITS, _LEASES),
    st.builds(_reserve, _NUMBERS, st.just(("month",)), st.just(20), _LEASES),
    st.builds(settle, _NUMBERS, st.integers(0, 60)),
    st.builds(settle, _NUMBERS, st.integers(0, 1), st.just(Outcome.WRITTEN_OFF)),
    st.builds(release, _NUMBERS),
    st.builds(extend, _NUMBERS, _LEASES),
    st.builds(expire, _NUMBERS),
)


class LedgerAgainstModel(RuleBasedStateMachine):
    """Batches of commands at moving times, on three accounts with tight limits."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = _START_US
        new_year_ms = calendar.timegm((2028, 1, 1, 0, 0, 0)) * 1000
        month = account("month", limit=100, in_flight_max=3, window_ends_at_ms=new_year_ms)
        day = account("day", limit=70, window=Window.DAY, window_ends_at_ms=new_year_ms)
        day.requests_per_minute, day.requests_burst = 2, 3
        endless = account("endless", limit=None, window=Window.NONE, window_ends_at_ms=None)
        endless.requests_per_minute, endless.requests_burst, endless.in_flight_max = 60, 2, 4
        self.tables = Tables({one.account_id: one for one in (month, day, endless)})
        self.model = Model(
            {
                "month": Limits(100, each_month, None, 0, 3),
                "day": Limits(70, each_day, Fraction(30_000_000), 3, None),
                "endless": Limits(None, always, Fraction(1_000_000), 2, 4),
            }
        )

    @rule(commands=st.lists(_COMMANDS, min_size=1, max_size=5))
    def batch(self, commands: list[Command]) -> None:
        answers = self.tables.apply(commands, self.now_us)
        for command, answer in zip(commands, answers, strict=True):
            assert _in_words(answer) == self.model.answer(command, self.now_us), command
            if isinstance(answer, quota.Reserved | quota.Denied):
                self._balances_are_true(answer, last=command is commands[-1])

    @rule(gap_us=st.sampled_from([1, 999, 250_000, 1_000_000, 29_999_999, 30_000_000, 600_000_000]))
    def wait(self, gap_us: int) -> None:
        self.now_us += gap_us

    @rule(hours=st.integers(1, 30))
    def sleep_for_hours(self, hours: int) -> None:
        self.now_us += hours * 3_600_000_000

    @rule(before_us=st.integers(0, 1))
    def wait_for_midnight(self, before_us: int) -> None:
        day_us = 86_400_000_000
        self.now_us = max(self.now_us, (self.now_us // day_us + 1) * day_us - before_us)

    @rule()
    def sweep(self) -> None:
        overdue = [
            Expire(name) for name, hold in self.tables.holds.items() if hold.lease_ends_at_ms * 1000 <= self.now_us
        ]
        if overdue:
            self.batch(list(overdue))
        assert all(one.lease_end_us > self.now_us for one in self.model.wishes if one.fate == "open")

    @invariant()
    def nobody_is_over(self) -> None:
        """P1, on the rows as they are stored."""
        for one in self.tables.accounts.values():
            assert one.limit is None or one.used + one.held <= one.limit

    @invariant()
    def balances_add_up(self) -> None:
        for name, one in self.tables.accounts.items():
            holds = [hold for hold in self.tables.holds.values() if name in hold.account_ids]
            assert one.held == sum(hold.units for hold in holds) == self.model.held(name)
            assert one.in_flight == len(holds) == self.model.in_flight(name)
            # A row of a window that has ended counts for nothing; it is only rolled when somebody calls.
            ended = one.window_ends_at_ms is not None and one.window_ends_at_ms * 1000 <= self.now_us
            assert (0 if ended else one.used) == self.model.used(name, self.now_us)

    @invariant()
    def every_end_is_on_record_once(self) -> None:
        ends = Counter((one.hold.hold_id, one.kind.value) for one in self.tables.resolutions)
        assert all(count == 1 for count in ends.values())
        fates = {one.number: one.fate for one in self.model.wishes if one.fate != "open"}
        assert {one.hold.hold_id: one.kind.value for one in self.tables.resolutions} == fates

    def _balances_are_true(self, answer: quota.Reserved | quota.Denied, *, last: bool) -> None:
        # The model has gone on by the end of the batch, so only the last answer can be compared with it.
        for told in answer.balances if last else ():
            expected = (self.model.used(told.account_id, self.now_us), self.model.held(told.account_id))
            assert (told.used, told.held) == expected
            assert told.in_flight == self.model.in_flight(told.account_id)


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
