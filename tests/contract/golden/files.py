"""The golden files as they should be. `PYTHONPATH=tests python -m contract.golden.files` writes them anew.

Each message stands on its line byte for byte as it crosses the bus, so that a change of the wire is a change of a line.
"""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args

import msgspec
from msgspec import UNSET

from contract.golden.examples import EXAMPLES
from odea_contracts import subjects, synth
from odea_contracts.base import Endpoint, Message
from odea_contracts.catalogue import ENDPOINTS, EVENTS, NOTICES
from odea_contracts.errors import ERRORS

FOLDER: Final = Path(__file__).parent


def file_of(module: ModuleType) -> str:
    """The name of the file for the messages of one module of the contracts."""
    return f"{module.__name__.rpartition('.')[2]}.json"


def messages_text(messages: tuple[Message, ...]) -> str:
    """A table by type of message, one a line."""
    return _table({type(message).__name__: message for message in messages})


def subjects_text() -> str:
    """Every subject with what goes in and what comes back."""
    table: dict[str, Any] = {endpoint.subject: _described(endpoint) for endpoint in ENDPOINTS}
    table |= {subject: {"event": _tag(body)} for subject, body in EVENTS.items()}
    table |= {subject: {"notice": _tag(body)} for subject, body in NOTICES.items()}
    table[subjects.SYNTH_SPEAK] = {
        "queue": subjects.SYNTH,
        "request": synth.Speak.__name__,
        "frames": list(synth.Frame),
        "frame_bytes_max": synth.FRAME_BYTES_MAX,
        "control": {_tag(control): control.__name__ for control in get_args(synth.Control)},
        "headers": [
            synth.HEADER_FRAME,
            synth.HEADER_SEQ,
            synth.HEADER_REQUEST_ID,
            synth.HEADER_DEADLINE_MS,
            synth.HEADER_SENT_MS,
        ],
    }
    return _table(dict(sorted(table.items())))


def codes_text() -> str:
    """Every error code with its status, its type and its retry advice."""
    return _table({code: [spec.status, spec.type, spec.retry] for code, spec in ERRORS.items()})


def defaults_text() -> str:
    """What a field that is not sent means, for every message that has such fields."""
    table: dict[str, dict[str, Any]] = {}
    for message in (message for messages in EXAMPLES.values() for message in messages):
        optional = [field for field in msgspec.structs.fields(message) if not field.required]
        values = {field.encode_name: "(unset)" if field.default is UNSET else field.default for field in optional}
        table |= {type(message).__name__: values} if values else {}
    return _table(table)


def expected() -> dict[str, str]:
    """Every file and its text."""
    texts = {file_of(module): messages_text(messages) for module, messages in EXAMPLES.items()}
    return texts | {"subjects.json": subjects_text(), "codes.json": codes_text(), "defaults.json": defaults_text()}


def _table(values: Mapping[str, Any]) -> str:
    lines = [f'  "{name}": {msgspec.json.encode(value).decode()}' for name, value in values.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _described(endpoint: Endpoint[Any, Any]) -> dict[str, Any]:
    replies = {_tag(reply): reply.__name__ for reply in get_args(endpoint.reply)}
    return {"queue": endpoint.queue, "request": endpoint.request.__name__, "replies": replies}


def _tag(body: type[Message]) -> str:
    tag = body.__struct_config__.tag
    return body.__name__ if tag is None else str(tag)


if __name__ == "__main__":
    for name, text in expected().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
