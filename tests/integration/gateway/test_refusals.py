"""Whatever is wrong with a request is said with OpenAI's error object, and nothing reaches synth (P5, P6, P7)."""

from dataclasses import dataclass

import httpx
import pytest

from integration.gateway.harness import BODY, SPEECH, client_of
from integration.gateway.standins import Standins, new_key, refuse
from odea_contracts.errors import ERRORS, ErrorCode
from odea_contracts.keys import Scope
from odea_gateway.app import Gateway

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request that must be refused. `None` leaves out."""

    status: int
    code: str
    param: str | None = None
    method: str = "POST"
    path: str = SPEECH
    key: str | None = "good"
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    fields: dict[str, object] | None = None


def speech(*, status: int = 400, code: str, param: str | None, **fields: object) -> Case:
    """A speech request with some fields changed; `...` leaves a field out."""
    return Case(status=status, code=code, param=param, fields=fields)


def raw(content: bytes, *, status: int = 400, code: str = "invalid_json", kind: str = "application/json") -> Case:
    """A speech request with this body."""
    return Case(status=status, code=code, content=content, headers=(("content-type", kind),))


MISSING, TYPE, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"
BAD_KEY, NO_KEY = "invalid_api_key", "missing_api_key"
CASES = {
    "no key": Case(status=401, code=NO_KEY, key=None),
    "empty key": Case(status=401, code=NO_KEY, key=None, headers=(("authorization", "Bearer"),)),
    "basic authentication": Case(status=401, code=NO_KEY, key=None, headers=(("authorization", "Basic YTpi"),)),
    "malformed key": Case(status=401, code=BAD_KEY, key="sk-something"),
    "key with a wrong checksum": Case(status=401, code=BAD_KEY, key="typo"),
    "unknown key": Case(status=401, code=BAD_KEY, key="unknown"),
    "revoked key": Case(status=401, code=BAD_KEY, key="revoked"),
    "homoglyph in the key": Case(status=401, code=BAD_KEY, key="homoglyph"),
    "two keys": Case(status=400, code=VALUE, param="authorization", headers=(("x-api-key", "another"),)),
    "key without the scope": Case(status=403, code="insufficient_scope", key="reader"),
    "empty body": raw(b""),
    "text": raw(b"hello"),
    "cut JSON": raw(b'{"model": "tts-1"'),
    "two documents": raw(b'{"model":"tts-1","voice":"a","input":"i"}{}'),
    "deep nesting": raw(b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    "not UTF-8": raw(b'{"model":"tts-1","voice":"a","input":"\xff"}'),
    "lone surrogate": raw(b'{"model":"tts-1","voice":"a","input":"hi \\ud83d there"}'),
    "array": raw(b"[]", code=TYPE),
    "null": raw(b"null", code=TYPE),
    "form": raw(b"model=tts-1", status=415, code="unsupported_media_type", kind="application/x-www-form-urlencoded"),
    "plain text type": raw(b"{}", status=415, code="unsupported_media_type", kind="text/plain"),
    "too large": raw(b'{"input":"' + b"x" * 140_000 + b'"}', status=413, code="request_too_large"),
    "empty object": speech(code=MISSING, param="model", model=..., voice=..., input=...),
    "no model": speech(code=MISSING, param="model", model=...),
    "no voice": speech(code=MISSING, param="voice", voice=...),
    "no input": speech(code=MISSING, param="input", input=...),
    "number as input": speech(code=TYPE, param="input", input=5),
    "null as input": speech(code=TYPE, param="input", input=None),
    "object as model": speech(code=TYPE, param="model", model={}),
    "number as voice": speech(code=TYPE, param="voice", voice=1),
    "voice object without id": speech(code=MISSING, param="voice.id", voice={"name": "alloy"}),
    "empty model": speech(code="empty_string", param="model", model=""),
    "empty voice": speech(code="empty_string", param="voice", voice=""),
    "NUL in the model": speech(code=VALUE, param="model", model="a\x00"),
    "header injection in the voice": speech(code=VALUE, param="voice", voice="a\r\nx: y"),
    "unknown format": speech(code=VALUE, param="response_format", response_format="mp4"),
    "format of the wrong type": speech(code=TYPE, param="response_format", response_format=["mp3"]),
    "unknown stream format": speech(code=VALUE, param="stream_format", stream_format="websocket"),
    "speed too low": speech(code=VALUE, param="speed", speed=0.1),
    "speed too high": speech(code=VALUE, param="speed", speed=5),
    "speed as text": speech(code=TYPE, param="speed", speed="fast"),
    "sample rate too high": speech(code=VALUE, param="sample_rate", sample_rate=96_000),
    "empty input": speech(code="empty_string", param="input", input=""),
    "blank input": speech(code="empty_string", param="input", input=" \n\t"),
    "invisible input": speech(code="empty_string", param="input", input="\u200b\u2060\ufeff\u202e"),
    "input too long": speech(code="string_above_max_length", param="input", input="x" * 4097),
    "instructions too long": speech(code="string_above_max_length", param="instructions", instructions="x" * 4097),
    "wrong method": Case(status=405, code="method_not_allowed", method="GET"),
    "unknown path": Case(status=404, code="not_found", path="/v1/audio/nothing"),
    "path tricks": Case(status=404, code="not_found", method="GET", path="/v1/../../etc/passwd%00"),
    "unknown model": Case(status=404, code="model_not_found", param="model", method="GET", path="/v1/models/nope"),
    "NUL in a model's path": Case(
        status=404, code="model_not_found", param="model", method="GET", path="/v1/models/tts-1%00"
    ),
    "model filter too long": Case(
        status=400, code=VALUE, param="model", method="GET", path="/v1/audio/voices?model=" + "x" * 200
    ),
    "control character in the filter": Case(
        status=400, code=VALUE, param="model", method="GET", path="/v1/audio/voices?model=a%07"
    ),
    "usage without a key": Case(status=401, code=NO_KEY, method="GET", path="/v1/usage", key=None),
    "models without a key": Case(status=401, code=NO_KEY, method="GET", path="/v1/models", key=None),
    "me with a bad key": Case(status=401, code=BAD_KEY, method="GET", path="/v1/me", key="unknown"),
    "usage without the scope": Case(status=403, code="insufficient_scope", method="GET", path="/v1/usage", key="admin"),
}


@pytest.fixture(scope="module")
async def wallet(services: Standins) -> dict[str, str]:
    """Keys of every kind."""
    revoked = services.keys.issue(Scope.SPEECH)
    services.keys.revoke(revoked)
    good = services.keys.issue(Scope.SPEECH)
    return {
        "good": good,
        "typo": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "homoglyph": good.replace("odea", "оdea"),  # noqa: RUF001 - a Cyrillic letter is the case
        "unknown": new_key(),
        "revoked": revoked,
        "reader": services.keys.issue(Scope.USAGE_READ),
        "admin": services.keys.issue(Scope.ADMIN),
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_it_is_refused(gateway: Gateway, standins: Standins, wallet: dict[str, str], case: Case) -> None:
    headers = dict(case.headers)
    if case.key:
        headers["authorization"] = "Bearer " + wallet.get(case.key, case.key)
    content = case.content
    async with client_of(gateway) as client:
        raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        if content is None and case.method == "POST":
            given = {**BODY, **(case.fields or {})}
            json = {name: value for name, value in given.items() if value is not ...}
            answer = await client.post(case.path, json=json, headers=raw_headers)
        else:
            answer = await client.request(case.method, case.path, content=content, headers=raw_headers)
    assert_error(answer, case.status, case.code, case.param)
    assert standins.synth.asked == []


def assert_error(answer: httpx.Response, status: int, code: str, param: str | None) -> None:
    """An answer in OpenAI's shape, with what the table says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()["error"]
    assert set(told) == {"message", "type", "param", "code", "request_id"}
    assert (told["code"], told["param"]) == (code, param)
    assert told["type"] == ERRORS[ErrorCode(code)].type
    assert "regex" not in told["message"], "the inside is told"
    assert told["request_id"] == answer.headers["x-request-id"]
    if status == 401:
        assert answer.headers["www-authenticate"].startswith('Bearer realm="odea"')


REFUSALS_OF_SYNTH = {
    ErrorCode.INSUFFICIENT_QUOTA: None,
    ErrorCode.RATE_LIMIT_EXCEEDED: "3",
    ErrorCode.CONCURRENCY_LIMIT_EXCEEDED: "3",
    ErrorCode.VOICE_NOT_FOUND: None,
    ErrorCode.MODEL_NOT_FOUND: None,
    ErrorCode.CONTENT_REFUSED: None,
    ErrorCode.NOT_ALLOWED_BY_PLAN: None,
    ErrorCode.ACCOUNT_SUSPENDED: None,
    ErrorCode.QUOTA_UNAVAILABLE: "3",
    ErrorCode.UPSTREAM_ERROR: "3",
    ErrorCode.UPSTREAM_TIMEOUT: "3",
    ErrorCode.UPSTREAM_UNAVAILABLE: "3",
    ErrorCode.UPSTREAM_BUSY: "3",
    ErrorCode.OVERLOADED: "3",
    ErrorCode.INTERNAL_ERROR: "3",
}


@pytest.mark.parametrize(("code", "wait"), REFUSALS_OF_SYNTH.items())
async def test_what_synth_refuses_is_told_by_the_table(
    client: httpx.AsyncClient, standins: Standins, code: ErrorCode, wait: str | None
) -> None:
    standins.synth.play = refuse(code, param="voice", retry_after_ms=2500)
    answer = await client.post(SPEECH, json=BODY)
    assert_error(answer, ERRORS[code].status, code, "voice")
    assert answer.headers.get("retry-after") == wait
    useless = code is ErrorCode.INSUFFICIENT_QUOTA
    assert answer.headers.get("x-should-retry") == ("false" if useless else None)


async def test_a_key_in_the_wrong_place_comes_back_nowhere(
    client: httpx.AsyncClient, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """P6: neither in the answer nor in the log."""
    for field in ("model", "voice", "response_format", "input"):
        answer = await client.post(SPEECH, json={**BODY, field: {"key": key}})
        assert key not in answer.text
    answer = await client.get(f"/v1/models/{key}", headers={"x-request-id": key[:100]})
    assert key not in answer.text
    assert key[:100] not in str(answer.headers)
    assert key[:60] not in capsys.readouterr().err
