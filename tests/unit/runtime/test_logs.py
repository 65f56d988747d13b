"""No secret leaves in a log (P6), every line can be read by a machine and joined by its request."""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import pytest
import structlog
from asyncpg.exceptions import DataError, PostgresError

from odea_contracts.keytext import encode_secret, format_key
from odea_runtime.logs import redact, redact_text

KEY = format_key("A" * 12, encode_secret(bytes(range(64))))
PASSWORD = "hunter2"
URL = f"postgresql://odea_keys:{PASSWORD}@db:5432/odea"
SECRETS = {
    "key": (f"refused {KEY} today", KEY),
    "key in a URL": (f"GET /v1/me?key={KEY}&x=1", KEY),
    "part of a key": (f"refused {KEY[:40]}", KEY[:40]),
    "bearer": ("Authorization: Bearer eyJh.bGci-Oi_J9/+=", "eyJh.bGci-Oi_J9/+="),
    "bearer in lower case": ("authorization: bearer abcdef123", "abcdef123"),
    "bearer in capitals": ("AUTHORIZATION: BEARER abcdef123", "abcdef123"),
    "bearer after two spaces": ("Authorization: Bearer  abcdef123", "abcdef123"),
    "bearer in a header list": ("[('authorization', 'Bearer abcdef123'), ('x', 'y')]", "abcdef123"),
    "basic": ("Authorization: Basic b2RlYTpodW50ZXIy", "b2RlYTpodW50ZXIy"),
    "password in a URL": (f"cannot reach {URL}", PASSWORD),
    "password with odd characters": ("nats://odea:p@ss!word:x@bus:4222", "ss!word"),
    "token in a URL": ("nats://s3cr3t-token@bus:4222", "s3cr3t-token"),
    "password without a host": (f"postgresql://odea:{PASSWORD}@/odea?host=/run", PASSWORD),
    "password among parameters": (f"postgresql://db/odea?user=odea&password={PASSWORD}&x=1", PASSWORD),
    "password in a DSN of words": (f"host=db password={PASSWORD} user=odea", PASSWORD),
    "key of a provider": ("sk-proj-abcdefgh12345678 was refused", "sk-proj-abcdefgh12345678"),
    "password with a slash": ("postgresql://odea:hun/ter2@db:5432/odea", "ter2"),
    "password in a shown table": ("{'password': 'hunter2', 'user': 'odea'}", PASSWORD),
    "password in JSON": ('{"password":"hunter2"}', PASSWORD),
    "NATS seed": ("SU" + "A2" * 28, "A2A2A2"),
}


class Caught(Protocol):
    """What the fixture `configure` gives; see conftest."""

    @property
    def text(self) -> str: ...
    def lines(self) -> list[dict[str, Any]]: ...
    def line(self) -> dict[str, Any]: ...


Configure = Callable[..., Caught]
secrets = pytest.mark.parametrize(("text", "secret"), SECRETS.values(), ids=SECRETS.keys())


def fail(text: str) -> None:
    raise OSError(text)


def fail_twice(text: str) -> None:
    try:
        fail(text)
    except OSError as cause:
        raise RuntimeError(f"again: {text}") from cause


@secrets
def test_a_secret_in_a_message_is_masked(configure: Configure, text: str, secret: str) -> None:
    """P6."""
    caught = configure()
    structlog.get_logger().warning(text)
    assert "[redacted]" in caught.line()["event"]
    assert secret not in caught.text


@secrets
def test_a_secret_in_a_value_is_masked_however_deep(configure: Configure, text: str, secret: str) -> None:
    """P6."""
    caught = configure()
    structlog.get_logger().info("value", plain=text, nested={"a": [{"b": (text,)}]}, raw=text.encode(), group={text})
    assert caught.line()["plain"] != text
    assert secret not in caught.text


@secrets
def test_a_secret_in_a_traceback_is_masked(configure: Configure, text: str, secret: str) -> None:
    """P6."""
    caught = configure()
    try:
        fail_twice(text)
    except RuntimeError:
        structlog.get_logger().exception("it failed", error=text)
    line = caught.line()
    assert "OSError" in line["exception"]
    assert "RuntimeError: again" in line["exception"]
    assert secret not in caught.text


@secrets
def test_a_secret_in_a_library_s_line_is_masked(configure: Configure, text: str, secret: str) -> None:
    """P6: arguments, extra data and tracebacks of the standard library's loggers go the same way."""
    caught = configure()
    try:
        fail(text)
    except OSError:
        logging.getLogger("some.package").exception("cannot reach %s, %r", text, {"at": text}, stack_info=True)
    line = caught.line()
    assert line["level"] == "error"
    assert line["service"] == "hall"
    assert "OSError" in line["exception"]
    assert secret not in caught.text


@secrets
def test_a_secret_is_masked_for_people_too(configure: Configure, text: str, secret: str) -> None:
    """P6: the pretty format differs in looks alone."""
    caught = configure(log_format="pretty")
    try:
        fail(text)
    except OSError:
        structlog.get_logger().exception(text, value=text)
    assert secret not in caught.text
    assert "OSError" in caught.text


@secrets
def test_a_secret_in_the_name_of_a_field_is_masked(configure: Configure, text: str, secret: str) -> None:
    """P6."""
    caught = configure()
    structlog.get_logger().info("names", table={text: 1})
    assert secret not in caught.text


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "db_password",
            "passwd",
            "secret",
            "client_secret",
            "Authorization",
            "api_key",
            "apiKey",
            "API-Key",
        ),
        *("pepper", "keys_peppers", "access_token", "Cookie", "set-cookie", "database_dsn", "nkey_seed", "digest"),
    ],
)
def test_what_has_a_sensitive_name_is_masked_whatever_it_is(configure: Configure, name: str) -> None:
    """P6."""
    caught = configure()
    value = "plain-as-day"
    structlog.get_logger().info("named", **{name: value}, nested=[{name: {"a": [value]}}])
    line = caught.line()
    assert line[name] == "[redacted]"
    assert line["nested"] == [{name: "[redacted]"}]


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/audio/speech 200",
        "connected to nats://bus:4222",
        "https://docs.example/errors#invalid_api_key",
        "mail ops@example.org",
        "odea.v1.keys.verify took 0.002 s",
        "key_0190f5 of ten_0190f5 was revoked",
        "risk-assessment",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert redact_text(text) == text


def test_plain_values_stay_what_they_are() -> None:
    event = {"units": 12, "share": 0.5, "good": True, "nothing": None, "list": [1, "a"], "key_id": "key_1"}
    assert redact(event) == event


def test_redaction_has_a_bottom() -> None:
    """P10: a structure that holds itself ends too."""
    deep: dict[str, Any] = {}
    deep["deeper"] = deep
    shown = redact(deep)
    for _ in range(6):
        assert isinstance(shown, dict)
        shown = shown["deeper"]
    assert shown == "[redacted]"


def test_a_line_is_one_line_of_json_with_the_usual_fields(configure: Configure) -> None:
    caught = configure()
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger().warning("two\nlines\u2028three", value="a\r\nb", units=3)
    assert caught.text.count("\n") == 1
    assert caught.text.endswith("}\n")
    line = caught.line()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "two\nlines\u2028three",
        "level": "warning",
        "request_id": "req_1",
        "service": "hall",
        "units": 3,
        "value": "a\r\nb",
    }


def test_a_library_s_line_carries_the_request_too(configure: Configure) -> None:
    caught = configure()
    with structlog.contextvars.bound_contextvars(request_id="req_2"):
        logging.getLogger("some.package").info("hello %s", "you")
    line = caught.line()
    assert (line["event"], line["request_id"], line["service"]) == ("hello you", "req_2", "hall")


class Unprintable:
    """An object of ours or of a library that fails when it is shown."""

    def __repr__(self) -> str:
        raise RuntimeError(PASSWORD)


ODD = {
    "not a number": float("nan"),
    "infinite": float("inf"),
    "half a character": "\ud800",
    "bytes": b"\xff\x00",
    "a table by pairs": {(1, 2): "a", None: "b"},
    "an object": object(),
    "unprintable": Unprintable(),
    "unprintable inside": {"a": [Unprintable()]},
    "unprintable name": {Unprintable(): 1},
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD.keys())
def test_whatever_is_logged_makes_a_line_of_strict_json(configure: Configure, value: object) -> None:
    """P6: the standard library prints a line that it can't format raw, with all its values, beside the log."""
    caught = configure()
    structlog.get_logger().info("odd", value=value)
    assert caught.line()["event"] == "odd"
    assert PASSWORD not in caught.text


def test_a_line_that_a_library_got_wrong_is_not_printed_raw(configure: Configure) -> None:
    """P6: the standard library would print the message and its arguments as they are."""
    caught = configure()
    logging.getLogger("some.package").info("%d", KEY)
    line = caught.line()
    assert line["event"] == "a log line could not be written"
    assert line["place"].startswith("some.package:")
    assert KEY not in caught.text


@pytest.mark.parametrize(
    "part", ["://", "://a:", "://a@", "token:", "bearer ", "authorization: b ", "odea_sk_", "sk-", "a@"]
)
def test_redaction_takes_no_longer_than_the_text_is_long(part: str) -> None:
    """P7, P10: a text made to be slow to search is searched as fast as any other."""

    def search_s(length: int) -> float:
        text = part * (length // len(part))
        began = time.perf_counter()
        redact_text(text)
        return time.perf_counter() - began

    assert min(search_s(100_000) for _ in range(3)) < 0.5


def test_the_level_holds_for_us_and_chatty_libraries_are_heard_in_trouble_only(configure: Configure) -> None:
    caught = configure(level="info")
    structlog.get_logger().debug("too quiet")
    structlog.get_logger().info("ours")
    logging.getLogger("nats.aio.client").info("chatter")
    logging.getLogger("nats.aio.client").warning("trouble")
    assert [line["event"] for line in caught.lines()] == ["ours", "trouble"]


def test_only_errors_when_only_errors_are_asked_for(configure: Configure) -> None:
    caught = configure(level="error")
    structlog.get_logger().warning("ours")
    logging.getLogger("nats").warning("theirs")
    logging.getLogger("some.package").warning("others")
    structlog.get_logger().error("it")
    assert [line["event"] for line in caught.lines()] == ["it"]


def database_error(code: str, **fields: str) -> Exception:
    return PostgresError.new({"S": "ERROR", "C": code, **fields})


@pytest.mark.parametrize(
    "error",
    [
        database_error("23514", M='violates "named"', D="Failing row contains (17, first line\nsecond magpie line)."),
        database_error("23505", M="duplicate key", D="Key (name)=(magpie) already exists."),
        database_error("22P02", M='invalid input syntax for type integer: "magpie"'),
        DataError("invalid input for query argument $1: 'magpie' (expected int)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_row_in_an_error_of_the_database_is_masked(configure: Configure, error: Exception) -> None:
    """P6: even where it led to another error, or came with others."""
    caught = configure()
    group = RuntimeError("it failed")
    group.__cause__ = ExceptionGroup("together", [error])
    try:
        raise group
    except RuntimeError:
        structlog.get_logger().exception("handler failed")
    assert type(error).__name__ in caught.line()["exception"]
    assert "magpie" not in caught.text
    assert "[values]" in caught.text


def test_what_the_database_says_of_itself_is_kept(configure: Configure) -> None:
    caught = configure()
    try:
        raise database_error("42P01", M='relation "keys.keys" does not exist')
    except PostgresError:
        structlog.get_logger().exception("handler failed")
    assert 'relation "keys.keys" does not exist' in caught.line()["exception"]
