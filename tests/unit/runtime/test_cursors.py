"""A cursor reads back as what it was written from, in its own list and nowhere else."""

import base64

import pytest

from odea_runtime.cursors import ListKind, read_cursor, write_cursor


def _raw(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("kind", "last"), [(ListKind.TENANTS, "ten_0190a"), (ListKind.KEYS, "key_1"), (ListKind.AUDIT, "9007199254740993")]
)
def test_it_reads_back(kind: ListKind, last: str) -> None:
    assert read_cursor(kind, write_cursor(kind, last)) == last
    for other in set(ListKind) - {kind}:
        with pytest.raises(ValueError, match="cursor"):
            read_cursor(other, write_cursor(kind, last))


def test_none_is_the_beginning() -> None:
    assert read_cursor(ListKind.KEYS, None) is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "é",
        "zzzz",
        "key_1",
        _raw("k"),
        _raw("kkey\x00"),
        _raw("k" + "x" * 65),
        _raw("a-1"),
        _raw("a0"),
        _raw("a1_0"),
        _raw("a" + "9" * 19),
        write_cursor(ListKind.KEYS, "key_12") + "=",
        write_cursor(ListKind.KEYS, "key_1")[:-1] + "-",
    ],
)
@pytest.mark.parametrize("kind", [ListKind.KEYS, ListKind.AUDIT])
def test_what_no_list_gave_is_refused(kind: ListKind, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        read_cursor(kind, cursor)
