"""A log keeps within its bounds and its last words."""

from pathlib import Path

import pytest

from odea_local.logfile import LINE_BYTES_MAX, TAIL_LINES_MAX, LogFile


@pytest.fixture
def log(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "it.log", bytes_max=100)


def test_it_is_bounded_and_keeps_the_newest(log: LogFile) -> None:
    for number in range(100):
        log.write(f"line {number}\n".encode())
    kept = log.path.with_name("it.log.1").read_text() + log.path.read_text()
    assert kept.endswith("line 98\nline 99\n")
    assert len(kept) <= 200


def test_the_tail_puts_lines_together_and_is_bounded(log: LogFile) -> None:
    log.write(b"one\ntw")
    log.write(b"o\n\nthree")
    assert log.tail() == ("one", "two", "three")
    log.write(b"\n" + b"x" * 10 * LINE_BYTES_MAX)
    assert len(log.tail()[-1]) == LINE_BYTES_MAX
    log.write(b"\n" + b"y\n" * 1000)
    assert log.tail() == ("y",) * TAIL_LINES_MAX


def test_what_is_not_text_is_kept_readable(log: LogFile) -> None:
    log.write(b"\xff\xfe bytes\n")
    assert log.tail() == ("\ufffd\ufffd bytes",)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b"", ""),
        (b"started\nended\n", "ended"),
        (b"FATAL: no way\nshut down\n", "FATAL: no way"),
        (b"ValueError: bad\nbye\n", "ValueError: bad"),
        (b"could not extend: No space left on device\nPANIC: bad\nend\n", "could not extend: No space left on device"),
    ],
)
def test_the_last_words_say_why(log: LogFile, written: bytes, words: str) -> None:
    log.write(written)
    assert log.last_words() == words


def test_a_new_process_does_not_speak_with_the_words_of_the_last(log: LogFile) -> None:
    log.write(b"FATAL: old\nhalf a line")
    log.forget()
    assert log.tail() == ()


def test_a_file_that_was_taken_away_comes_back(log: LogFile) -> None:
    log.write(b"one\n")
    log.path.unlink()
    log.write(b"two\n")
    assert log.path.read_text() == "two\n"


def test_a_disk_that_cannot_be_written_costs_only_the_text(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "missing" / "it.log")
    log.write(b"lost, but remembered\n")
    assert log.tail() == ("lost, but remembered",)
