"""What the system refuses is said in one line, with the place and what to do."""

import errno
import os

import pytest

from odea_local.errors import explain


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EROFS, "a folder that can be written"),
        (errno.EACCES, "another user"),
        (errno.EIO, "Input/output error (/data/lock)."),
    ],
)
def test_it_names_place_and_remedy(number: int, advice: str) -> None:
    line = explain(OSError(number, os.strerror(number), "/data/lock"))
    assert advice in line
    assert "(/data/lock)" in line
    assert "\n" not in line


def test_an_error_without_a_number_is_still_a_line() -> None:
    assert explain(OSError("odd")) == "odd."
