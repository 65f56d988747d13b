"""The wire is a promise to every version that runs beside this one, so a change of it must be meant, and seen.

If one of the first tests fails and the change is meant, `contract/golden/files.py` says how to write the files anew.
"""

import re
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest

from contract.golden.examples import EXAMPLES
from contract.golden.files import FOLDER, expected, file_of
from odea_contracts import subjects
from odea_contracts.base import Endpoint, Message
from odea_contracts.catalogue import ENDPOINTS, EVENTS, NOTICES
from odea_contracts.errors import Failure
from odea_contracts.synth import Control

ALL = [(module, message) for module, messages in EXAMPLES.items() for message in messages]
NAMES = [f"{file_of(module).removesuffix('.json')}.{type(message).__name__}" for module, message in ALL]
every_message = pytest.mark.parametrize(("module", "message"), ALL, ids=NAMES)
every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint.subject for endpoint in ENDPOINTS])
TOKEN = "[a-z0-9_]+"


def golden(module: ModuleType, message: Message) -> bytes:
    """The bytes on file."""
    table = msgspec.json.decode((FOLDER / file_of(module)).read_bytes(), type=dict[str, msgspec.Raw])
    return bytes(table[type(message).__name__])


@pytest.mark.parametrize("name", sorted(expected()))
def test_the_wire_is_as_it_was(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == expected()[name]


@every_message
def test_a_message_reads_back_from_the_bytes_on_file(module: ModuleType, message: Message) -> None:
    raw = golden(module, message)
    assert msgspec.json.encode(message) == raw
    assert msgspec.json.decode(raw, type=type(message)) == message


@every_message
def test_fields_that_a_newer_version_adds_are_ignored(module: ModuleType, message: Message) -> None:
    raw = golden(module, message)
    newer = raw[:-1] + (b"," if raw != b"{}" else b"") + b'"since_tomorrow":{"deep":[1,{"type":"x"}]}}'
    assert msgspec.json.decode(newer, type=type(message)) == message


@every_message
def test_fields_with_a_default_may_be_absent(module: ModuleType, message: Message) -> None:
    """An older version did not send them."""
    table: dict[str, Any] = msgspec.json.decode(golden(module, message))
    needed = {field.encode_name for field in msgspec.structs.fields(message) if field.required} | {"type"}
    older = {name: value for name, value in table.items() if name in needed}
    read = msgspec.json.decode(msgspec.json.encode(older), type=type(message))
    for field in msgspec.structs.fields(message):
        if not field.required:
            assert getattr(read, field.name) == field.default


@every_message
def test_an_example_shows_every_field(module: ModuleType, message: Message) -> None:
    """Else the bytes on file would not show a change of it."""
    table: dict[str, Any] = msgspec.json.decode(golden(module, message))
    for field in msgspec.structs.fields(message):
        assert field.encode_name in table
        assert getattr(message, field.name) != field.default


@pytest.mark.parametrize("module", list(EXAMPLES), ids=file_of)
def test_every_message_has_an_example(module: ModuleType) -> None:
    defined = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Message) and value.__module__ == module.__name__
    ]
    assert {type(message) for message in EXAMPLES[module]} == set(defined)


def test_every_message_type_has_its_own_name() -> None:
    """Two of one name would be one in the documents."""
    names = [type(message).__name__ for _, message in ALL]
    assert len(set(names)) == len(names)


@every_endpoint
def test_every_reply_reads_back_as_what_it_is(endpoint: Endpoint[Any, Any]) -> None:
    """The tag tells the outcomes apart, and a failure is always one of them."""
    members = get_args(endpoint.reply)
    assert Failure in members
    for module, message in ALL:
        if isinstance(message, members):
            assert msgspec.json.decode(golden(module, message), type=endpoint.reply) == message


@every_endpoint
def test_no_other_message_is_taken_for_a_reply(endpoint: Endpoint[Any, Any]) -> None:
    members = get_args(endpoint.reply)
    for module, message in ALL:
        if not isinstance(message, members):
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(golden(module, message), type=endpoint.reply)


@pytest.mark.parametrize("member", get_args(Control))
def test_what_steers_a_stream_reads_back(member: type[Message]) -> None:
    [(module, message)] = [(module, message) for module, message in ALL if type(message) is member]
    assert msgspec.json.decode(golden(module, message), type=Control) == message


class TestSubjects:
    """Every subject is made of plain tokens, belongs to its service, and is in the catalogue."""

    @every_endpoint
    def test_a_request_s(self, endpoint: Endpoint[Any, Any]) -> None:
        assert re.fullmatch(rf"odea\.v1\.{endpoint.queue}\.{TOKEN}", endpoint.subject)
        assert not endpoint.subject.startswith(f"odea.v1.{endpoint.queue}.evt")

    @pytest.mark.parametrize("subject", EVENTS)
    def test_an_event_s(self, subject: str) -> None:
        assert re.fullmatch(rf"odea\.v1\.{TOKEN}\.evt\.{TOKEN}", subject)

    @pytest.mark.parametrize("subject", NOTICES)
    def test_a_notice_s(self, subject: str) -> None:
        assert re.fullmatch(rf"odea\.v1\.{TOKEN}\.{TOKEN}", subject)

    def test_all_are_different(self) -> None:
        listed = [*(endpoint.subject for endpoint in ENDPOINTS), *EVENTS, *NOTICES, subjects.SYNTH_SPEAK]
        assert len(set(listed)) == len(listed)

    def test_all_that_are_named_are_in_the_catalogue(self) -> None:
        named = {value for value in vars(subjects).values() if isinstance(value, str) and value.startswith("odea.v1.")}
        patterns = {subject for subject in named if subject.endswith(">")}
        listed = {*(endpoint.subject for endpoint in ENDPOINTS), *EVENTS, *NOTICES, subjects.SYNTH_SPEAK}
        assert named - patterns == listed

    def test_a_dead_letter_s_is_an_event_s(self) -> None:
        assert re.fullmatch(rf"odea\.v1\.{TOKEN}\.evt\.{TOKEN}", subjects.dead_letters("quota"))

    def test_none_is_written_anywhere_else(self) -> None:
        root = Path(__file__).parents[2]
        literal = re.compile(r"[\"']odea\.v1\.(?!<)")
        sources = [*root.glob("libs/*/src/**/*.py"), *root.glob("services/*/src/**/*.py")]
        assert len(sources) > 50
        others = [path for path in sources if path.name != "subjects.py" and literal.search(path.read_text("utf-8"))]
        assert others == []
