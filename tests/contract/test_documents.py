"""The documents of both interfaces are what the code does, and tools can read them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast, get_args

import msgspec
import pytest

from contract.golden.examples import EXAMPLES
from odea_contracts import subjects
from odea_contracts.catalogue import ENDPOINTS, EVENTS, NOTICES
from odea_contracts.errors import Failure
from odea_contracts.synth import Frame
from odea_local import asyncapi, documents

ROOT: Final = Path(__file__).parents[2]
ASYNCAPI: Final[dict[str, Any]] = msgspec.json.decode(asyncapi.asyncapi())
OPENAPI: Final[dict[str, Any]] = msgspec.json.decode(documents.openapi())
CHANNELS: Final[dict[str, Any]] = ASYNCAPI["channels"]
OPERATIONS: Final[dict[str, Any]] = ASYNCAPI["operations"]
both = pytest.mark.parametrize("document", [ASYNCAPI, OPENAPI], ids=["asyncapi", "openapi"])


@pytest.mark.parametrize(
    "path",
    [documents.ASYNCAPI, documents.OPENAPI, documents.CONFIGURATION, documents.ERROR_CODES, documents.METRICS],
    ids=str,
)
def test_what_is_committed_is_current(tmp_path: Path, path: Path) -> None:
    """If the change is meant: `python -m odea_local.documents` writes them anew."""
    documents.write(tmp_path)
    assert (ROOT / path).read_bytes() == (tmp_path / path).read_bytes()


def walk(value: object, path: str = "#") -> Iterator[tuple[str, object]]:
    """Every part of a document with its place."""
    yield path, value
    entries: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        entries = list(cast("dict[str, object]", value).items())
    elif isinstance(value, list):
        entries = list(enumerate(cast("list[object]", value)))
    for name, part in entries:
        yield from walk(part, f"{path}/{name}")


def resolve(document: dict[str, Any], ref: str) -> Any:
    assert ref.startswith("#/")
    found: Any = document
    for token in ref[2:].split("/"):
        found = found[token.replace("~1", "/").replace("~0", "~")]
    return found


@both
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    refs = [part for path, part in walk(document) if path.endswith("/$ref")]
    assert refs
    for ref in refs:
        assert isinstance(ref, str)
        assert resolve(document, ref) is not None


@both
def test_every_pattern_is_one_that_browsers_know_too(document: dict[str, Any]) -> None:
    """ECMA-262: no look-behind, no Python anchors, no named groups of Python."""
    for path, pattern in walk(document):
        if path.endswith("/pattern"):
            assert isinstance(pattern, str)
            re.compile(pattern)
            assert not re.search(r"\\[AZ]|\(\?P|\(\?<|\(\?[aiLmsux]", pattern)


@both
def test_a_document_names_itself_and_tells_of_no_machine(document: dict[str, Any]) -> None:
    assert document["info"]["title"].startswith("Odea")
    assert re.fullmatch(r"\d+\.\d+\.\d+", document["info"]["version"])
    assert document["info"]["license"]["name"] == "Apache-2.0"
    text = msgspec.json.encode(document).decode()
    assert not re.search(r"/(?:home|root|tmp|usr)/|site-packages|odea_runtime\.bus", text)


class TestAsyncApi:
    """AsyncAPI 3.0, by the rules of its specification that our document is subject to."""

    def test_the_outline(self) -> None:
        assert ASYNCAPI["asyncapi"] == "3.0.0"
        assert set(ASYNCAPI) == {
            *("asyncapi", "info", "defaultContentType", "servers", "channels", "operations", "components")
        }
        assert set(ASYNCAPI["components"]) == {"messages", "schemas"}
        names = [*CHANNELS, *OPERATIONS, *ASYNCAPI["components"]["messages"], *ASYNCAPI["components"]["schemas"]]
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)

    def test_every_subject_is_one_channel(self) -> None:
        addresses = [channel["address"] for channel in CHANNELS.values() if channel["address"]]
        listed = [*(endpoint.subject for endpoint in ENDPOINTS), subjects.SYNTH_SPEAK, *EVENTS, *NOTICES]
        assert sorted(addresses) == sorted(listed)

    @pytest.mark.parametrize("name", CHANNELS)
    def test_a_channel_has_messages_that_are_defined(self, name: str) -> None:
        channel = CHANNELS[name]
        assert set(channel) == {"address", "description", "messages"}
        assert channel["messages"]
        for key, message in channel["messages"].items():
            assert message == {"$ref": f"#/components/messages/{key}"}

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_an_operation_speaks_only_of_its_channel_s_messages(self, name: str) -> None:
        operation = OPERATIONS[name]
        assert operation["action"] in {"send", "receive"}
        for part in [operation, *([operation["reply"]] if "reply" in operation else [])]:
            channel = part["channel"]["$ref"]
            assert part["messages"]
            assert all(message["$ref"].startswith(f"{channel}/messages/") for message in part["messages"])

    @pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint.subject for endpoint in ENDPOINTS])
    def test_an_endpoint_names_its_request_and_all_its_replies(self, endpoint: Any) -> None:
        operation = OPERATIONS["_".join(endpoint.subject.split(".")[2:])]
        assert operation["action"] == "receive"
        assert operation["bindings"] == {"nats": {"queue": endpoint.queue}}
        assert payloads(operation) == [endpoint.request.__name__, "BundledRequest…"]
        replies = [reply.__name__ for reply in get_args(endpoint.reply)]
        assert payloads(operation["reply"]) == [*replies, "BundledReply…"]
        assert replies[-1] == Failure.__name__

    @pytest.mark.parametrize("subject", EVENTS)
    def test_an_event_has_the_headers_of_a_cloud_event(self, subject: str) -> None:
        operation = OPERATIONS["_".join(subject.split(".")[2:])]
        assert operation["action"] == "send"
        assert payloads(operation) == [EVENTS[subject].__name__]
        [message] = messages(operation)
        required = resolve(ASYNCAPI, message["headers"]["$ref"])["required"]
        assert {"Nats-Msg-Id", "ce-id", "ce-source", "ce-specversion", "ce-type"} <= set(required)

    def test_speech_is_answered_by_every_kind_of_frame(self) -> None:
        operation = OPERATIONS["synth_speak"]
        frames = messages(operation["reply"])
        assert {frame["headers"]["properties"]["Odea-Frame"]["const"] for frame in frames} == set(Frame)
        assert payloads(operation["reply"]) == [None, "Head", None, "Timings", "Tail", "Failure"]
        assert payloads(OPERATIONS["synth_speak_control"]) == ["Credit", "Cancel", "Receipt"]

    @pytest.mark.parametrize(
        ("name", "action", "where"),
        [
            ("synth_speak_stream_bundles", "send", "`Odea-Bundles-To`"),
            ("synth_speak_control_bundles", "receive", "reply subject of each bundle"),
        ],
    )
    def test_bundles_of_streams_go_where_their_channel_says(self, name: str, action: str, where: str) -> None:
        operation = OPERATIONS[name]
        assert operation["action"] == action
        assert where in resolve(ASYNCAPI, operation["channel"]["$ref"])["description"]
        assert payloads(operation) == ["StreamPart…"]
        assert [message["contentType"] for message in messages(operation)] == ["application/msgpack"]

    @pytest.mark.parametrize("module", list(EXAMPLES), ids=lambda module: module.__name__)
    def test_every_field_of_every_message_is_described(self, module: Any) -> None:
        schemas = ASYNCAPI["components"]["schemas"]
        for message in EXAMPLES[module]:
            shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(message))
            schema = schemas[type(message).__name__]
            assert set(schema["properties"]) == set(shown)
            assert schema["description"]
            assert schema["type"] == "object"


def messages(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of an operation or of its reply."""
    return [resolve(ASYNCAPI, resolve(ASYNCAPI, message["$ref"])["$ref"]) for message in part["messages"]]


def payloads(part: dict[str, Any]) -> list[str | None]:
    """The names of the types in their bodies, with dots where there are several; `None` where the body is raw."""

    def name(payload: dict[str, Any]) -> str | None:
        if "items" in payload:
            return f"{name(payload['items'])}…"
        return payload["$ref"].rpartition("/")[2] if payload else None

    return [name(message.get("payload", {})) for message in messages(part)]


class TestOpenApi:
    """OpenAPI 3.1, as far as our clients build on it."""

    def test_the_outline(self) -> None:
        assert OPENAPI["openapi"].startswith("3.1")
        assert OPENAPI["paths"]["/v1/audio/speech"]["post"]
        assert OPENAPI["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"

    def test_every_operation_has_a_name_of_its_own_a_summary_and_its_errors(self) -> None:
        operations = [
            operation
            for path in OPENAPI["paths"].values()
            for method, operation in path.items()
            if method in {"get", "post", "put", "patch", "delete"}
        ]
        assert len(operations) > 5
        names = [operation["operationId"] for operation in operations]
        assert len(set(names)) == len(names)
        for operation in operations:
            assert operation["summary"]
            assert any(status.startswith("2") for status in operation["responses"])
