"""The AsyncAPI 3.0 document of the bus, from the contracts: every subject, every message, every header."""

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final, TypeAlias

import msgspec

from odea_contracts import bundles, subjects, synth
from odea_contracts.base import Endpoint, Message
from odea_contracts.bundles import BUNDLE_MAX, HEADER_BUNDLES_TO
from odea_contracts.catalogue import ENDPOINTS, EVENTS, NOTICES
from odea_contracts.errors import Failure
from odea_contracts.synth import (
    FRAME_BYTES_MAX,
    HEADER_DEADLINE_MS,
    HEADER_FRAME,
    HEADER_REQUEST_ID,
    HEADER_SENT_MS,
    HEADER_SEQ,
    HEADER_TRACEPARENT,
    Frame,
)

Json: TypeAlias = dict[str, Any]
"""A part of a document. Its shape is the specification's, not ours."""

_REQUEST_HEADERS: Final[Json] = {
    "type": "object",
    "properties": {
        HEADER_REQUEST_ID: {"type": "string", "description": "Joins the logs and events of one request"},
        HEADER_DEADLINE_MS: {
            "type": "string",
            "pattern": "^[0-9]{1,16}$",
            "description": "Unix milliseconds: until when the sender waits; later the request is dropped",
        },
        HEADER_SENT_MS: {
            "type": "string",
            "pattern": "^[0-9]{1,16}$",
            "description": "Unix milliseconds: when a stream was asked for. A request that has waited for long is begun"
            " only once its sender has answered a `beat`",
        },
        HEADER_BUNDLES_TO: {
            "type": "string",
            "description": "Of a request for a stream: where the frames of several streams may go in one message",
        },
        HEADER_TRACEPARENT: {
            "type": "string",
            "description": "W3C Trace Context: the span that the request belongs to",
        },
    },
}
_EVENT_HEADERS: Final[Json] = {
    "type": "object",
    "description": "CloudEvents 1.0 in binary mode",
    "required": ["Nats-Msg-Id", "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time"],
    "properties": {
        "Nats-Msg-Id": {"type": "string", "description": "Source and id; JetStream drops what it has seen"},
        "ce-specversion": {"const": "1.0"},
        "ce-id": {"type": "string", "format": "uuid"},
        "ce-source": {"type": "string"},
        "ce-type": {"type": "string", "description": "The subject"},
        "ce-time": {"type": "string", "format": "date-time"},
        "content-type": {"const": "application/json"},
    },
}
_FRAMES: Final[Mapping[Frame, tuple[type[Message] | None, str]]] = types.MappingProxyType(
    {
        Frame.BEAT: (None, "The sender lives but has no audio yet; empty"),
        Frame.HEAD: (synth.Head, "The first audio is in hand"),
        Frame.AUDIO: (None, f"Raw audio, at most {FRAME_BYTES_MAX} bytes, numbered from 1"),
        Frame.TIMINGS: (synth.Timings, "When words are heard, for whoever asked; numbered together with the audio"),
        Frame.TAIL: (synth.Tail, "That was the whole, and what it was"),
        Frame.FAIL: (Failure, "There is no audio, or no more"),
    }
)


def asyncapi() -> bytes:
    """The bus: every endpoint with all its replies, every event, and the audio stream."""
    document = _Document()
    for endpoint in ENDPOINTS:
        document.add_endpoint(endpoint)
    document.add_speech()
    for subject, body in EVENTS.items():
        document.add_event(subject, body)
    for subject, body in NOTICES.items():
        document.add_notice(subject, body)
    return pretty(document.whole())


class _Document:
    """An AsyncAPI document that grows."""

    def __init__(self) -> None:
        self._channels: Json = {}
        self._operations: Json = {}
        self._messages: Json = {}
        self._types: dict[type[Message], None] = {}

    def add_endpoint(self, endpoint: Endpoint[Any, Any]) -> None:
        """A request and everything that may come back."""
        name = _name(endpoint.subject)
        request = self._message(endpoint.request, headers="RequestHeaders", suffix="Request")
        requests = [request, self._bundle("RequestBundle", bundles.BundledRequest)]
        replies = [self._message(reply) for reply in _members(endpoint.reply)]
        replies.append(self._bundle("ReplyBundle", bundles.BundledReply))
        self._channel(name, requests, address=endpoint.subject, description=_summary(endpoint.request))
        self._channel(f"{name}_reply", replies, address=None, description="The inbox that the request names")
        self._operations[name] = {
            "action": "receive",
            "summary": _summary(endpoint.request),
            "channel": _ref("channels", name),
            "messages": _in_channel(name, requests),
            "bindings": {"nats": {"queue": endpoint.queue}},
            "reply": {
                "channel": _ref("channels", f"{name}_reply"),
                "messages": _in_channel(f"{name}_reply", replies),
            },
        }

    def add_speech(self) -> None:
        """The request, the stream of frames that answers it, and what steers the stream."""
        name = _name(subjects.SYNTH_SPEAK)
        request = self._message(synth.Speak, headers="RequestHeaders", suffix="Request")
        frames = [self._frame(frame, body, text) for frame, (body, text) in _FRAMES.items()]
        control = [self._message(body) for body in _members(synth.Control)]
        bundle = [self._bundle("StreamBundle", bundles.StreamPart, content_type="application/msgpack")]
        self._channel(name, [request], address=subjects.SYNTH_SPEAK, description=_summary(synth.Speak))
        self._channel(f"{name}_stream", frames, address=None, description="The inbox that the request names")
        self._channel(
            f"{name}_control", control, address=None, description="The subject that each frame names for replies"
        )
        self._operations[name] = {
            "action": "receive",
            "summary": _summary(synth.Speak),
            "description": f"{inspect.getdoc(synth)}\n\n{inspect.getdoc(bundles)}",
            "channel": _ref("channels", name),
            "messages": _in_channel(name, [request]),
            "bindings": {"nats": {"queue": subjects.SYNTH}},
            "reply": {"channel": _ref("channels", f"{name}_stream"), "messages": _in_channel(f"{name}_stream", frames)},
        }
        self._operations[f"{name}_control"] = {
            "action": "receive",
            "summary": "Let more audio come, or stop it.",
            "channel": _ref("channels", f"{name}_control"),
            "messages": _in_channel(f"{name}_control", control),
        }
        self._bundles(f"{name}_stream", bundle, "send", f"The subject that the request names in `{HEADER_BUNDLES_TO}`")
        self._bundles(f"{name}_control", bundle, "receive", "The reply subject of each bundle of frames")

    def add_event(self, subject: str, body: type[Message]) -> None:
        """A durable event of the stream."""
        message = self._message(body, headers="EventHeaders", suffix="Event")
        self._send(subject, message, f"In the JetStream stream {subjects.STREAM_EVENTS}, at least once")

    def add_notice(self, subject: str, body: type[Message]) -> None:
        """A message to whoever listens at that moment."""
        self._send(subject, self._message(body), "Told at once on core NATS, and lost on who does not listen")

    def whole(self) -> Json:
        """The document."""
        _, schemas = msgspec.json.schema_components(self._types, ref_template="#/components/schemas/{name}")
        return {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Odea bus",
                "version": version("odea-contracts"),
                "description": "Metered text-to-speech on NATS: every subject and every message.",
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": "application/json",
            "servers": {"nats": {"host": "nats:4222", "protocol": "nats"}},
            "channels": self._channels,
            "operations": self._operations,
            "components": {
                "messages": self._messages,
                "schemas": {"RequestHeaders": _REQUEST_HEADERS, "EventHeaders": _EVENT_HEADERS, **schemas},
            },
        }

    def _send(self, subject: str, message: str, description: str) -> None:
        name = _name(subject)
        self._channel(name, [message], address=subject, description=description)
        self._operations[name] = {
            "action": "send",
            "channel": _ref("channels", name),
            "messages": _in_channel(name, [message]),
        }

    def _channel(self, name: str, messages: Iterable[str], *, address: str | None, description: str) -> None:
        self._channels[name] = {
            "address": address,
            "description": description,
            "messages": {message: _ref("components", "messages", message) for message in messages},
        }

    def _message(self, body: type[Message], *, headers: str | None = None, suffix: str = "") -> str:
        name = f"{body.__name__}{suffix}"
        self._types[body] = None
        self._messages[name] = {
            "name": name,
            "summary": _summary(body),
            **({"headers": _ref("components", "schemas", headers)} if headers else {}),
            "payload": _ref("components", "schemas", body.__name__),
        }
        return name

    def _bundles(self, name: str, bundle: list[str], action: str, where: str) -> None:
        """What may come as a bundle instead, and where."""
        self._channel(f"{name}_bundles", bundle, address=None, description=where)
        self._operations[f"{name}_bundles"] = {
            "action": action,
            "summary": f"The same as on `{name}`, of several streams together.",
            "channel": _ref("channels", f"{name}_bundles"),
            "messages": _in_channel(f"{name}_bundles", bundle),
        }

    def _bundle(self, name: str, part: type[Message], *, content_type: str = "application/json") -> str:
        self._types[part] = None
        self._messages[name] = {
            "name": name,
            "summary": f"Several at once. {_summary(part)}",
            "contentType": content_type,
            "payload": {
                "type": "array",
                "items": _ref("components", "schemas", part.__name__),
                "minItems": 1,
                # A message of audio is full long before.
                **({} if part is bundles.StreamPart else {"maxItems": BUNDLE_MAX}),
            },
        }
        return name

    def _frame(self, frame: Frame, body: type[Message] | None, text: str) -> str:
        name = f"{frame.capitalize()}Frame"
        properties: Json = {HEADER_FRAME: {"const": frame.value}}
        if frame in {Frame.AUDIO, Frame.TIMINGS}:
            properties[HEADER_SEQ] = {"type": "string", "pattern": "^[1-9][0-9]*$"}
        if body:
            self._types[body] = None
        self._messages[name] = {
            "name": name,
            "summary": text,
            "contentType": "application/json" if body else "application/octet-stream",
            "headers": {"type": "object", "required": list(properties), "properties": properties},
            **({"payload": _ref("components", "schemas", body.__name__)} if body else {}),
        }
        return name


def _members(union: Any) -> tuple[type[Message], ...]:
    return typing.get_args(union) or (union,)


def _name(subject: str) -> str:
    return "_".join(subject.split(".")[2:])


def _summary(body: type[Message]) -> str:
    return (inspect.getdoc(body) or "").partition("\n")[0]


def _ref(*path: str) -> Json:
    return {"$ref": "/".join(("#", *path))}


def _in_channel(channel: str, messages: Iterable[str]) -> list[Json]:
    return [_ref("channels", channel, "messages", message) for message in messages]


def pretty(document: Any) -> bytes:
    """A document as it is committed."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
