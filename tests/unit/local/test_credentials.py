"""Credentials are made once, kept private, and never replaced behind the database's back."""

from pathlib import Path

import msgspec
import pytest

from odea_contracts.permissions import USERS
from odea_local.credentials import Credentials, load_or_create
from odea_local.errors import LocalError
from odea_runtime.busadmin.nkeys import public_key


def test_they_are_random_and_stay_the_same(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "a.json")
    assert load_or_create(tmp_path / "a.json") == first
    values = msgspec.structs.astuple(first)
    assert len(set(values)) == len(values)
    assert not set(values) & set(msgspec.structs.astuple(load_or_create(tmp_path / "b.json")))
    seeds = [value for value in values if value.startswith("SU")]
    assert len({public_key(seed) for seed in seeds}) == len(USERS)
    assert all(len(bytes.fromhex(value)) == 32 for value in values if value not in seeds)


def test_the_file_is_private_even_if_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_from_before_a_new_secret_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text('{"postgres": "old"}')
    first = load_or_create(path)
    assert first.postgres == "old"
    assert load_or_create(path) == first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"postgres": 1}'])
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(LocalError, match="is damaged"):
        load_or_create(path)
    assert path.read_text() == content


def test_no_secret_shows_in_a_repr() -> None:
    credentials = Credentials()
    assert not [value for value in msgspec.structs.astuple(credentials) if value in repr(credentials)]
