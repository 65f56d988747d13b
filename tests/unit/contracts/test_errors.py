"""Every code says the same everywhere, and no public text tells of the inside (P6, P7)."""

import re

import msgspec
import pytest

from odea_contracts.errors import ERRORS, ErrorCode, Failure, Retry, failure

TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "insufficient_quota",
    "rate_limit_error",
    "server_error",
    "service_unavailable_error",
}
every_code = pytest.mark.parametrize("code", list(ErrorCode))


def test_every_code_has_its_line_in_the_table() -> None:
    assert set(ERRORS) == set(ErrorCode)


@every_code
def test_a_code_is_a_stable_name(code: ErrorCode) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*[a-z]", code)


@every_code
def test_the_status_is_an_error_and_its_type_is_known(code: ErrorCode) -> None:
    spec = ERRORS[code]
    assert 400 <= spec.status <= 504
    assert spec.type in TYPES
    assert (spec.type in {"server_error", "service_unavailable_error"}) == (spec.status >= 500)
    assert (spec.type == "authentication_error") == (spec.status == 401)
    assert (spec.type == "permission_error") == (spec.status == 403)


@every_code
def test_the_retry_advice_fits_what_sdks_do_with_the_status(code: ErrorCode) -> None:
    """OpenAI's SDKs repeat 408, 409, 429 and 5xx by themselves, and nothing else."""
    spec = ERRORS[code]
    sdk_repeats = spec.status in {408, 409, 429} or spec.status >= 500
    assert (spec.retry is Retry.NEVER) == (not sdk_repeats)


@every_code
def test_the_public_text_is_a_sentence_that_tells_nothing_of_the_inside(code: ErrorCode) -> None:
    """P6."""
    text = ERRORS[code].text
    assert re.fullmatch(r"[A-Z].*\.", text)
    assert len(text) < 120
    inside = (
        r"(?i)nats|postgres|sql|asyncpg|python|exception|traceback|odea_|odea\.v1|schema|minimax|piper|localhost|\d"
    )
    assert not re.search(inside, text)


def test_an_unknown_code_reads_as_internal_error() -> None:
    """So that old and new versions can run side by side."""
    body = b'{"type":"failure","code":"made_up_tomorrow","message":"New."}'
    read = msgspec.json.decode(body, type=Failure)
    assert read == Failure(code=ErrorCode.INTERNAL_ERROR, message="New.")
    assert read.retryable


@pytest.mark.parametrize("value", [b"7", b"null", b"[]"])
def test_a_code_that_is_no_text_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type":"failure","code":' + value + b',"message":"m"}', type=Failure)


@every_code
def test_a_failure_takes_the_public_text_and_survives_the_wire(code: ErrorCode) -> None:
    made = failure(code, param="input", retry_after_ms=1500)
    assert made.message == ERRORS[code].text
    assert made.retryable == (ERRORS[code].retry is Retry.LATER)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Failure) == made


def test_a_more_precise_text_replaces_the_public_one() -> None:
    assert failure(ErrorCode.INVALID_VALUE, "No.").message == "No."
