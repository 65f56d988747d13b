"""Reading logs: the last lines, then what comes, over a rotation."""

from pathlib import Path

from odea_local import logs
from odea_local.logfile import LogFile


def test_the_last_lines_of_each_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("1\n2\n3\n")
    (tmp_path / "b.log").write_text("4\n")
    assert list(logs.read(tmp_path, ("a", "b", "missing"), 2, follow=False)) == [("a", "2"), ("a", "3"), ("b", "4")]
    assert list(logs.read(tmp_path, ("a",), 0, follow=False)) == []


def test_following_gives_whole_lines_and_survives_a_rotation(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", bytes_max=20)
    log.write(b"old\n")
    lines = logs.read(tmp_path, ("a",), 10, follow=True)
    assert next(lines) == ("a", "old")
    log.write(b"half")
    log.write(b" and whole\n")
    assert next(lines) == ("a", "half and whole")
    log.write(b"after the rotation\n")
    assert next(lines) == ("a", "after the rotation")
