"""What the types of the bus let through (P7)."""

from typing import Any

import msgspec
import pytest

from odea_contracts.base import HoldId, Id, Message, Milliseconds, Name, RequestId, Units

UUID = "0190f5a1-7b7c-7def-8abc-0123456789ab"
GOOD: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (Id, ("a", "ten_0190F5", "x" * 64)),
    (HoldId, (UUID,)),
    (RequestId, ("req_1", "A.b:c-d", "x" * 128)),
    (Name, ("a", "Grüße, 世界", "x" * 128, " ")),
    (Units, (0, 10**12)),
    (Milliseconds, (0, 2**53)),
)
BAD: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (Id, ("", "x" * 65, "a.b", "a b", "*", ">", "ä", "a\n", "\na", None, 1)),
    (HoldId, ("", UUID.upper(), UUID[:-1], f"{UUID}0", f"{UUID}\n", f" {UUID}", UUID.replace("-", ""))),
    (RequestId, ("", "x" * 129, "a b", "a\r\nX: y", "a\n", "ä", "a/b")),
    (Name, ("", "x" * 129, "a\x00b", "a\nb", "a\n", "\x7f", "\ta")),
    (Units, (-1, 10**12 + 1, 1.5, "1", True, None)),
    (Milliseconds, (-1, 2**53 + 1, "now")),
)
NAMES = {Id: "Id", HoldId: "HoldId", RequestId: "RequestId", Name: "Name", Units: "Units", Milliseconds: "Milliseconds"}


def cases(table: tuple[tuple[Any, tuple[Any, ...]], ...]) -> list[Any]:
    return [
        pytest.param(kind, value, id=f"{NAMES[kind]}-{number}")
        for kind, values in table
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(("kind", "value"), cases(GOOD))
def test_what_fits_is_read_as_it_is(kind: Any, value: object) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


@pytest.mark.parametrize(("kind", "value"), cases(BAD))
def test_what_does_not_fit_is_refused(kind: Any, value: object) -> None:
    """P7. A line break at the end counts: such a text would end up in subjects, headers and logs."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(value), type=kind)


class Note(Message):
    """A message for these tests."""

    text: str
    more: str = "usual"


def test_a_message_can_not_be_changed() -> None:
    note = Note(text="a")
    with pytest.raises(AttributeError):
        note.text = "b"  # pyright: ignore[reportAttributeAccessIssue] - that is the test


def test_fields_that_are_not_known_are_ignored_and_those_with_defaults_may_be_absent() -> None:
    """An old reader takes a new message, a new reader an old one."""
    assert msgspec.json.decode(b'{"text":"a","since_tomorrow":{"x":[1]}}', type=Note) == Note(text="a", more="usual")


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"text"', b"{}", b'{"text":null}', b'{"text":1}'])
def test_a_body_that_is_no_such_message_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(body, type=Note)
