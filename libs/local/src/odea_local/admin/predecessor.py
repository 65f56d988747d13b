"""What a predecessor knew of its users, plans and usage: a CSV, an SQLite database, or an SQLite dump, read tolerantly.

Tables and columns are known by several names (`TABLES`, `COLUMNS`), in any case. What cannot be used is skipped and
listed with its reason. API keys of the predecessor are never read: every user gets a new one.
"""

import csv
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from odea_local.errors import LocalError

ROWS_MAX: Final = 1_000_000
NAME_LENGTH_MAX: Final = 128
_MAGIC: Final = b"SQLite format 3\0"
_DUMP_STARTS: Final = ("pragma ", "begin transaction", "create table")
_ISO_MONTH: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])(-|$)")
_UNIX: Final = re.compile(r"[0-9]{10}([0-9]{3})?")
_DIGITS_MAX: Final = 9
_UNLIMITED: Final = frozenset({"", "none", "null", "unlimited", "-1"})
_NO: Final = frozenset({"0", "false", "no", "f", "inactive", "disabled", "suspended", "blocked", "banned", "deleted"})

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "users": ("users", "user", "customers", "tenants", "accounts"),
    "plans": ("plans", "plan", "tiers", "subscription_plans"),
    "usage": ("usage", "usages", "usage_logs", "usage_records"),
}
"""What a table may be called, the likeliest first."""
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "user_id", "uid", "uuid"),
    "name": ("name", "username", "user_name", "company", "email"),
    "plan": ("plan", "plan_name", "plan_id", "tier"),
    "active": ("active", "is_active", "enabled", "status"),
    "used": ("used", "used_units", "characters_used", "used_this_month", "monthly_usage"),
    "usage_user": ("user_id", "user", "username", "customer_id", "tenant_id", "account_id"),
    "usage_units": ("units", "characters", "chars", "character_count", "used", "amount"),
    "usage_time": ("created_at", "used_at", "timestamp", "time", "date", "day", "month", "period"),
    "plan_id": ("id", "plan_id"),
    "plan_name": ("name", "plan_name", "plan", "tier"),
    "units": ("units", "monthly_characters", "character_limit", "char_limit", "monthly_limit", "quota", "limit"),
    "requests_per_minute": ("requests_per_minute", "rpm", "rate_limit_per_minute", "rate_limit"),
    "in_flight_max": ("in_flight_max", "concurrency", "max_concurrent", "concurrent_requests"),
}
"""What a column may be called, the likeliest first; the first that is there and not empty counts."""

Row: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class User:
    """A user who is to become a tenant.

    Attributes:
        used: units that it used in this month, in UTC.
    """

    name: str
    plan: str | None
    active: bool
    used: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan's limits; `None` is no limit."""

    name: str
    limits: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """What was not taken over, and why. It names a place and never repeats what stood there."""

    where: str
    why: str


def month_of(time_s: float) -> str:
    """`2026-11`, in UTC."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m")


@dataclass(kw_only=True)
class Found:
    """Everything that can be taken over, and what cannot.

    Attributes:
        month: the one that usage is of.
    """

    month: str = field(default_factory=lambda: month_of(time.time()))
    users: list[User] = field(default_factory=list[User])
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    skipped: list[Skipped] = field(default_factory=list[Skipped])


def read(path: Path) -> Found:
    """What is in the file, which is only read.

    Raises:
        LocalError: it is none of the three kinds, or is too long.
    """
    with path.open("rb") as file:
        start = file.read(256)
    try:
        if start.startswith(_MAGIC):
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
                return _from_database(database)
        if start.decode("utf-8-sig", "replace").lstrip().lower().startswith(_DUMP_STARTS):
            with closing(sqlite3.connect(":memory:")) as database:
                _load(database, path.read_text("utf-8-sig"))
                return _from_database(database)
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _found(list(_bounded(csv.DictReader(file))), [], [])
    except (sqlite3.Error, UnicodeDecodeError, csv.Error) as error:
        raise LocalError(f"{path} is no CSV in UTF-8, no SQLite database and no dump of one: {error}.") from None


def _load(database: sqlite3.Connection, dump: str) -> None:
    """Run a dump, which may make tables and rows and nothing else: no other file, no extension."""
    allowed = {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_REINDEX,
    }

    def judge(action: int, first: str | None, *_rest: str | None) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK if (first or "").lower() == "foreign_keys" else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    database.set_authorizer(judge)
    database.executescript(dump)
    database.set_authorizer(None)


def _from_database(database: sqlite3.Connection) -> Found:
    database.row_factory = sqlite3.Row
    names = {row[0].lower(): row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def table(kind: str) -> list[Row]:
        known = next((names[name] for name in TABLES[kind] if name in names), None)
        if known is None:
            return []
        quoted = known.replace('"', '""')
        rows = database.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - the name is the file's own, and quoted
        return list(_bounded(dict(row) for row in rows))

    if not any(name in names for name in TABLES["users"]):
        raise LocalError(f"the database has no table of users; it may be called {', '.join(TABLES['users'])}.")
    return _found(table("users"), table("plans"), table("usage"))


def _bounded(rows: Iterable[Mapping[str, object]]) -> Iterable[Row]:
    for count, row in enumerate(rows):
        if count == ROWS_MAX:
            raise LocalError(f"there are more than {ROWS_MAX} rows in one table.")
        yield {str(name).strip().lower(): "" if value is None else str(value).strip() for name, value in row.items()}


def _found(users: list[Row], plans: list[Row], usage: list[Row]) -> Found:
    found, by_id = Found(), dict[str, str]()
    for number, row in enumerate(plans, 1):
        _take_plan(found, row, f"plan {number}", by_id)
    used = _used(found, usage)
    ids = {_column(row, "id") for row in users}
    seen: set[str] = set()
    for number, row in enumerate(users, 1):
        where, name = f"user {number}", _column(row, "name")
        plan = _column(row, "plan")
        plan = by_id.get(plan, plan)
        if fault := _name_fault(name) or (plan and _name_fault(plan)):
            found.skipped.append(Skipped(where=where, why=fault))
        elif name in seen:
            found.skipped.append(Skipped(where=where, why="another user before has the same name"))
        else:
            seen.add(name)
            if plan and plan not in found.plans and any(_column(row, limit) for limit in _LIMITS):
                _take_plan(found, {**row, "name": plan}, f"{where}'s plan", by_id)
            active = _column(row, "active").lower() not in _NO
            # A name that is also somebody's id stands for the one with the id.
            keys = {_column(row, "id")} | ({name} - ids)
            units = _use(found, _own_use(found, row, where), [used.pop(key) for key in keys if key in used], where)
            found.users.append(User(name=name, plan=plan or None, active=active, used=units))
    if used:
        found.skipped.append(Skipped(where=f"usage of {len(used)} users", why="they are not among those taken over"))
    return found


def _own_use(found: Found, row: Row, where: str) -> int | None:
    """What a user's own row says that it used in this month, if it says so."""
    text = _column(row, "used").replace("_", "")
    if not text or _is_number(text):
        return int(text) if text else None
    found.skipped.append(Skipped(where=f"{where}'s usage", why="it is no number from 0 on"))
    return None


def _use(found: Found, own: int | None, recorded: list[int], where: str) -> int:
    """What a user used: its row and its records tell of the same characters, so they are never added up."""
    if own is None or not recorded:
        return sum(recorded) or own or 0
    if own != sum(recorded):
        found.skipped.append(Skipped(where=f"{where}'s usage", why="its row says another sum than its records"))
        return 0
    return own


def _used(found: Found, usage: list[Row]) -> dict[str, int]:
    """Units of this month by user, as the rows name it, and a line for what is left out."""
    used, left_out = Counter[str](), Counter[str]()
    for row in usage:
        user, text = _column(row, "usage_user"), _column(row, "usage_units").replace("_", "")
        month = _month(_column(row, "usage_time"))
        if not user or not _is_number(text) or month is None:
            left_out["without a user, a number of units or a time that can be read"] += 1
        elif month != found.month:
            left_out["of other months, which are over"] += 1
        else:
            used[user] += int(text)
    found.skipped += [Skipped(where=f"usage, {count} rows", why=why) for why, count in left_out.items()]
    return {user: units for user, units in used.items() if units}


def _month(text: str) -> str | None:
    """`2026-11`, in UTC, of a day or a time in ISO 8601, or of Unix seconds or milliseconds."""
    if _ISO_MONTH.match(text):
        with suppress(ValueError):
            at = datetime.fromisoformat(text)
            return (at.astimezone(UTC) if at.tzinfo else at).strftime("%Y-%m")
        return text[:7]
    if _UNIX.fullmatch(text):
        return month_of(int(text[:10]))
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX


_LIMITS: Final = ("units", "requests_per_minute", "in_flight_max")


def _take_plan(found: Found, row: Row, where: str, by_id: dict[str, str]) -> None:
    name = _column(row, "plan_name")
    if fault := _name_fault(name):
        found.skipped.append(Skipped(where=where, why=fault))
        return
    limits: dict[str, int | None] = {}
    for limit in _LIMITS:
        text = _column(row, limit).replace("_", "")
        least = 0 if limit == "units" else 1
        if text.lower() in _UNLIMITED:
            limits[limit] = None
        elif text.isascii() and text.isdecimal() and int(text) >= least:
            limits[limit] = int(text)
        else:
            found.skipped.append(Skipped(where=where, why=f"its {limit} is no number from {least} on"))
            return
    found.plans.setdefault(name, Plan(name=name, limits=limits))
    if plan_id := _column(row, "plan_id"):
        by_id[plan_id] = name


def _column(row: Row, what: str) -> str:
    return next((row[name] for name in COLUMNS[what] if row.get(name)), "")


def _name_fault(name: str) -> str | None:
    if not name:
        return "it has no name"
    if len(name) > NAME_LENGTH_MAX:
        return f"its name is longer than {NAME_LENGTH_MAX} characters"
    if any(character < " " or character == "\x7f" for character in name):
        return "its name holds a control character"
    return None
