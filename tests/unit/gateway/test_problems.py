"""Every failure is one of the table's, with the advice that makes clients behave (P6)."""

import msgspec
import pytest

from odea_contracts.errors import ERRORS, ErrorCode, Retry, failure
from odea_gateway.problems import Answer, ErrorBody, ProblemError, answer, problem


def header(built: Answer, name: str) -> str | None:
    return dict(built.headers).get(name)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_is_answered_by_the_table(code: ErrorCode) -> None:
    built = answer(problem(code, param="input"), "req_1")
    told = msgspec.json.decode(built.body, type=ErrorBody).error
    assert built.status == ERRORS[code].status
    assert (told.code, told.type, told.message) == (code, ERRORS[code].type, ERRORS[code].text)
    assert (told.param, told.request_id) == ("input", "req_1")
    assert header(built, "content-type") == "application/json"


@pytest.mark.parametrize("code", list(ErrorCode))
def test_clients_are_told_whether_to_come_again(code: ErrorCode) -> None:
    built = answer(problem(code), "req_1")
    retry = ERRORS[code].retry
    assert header(built, "retry-after") == ("1" if retry is Retry.LATER else None)
    assert header(built, "x-should-retry") == ("false" if retry is Retry.USELESS else None)


def test_the_keys_of_the_error_object_are_openais() -> None:
    body = msgspec.json.decode(answer(problem(ErrorCode.NOT_FOUND), "req_1").body)
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code", "request_id"}
    assert body["error"]["param"] is None


@pytest.mark.parametrize(
    ("wait_ms", "seconds"), [(None, "1"), (0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_500, "60"), (10**9, "120")]
)
def test_the_wait_is_whole_seconds_within_what_sdks_accept(wait_ms: int | None, seconds: str) -> None:
    built = answer(problem(ErrorCode.RATE_LIMIT_EXCEEDED, retry_after_ms=wait_ms), "req_1")
    assert header(built, "retry-after") == seconds


def test_a_missing_key_is_challenged_without_an_error_code() -> None:
    built = answer(problem(ErrorCode.MISSING_API_KEY), "req_1")
    assert header(built, "www-authenticate") == 'Bearer realm="odea"'


def test_a_bad_key_is_challenged_as_invalid() -> None:
    built = answer(problem(ErrorCode.INVALID_API_KEY), "req_1")
    assert header(built, "www-authenticate") == 'Bearer realm="odea", error="invalid_token"'


def test_a_missing_scope_is_named() -> None:
    built = answer(ProblemError(failure(ErrorCode.INSUFFICIENT_SCOPE), scope="speech"), "req_1")
    assert built.status == 403
    assert header(built, "www-authenticate") == 'Bearer realm="odea", error="insufficient_scope", scope="speech"'


def test_other_failures_carry_no_challenge() -> None:
    assert header(answer(problem(ErrorCode.KEYS_UNAVAILABLE), "req_1"), "www-authenticate") is None
    assert header(answer(problem(ErrorCode.ACCOUNT_SUSPENDED), "req_1"), "www-authenticate") is None
