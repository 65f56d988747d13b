"""Only the search bit is given, only where it is missing, and whoever owns the cluster runs it."""

import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from odea_local import identity
from odea_local.errors import LocalError
from odea_local.identity import Identity, database_identity, open_tree, open_way

STRANGER = Identity(uid=54321, gid=54321)


def modes(*paths: Path) -> list[str]:
    return [oct(path.stat().st_mode & 0o777) for path in paths]


def test_the_way_is_opened_for_searching_and_nothing_else(tmp_path: Path) -> None:
    private, public = tmp_path / "private", tmp_path / "private" / "public"
    public.mkdir(parents=True)
    private.chmod(0o700)
    public.chmod(0o755)
    changed = open_way(STRANGER, public / "cluster")
    assert private in changed
    assert public not in changed
    assert modes(private, public) == ["0o701", "0o755"]
    assert open_way(STRANGER, public / "cluster") == ()


def test_the_way_of_the_owner_is_left_alone(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    open_way(Identity(uid=os.geteuid(), gid=os.getegid()), private / "cluster")
    assert modes(private) == ["0o700"]


def test_an_installation_under_a_strict_umask_becomes_readable(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    program, data = tree / "bin" / "postgres", tree / "share"
    program.touch(mode=0o700)
    data.touch(mode=0o600)
    for folder in (tree / "bin", tree):
        folder.chmod(0o700)
    open_tree(tree)
    assert modes(tree, tree / "bin", program, data) == ["0o705", "0o705", "0o705", "0o604"]


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odea_local.identity.os.geteuid", lambda: 0)


def nobody(_name: str) -> None:
    """Stands for a search, or an attempt to make a user, that fails."""


def test_an_ordinary_user_runs_the_database_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odea_local.identity.os.geteuid", lambda: 1000)
    assert database_identity(tmp_path) is None


def test_root_keeps_the_owner_that_a_cluster_has(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, STRANGER.uid, STRANGER.gid)
    owner = tmp_path.stat().st_uid
    request.getfixturevalue("as_root")
    found = database_identity(tmp_path)
    assert found
    assert found.uid == owner != 0


@pytest.mark.usefixtures("as_root")
def test_without_any_user_root_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_find", nobody)
    monkeypatch.setattr(identity, "_create", nobody)
    with pytest.raises(LocalError, match="useradd --system odea-postgres"):
        database_identity(tmp_path / "none")


@pytest.mark.usefixtures("as_root")
def test_of_two_that_need_the_user_at_once_one_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the other one does not take it for there before its number is final."""
    known: list[Identity] = []
    made: list[str] = []

    def make(name: str) -> Identity:
        made.append(name)
        known.append(Identity(uid=999, gid=999))
        time.sleep(0.1)
        known[:] = [STRANGER]
        return STRANGER

    def find(_name: str) -> Identity | None:
        return known[0] if known else None

    monkeypatch.setattr(identity, "_find", find)
    monkeypatch.setattr(identity, "_create", make)
    monkeypatch.setattr(identity, "USERS", tmp_path / "passwd")
    (tmp_path / "passwd").touch()
    with ThreadPoolExecutor(2) as stacks:
        assert list(stacks.map(database_identity, [tmp_path / "one", tmp_path / "two"])) == [STRANGER] * 2
    assert made == [identity.SYSTEM_USER]


@pytest.mark.usefixtures("as_root")
def test_whoever_keeps_the_list_of_users_locked_keeps_nobody_waiting_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(_name: str) -> Identity | None:
        return STRANGER

    monkeypatch.setattr(identity, "_find", find)
    monkeypatch.setattr(identity, "COMMAND_WAIT_S", 0.05)
    monkeypatch.setattr(identity, "USERS", tmp_path / "passwd")
    with (tmp_path / "passwd").open("wb") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        assert database_identity(tmp_path / "none") == STRANGER
