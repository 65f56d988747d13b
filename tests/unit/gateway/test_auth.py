"""One key, in one header: whatever two readers could take differently is refused (P5, P7)."""

import pytest

from odea_contracts.errors import ErrorCode
from odea_gateway.auth import presented_key
from odea_gateway.problems import ProblemError

AUTH, PLAIN = b"authorization", b"x-api-key"

PRESENTED = {
    "bearer": ([(AUTH, b"Bearer abc")], "abc"),
    "scheme in any case": ([(AUTH, b"bEARER abc")], "abc"),
    "spaces around": ([(AUTH, b"  Bearer   abc  ")], "abc"),
    "the other header": ([(PLAIN, b"abc")], "abc"),
    "spaces around in the other header": ([(PLAIN, b" abc ")], "abc"),
    "the same in both": ([(AUTH, b"Bearer abc"), (PLAIN, b"abc")], "abc"),
    "none": ([(b"host", b"x")], None),
    "empty token": ([(AUTH, b"Bearer ")], None),
    "scheme alone": ([(AUTH, b"Bearer")], None),
    "empty header": ([(AUTH, b"")], None),
    "empty other header": ([(PLAIN, b"")], None),
    "another scheme": ([(AUTH, b"Basic abc")], None),
    "a key without a scheme": ([(AUTH, b"abc")], None),
    "empty token and the other header": ([(AUTH, b"Bearer "), (PLAIN, b"abc")], "abc"),
    "another scheme and the other header": ([(AUTH, b"Basic abc"), (PLAIN, b"abc")], "abc"),
    "not ASCII": ([(AUTH, b"Bearer \xc3\xa4")], "Ã¤"),
    "two tokens in one header": ([(AUTH, b"Bearer abc, Bearer def")], "abc, Bearer def"),
}


@pytest.mark.parametrize(("headers", "key"), PRESENTED.values(), ids=PRESENTED)
def test_the_key_is_found(headers: list[tuple[bytes, bytes]], key: str | None) -> None:
    assert presented_key(headers) == key


AMBIGUOUS = {
    "two of the same": [(AUTH, b"Bearer abc"), (AUTH, b"Bearer abc")],
    "two different": [(AUTH, b"Bearer abc"), (AUTH, b"Bearer def")],
    "one of them empty": [(AUTH, b"Bearer abc"), (AUTH, b"")],
    "two of the other header": [(PLAIN, b"abc"), (PLAIN, b"abc")],
    "two headers that disagree": [(AUTH, b"Bearer abc"), (PLAIN, b"def")],
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_two_keys_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ProblemError) as caught:
        presented_key(headers)
    assert caught.value.failure.code is ErrorCode.INVALID_VALUE
    assert caught.value.failure.param == "authorization"
