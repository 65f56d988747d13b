"""The data folder: one holder at a time, files whole or untouched."""

from pathlib import Path

import pytest

from odea_local.errors import AlreadyRunningError
from odea_local.folder import DataFolder, default_root, write_atomically


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder.at(tmp_path / "data")
    folder.prepare()
    return folder


def test_only_one_holds_a_folder(folder: DataFolder) -> None:
    assert not folder.is_held()
    with folder.hold():
        assert folder.is_held()
        with pytest.raises(AlreadyRunningError), folder.hold():
            pass
    assert not folder.is_held()
    with folder.hold():
        pass


def test_the_holder_is_named_while_it_holds(folder: DataFolder) -> None:
    assert folder.holder() is None
    with folder.hold():
        holder = folder.holder()
        assert holder
        assert holder.process()
    assert folder.holder() is None


def test_a_reused_process_id_is_not_the_holder(folder: DataFolder) -> None:
    with folder.hold():
        holder = folder.holder()
        assert holder
        assert not type(holder)(pid=holder.pid, started_s=holder.started_s - 100).process()
        assert not type(holder)(pid=2**22 - 1, started_s=holder.started_s).process()


def test_a_folder_that_does_not_exist_is_not_held(tmp_path: Path) -> None:
    assert not DataFolder.at(tmp_path / "nowhere").is_held()


def test_preparing_twice_keeps_what_is_there(folder: DataFolder) -> None:
    (folder.keys / "tenant.key").touch()
    folder.prepare()
    assert (folder.keys / "tenant.key").exists()
    assert {path.stat().st_mode & 0o777 for path in (folder.keys, folder.logs, folder.nats)} == {0o700}


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def disk_full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("odea_local.folder.os.fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_commands_name_the_folder_only_if_it_is_not_the_usual_one(tmp_path: Path) -> None:
    assert DataFolder.at(default_root()).command("down") == "./odea down"
    assert DataFolder.at(tmp_path / "a b").command("down") == f"./odea down --data '{tmp_path}/a b'"
