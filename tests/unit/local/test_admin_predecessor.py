"""A predecessor's files are read whatever they call things, and what cannot be used is said and not guessed."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from odea_local.admin import predecessor
from odea_local.admin.predecessor import Found, Plan, Skipped, User
from odea_local.errors import LocalError

TABLES = """
CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, api_key TEXT, plan_id INTEGER, is_active INTEGER);
CREATE TABLE plans (id INTEGER PRIMARY KEY, name TEXT, monthly_limit INTEGER, rpm INTEGER);
CREATE TABLE usage_logs (user_id INTEGER, characters INTEGER);
INSERT INTO plans VALUES (1, 'free', 1000, 10), (2, 'pro', -1, NULL), (3, 'odd', 'many', 1);
INSERT INTO users VALUES (1, 'Anna', 'old-secret', 1, 1), (2, 'Söhne', 'old-secret-2', 2, 0), (3, '', '', 1, 1),
    (4, 'Anna', 'old-secret-3', 2, 1), (5, 'No plan', 'x', NULL, NULL);
INSERT INTO usage_logs VALUES (1, 5), (1, 7);
"""
EXPECTED = Found(
    users=[
        User(name="Anna", plan="free", active=True),
        User(name="Söhne", plan="pro", active=False),
        User(name="No plan", plan=None, active=True),
    ],
    plans={
        "free": Plan(name="free", limits={"units": 1000, "requests_per_minute": 10, "in_flight_max": None}),
        "pro": Plan(name="pro", limits={"units": None, "requests_per_minute": None, "in_flight_max": None}),
    },
    skipped=[
        Skipped(where="plan 3", why="its units is no number from 0 on"),
        Skipped(where="usage, 2 rows", why="without a user, a number of units or a time that can be read"),
        Skipped(where="user 3", why="it has no name"),
        Skipped(where="user 4", why="another user before has the same name"),
    ],
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "odd name?#%.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
    return path


def test_a_database_is_read_and_left_as_it_was(database: Path) -> None:
    before = database.read_bytes()
    assert predecessor.read(database) == EXPECTED
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_a_dump_is_read_as_the_database_is(database: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump.sql"
    with closing(sqlite3.connect(database)) as connection:
        dump.write_text("PRAGMA foreign_keys=OFF;\n" + "\n".join(connection.iterdump()), "utf-8")
    assert predecessor.read(dump) == EXPECTED


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE '{other}' AS other; CREATE TABLE other.t (n);",
        "CREATE VIEW users AS SELECT load_extension('{other}');SELECT * FROM users;",
        "PRAGMA journal_mode = wal;",
        "CREATE TABLE users (name); CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT 1; END;",
        "VACUUM INTO '{other}';",
    ],
)
def test_a_dump_makes_tables_and_nothing_else(statement: str, tmp_path: Path) -> None:
    other, dump = tmp_path / "other", tmp_path / "dump.sql"
    dump.write_text("BEGIN TRANSACTION;COMMIT;\n" + statement.replace("{other}", str(other)))
    with pytest.raises(LocalError, match="no dump"):
        predecessor.read(dump)
    assert not other.exists()


def test_a_csv_has_users_and_their_plans(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text(
        "\ufeffCompany,Tier,Character_Limit,Concurrency,Status,API_Key\n"
        "Anna,free,1_000,2,active,old-secret\n"
        'Söhne,free,9,9,Suspended,"old,secret"\n'
        "Eva,known,,,,\n"
        "Broken,bad,lots,,,\n",
        "utf-8",
    )
    found = predecessor.read(path)
    assert found.users == [
        User(name="Anna", plan="free", active=True),
        User(name="Söhne", plan="free", active=False),
        User(name="Eva", plan="known", active=True),
        User(name="Broken", plan="bad", active=True),
    ]
    assert found.plans == {
        "free": Plan(name="free", limits={"units": 1000, "requests_per_minute": None, "in_flight_max": 2})
    }
    assert found.skipped == [Skipped(where="user 4's plan", why="its units is no number from 0 on")]


@pytest.mark.parametrize("name", ["x" * 129, "a\x1bb", "a\nb"])
def test_names_that_cannot_be_are_skipped(name: str, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text(f'name\n"{name}"\n', "utf-8")
    found = predecessor.read(path)
    assert found.users == []
    assert len(found.skipped) == 1


def test_no_old_key_is_kept(database: Path) -> None:
    assert "old-secret" not in repr(predecessor.read(database))


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "picture.png"
    other.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(LocalError, match="no CSV"):
        predecessor.read(other)
    empty = tmp_path / "empty.db"
    with closing(sqlite3.connect(empty)) as connection:
        connection.execute("CREATE TABLE things (n)")
        connection.commit()
    with pytest.raises(LocalError, match="no table of users"):
        predecessor.read(empty)


def test_this_month_s_usage_is_added_up_by_user(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    before = now.replace(day=1) - timedelta(days=1)
    rows: list[tuple[object, object, object]] = [
        (1, 5, now.strftime("%Y-%m-%d")),
        (1, 7, now.isoformat()),
        ("ann", 11, now.strftime("%Y-%m")),
        (2, 13, int(now.timestamp())),
        (2, 17, int(now.timestamp() * 1000)),
        (1, 10_000, before.strftime("%Y-%m-%d")),
        (1, "lots", now.isoformat()),
        (1, -5, now.isoformat()),
        (1, 5, "yesterday"),
        (9, 19, now.isoformat()),
    ]
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE users (id, name)")
        database.executemany("INSERT INTO users VALUES (?, ?)", [(1, "ann"), (2, "bob"), (3, "cid")])
        database.execute("CREATE TABLE usage (user_id, units, created_at)")
        database.executemany("INSERT INTO usage VALUES (?, ?, ?)", rows)
        database.commit()
    found = predecessor.read(path)
    assert [(user.name, user.used) for user in found.users] == [("ann", 23), ("bob", 30), ("cid", 0)]
    assert found.skipped == [
        Skipped(where="usage, 1 rows", why="of other months, which are over"),
        Skipped(where="usage, 3 rows", why="without a user, a number of units or a time that can be read"),
        Skipped(where="usage of 1 users", why="they are not among those taken over"),
    ]


def test_a_list_of_users_says_what_each_used(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("name,used_this_month\nann,1_200\nbob,\ncid,some\n")
    found = predecessor.read(path)
    assert [(user.name, user.used) for user in found.users] == [("ann", 1200), ("bob", 0), ("cid", 0)]
    assert found.skipped == [Skipped(where="user 3's usage", why="it is no number from 0 on")]


@pytest.mark.parametrize(("own", "charged"), [("100", 100), ("99", 0), ("", 100)])
def test_a_user_s_row_and_its_records_are_not_added_up(tmp_path: Path, own: str, charged: int) -> None:
    """A running total and the log behind it are the same characters; two that differ are nobody's guess."""
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("CREATE TABLE users (id, name, characters_used)")
        database.execute("INSERT INTO users VALUES (1, 'acme', ?)", [own])
        database.execute("CREATE TABLE usage_logs (user_id, characters, created_at)")
        now = datetime.now(UTC).isoformat()
        database.executemany("INSERT INTO usage_logs VALUES (1, ?, ?)", [(60, now), (40, now)])
        database.commit()
    found = predecessor.read(tmp_path / "old.db")
    assert [user.used for user in found.users] == [charged]
    why = "its row says another sum than its records"
    assert found.skipped == ([] if charged else [Skipped(where="user 1's usage", why=why)])


def test_a_name_that_is_another_s_id_takes_nothing_of_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("CREATE TABLE users (id, name)")
        database.executemany("INSERT INTO users VALUES (?, ?)", [(7, "8"), (8, "bob")])
        database.execute("CREATE TABLE usage_logs (user_id, characters, created_at)")
        database.execute("INSERT INTO usage_logs VALUES (8, 500, ?)", [datetime.now(UTC).isoformat()])
        database.commit()
    assert [(user.name, user.used) for user in predecessor.read(tmp_path / "old.db").users] == [("8", 0), ("bob", 500)]


def test_months_are_those_of_utc(tmp_path: Path) -> None:
    """Half past midnight in a zone ahead of UTC is the month before."""
    first = datetime.now(UTC).replace(day=1, hour=0, minute=30, tzinfo=timezone(timedelta(hours=5)))
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("CREATE TABLE users (id, name)")
        database.execute("INSERT INTO users VALUES (1, 'ann')")
        database.execute("CREATE TABLE usage (user_id, units, created_at)")
        database.execute("INSERT INTO usage VALUES (1, 5, ?)", [first.isoformat()])
        database.commit()
    assert [user.used for user in predecessor.read(tmp_path / "old.db").users] == [0]
