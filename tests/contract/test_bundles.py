"""Bundles on the wire, to the byte: versions that run side by side must read each other's."""

import msgspec
from msgspec import Raw

from odea_contracts.bundles import BundledReply, BundledRequest, ReplyBundle, RequestBundle, StreamBundle, StreamPart

REQUESTS = [
    BundledRequest(headers={"Odea-Deadline-Ms": "17"}, body=Raw(b'{"hold_id":"x"}')),
    BundledRequest(headers={}, body=Raw(b"{}")),
]
REPLIES = [BundledReply(number=1, body=Raw(b'{"type":"held"}')), BundledReply(number=0, body=Raw(b"null"))]
PARTS = [
    StreamPart(to="_STREAM_gateway.a.1", body=b"\x00\xff", reply="_STREAM_synth.b.2", frame="audio", seq=3),
    StreamPart(to="_STREAM_synth.b.2", body=b"{}"),
]
PARTS_ON_THE_WIRE = (
    b"\x92"
    b"\x95\xb3_STREAM_gateway.a.1\xc4\x02\x00\xff\xb1_STREAM_synth.b.2\xa5audio\x03"
    b"\x95\xb1_STREAM_synth.b.2\xc4\x02{}\xa0\xa0\x00"
)


def test_requests() -> None:
    wire = b'[{"headers":{"Odea-Deadline-Ms":"17"},"body":{"hold_id":"x"}},{"headers":{},"body":{}}]'
    assert msgspec.json.encode(REQUESTS) == wire
    read = msgspec.json.decode(wire, type=RequestBundle)
    assert [(one.headers, bytes(one.body)) for one in read] == [(one.headers, bytes(one.body)) for one in REQUESTS]


def test_replies() -> None:
    wire = b'[{"number":1,"body":{"type":"held"}},{"number":0,"body":null}]'
    assert msgspec.json.encode(REPLIES) == wire
    read = msgspec.json.decode(wire, type=ReplyBundle)
    assert [(one.number, bytes(one.body)) for one in read] == [(1, b'{"type":"held"}'), (0, b"null")]


def test_parts_of_streams() -> None:
    assert msgspec.msgpack.encode(PARTS) == PARTS_ON_THE_WIRE
    assert msgspec.msgpack.decode(PARTS_ON_THE_WIRE, type=StreamBundle) == tuple(PARTS)


def test_what_a_newer_version_adds_is_ignored() -> None:
    newer = b'[{"number":0,"since_tomorrow":[1],"body":{}}]'
    assert bytes(msgspec.json.decode(newer, type=ReplyBundle)[0].body) == b"{}"
    newer = b'[{"headers":{},"since_tomorrow":{"a":1},"body":{}}]'
    assert bytes(msgspec.json.decode(newer, type=RequestBundle)[0].body) == b"{}"
    part = msgspec.msgpack.encode([("to", b"x", "", "beat", 0, "since tomorrow")])
    assert msgspec.msgpack.decode(part, type=StreamBundle) == (StreamPart(to="to", body=b"x", frame="beat"),)


def test_what_an_older_version_did_not_send_may_be_absent() -> None:
    part = msgspec.msgpack.encode([("to", b"x")])
    assert msgspec.msgpack.decode(part, type=StreamBundle) == (StreamPart(to="to", body=b"x"),)
