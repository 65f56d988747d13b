"""Every error code and every broken stream of MiniMax: whose fault it is, when to come back, what was billed (P2, P8).

A breaker counts the class `upstream` and no other. The table is written from MiniMax's documents, not from our code.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fakes.minimax import Behaviour, End, FakeMiniMax
from integration.providers.harness import minimax, say, text
from odea_synth.providers.base import ErrorClass
from odea_synth.providers.minimax.codes import MEANINGS
from odea_synth.providers.upstream import UpstreamOptions
from support.waiting import until

CALLER, CONTENT, ACCOUNT = ErrorClass.CALLER, ErrorClass.CONTENT, ErrorClass.ACCOUNT
THROTTLE, UPSTREAM = ErrorClass.THROTTLE, ErrorClass.UPSTREAM
PARK_S, THROTTLE_S, RETRY_S = 300.0, 60.0, 2.0

CODES: dict[int, tuple[ErrorClass, float | None, str | None]] = {
    1000: (UPSTREAM, None, None),
    1001: (UPSTREAM, None, None),
    1002: (THROTTLE, THROTTLE_S, None),
    1004: (ACCOUNT, PARK_S, None),
    1008: (ACCOUNT, PARK_S, None),
    1013: (UPSTREAM, None, None),
    1024: (UPSTREAM, None, None),
    1026: (CONTENT, None, "input"),
    1027: (CONTENT, None, "input"),
    1028: (ACCOUNT, PARK_S, None),
    1030: (ACCOUNT, PARK_S, None),
    1033: (UPSTREAM, None, None),
    1039: (THROTTLE, THROTTLE_S, None),
    1041: (THROTTLE, RETRY_S, None),
    1042: (CALLER, None, "input"),
    1043: (CALLER, None, None),
    1044: (CALLER, None, None),
    2013: (CALLER, None, None),
    20132: (CALLER, None, "voice"),
    2037: (CALLER, None, None),
    2038: (ACCOUNT, None, None),
    2039: (CALLER, None, None),
    2042: (CALLER, None, "voice"),
    2045: (THROTTLE, THROTTLE_S, None),
    2048: (CALLER, None, None),
    2049: (ACCOUNT, PARK_S, None),
    2054: (CALLER, None, "voice"),
    2056: (ACCOUNT, PARK_S, None),
    2061: (ACCOUNT, PARK_S, None),
    2153: (ACCOUNT, None, None),
    2201: (UPSTREAM, None, None),
    2202: (UPSTREAM, None, None),
    2203: (CALLER, None, "input"),
    2204: (CALLER, None, "input"),
    2205: (THROTTLE, RETRY_S, None),
    2206: (UPSTREAM, None, None),
    # Not in the table: the upstream's, whatever it is.
    2046: (UPSTREAM, None, None),
    987654: (UPSTREAM, None, None),
    -1: (UPSTREAM, None, None),
}
SECRET = "the spoken words themselves"


def test_the_table_has_every_code() -> None:
    assert set(MEANINGS) <= set(CODES)


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("code", CODES)
async def test_a_refusal(code: int, streaming: bool) -> None:
    error_class, wait_s, param = CODES[code]
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(code=code, text=f"invalid params, {SECRET}"))
    async with minimax(fake, streaming=streaming) as provider:
        said = await say(provider, text(SECRET))
    error = said.failed
    assert said.chunks == []
    assert (error.error_class, error.retry_after_s, error.param) == (error_class, wait_s, param)
    assert error.billed_units == fake.billed_units == 0
    # P6
    assert SECRET not in error.message + error.detail
    assert str(code) in error.detail
    assert str(code) not in error.message


@pytest.mark.parametrize("code", CODES)
async def test_an_error_in_the_middle_is_of_the_same_class_and_billed(code: int) -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(code=code, end=End.ERROR))
    async with minimax(fake) as provider:
        said = await say(provider, text())
    assert said.audio == fake.heard[0].audio != b""
    assert said.failed.error_class is CODES[code][0]
    assert said.failed.billed_units == fake.billed_units == 20
    assert said.failed.trace_id == "failed-trace header-trace"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A way to go wrong.

    Attributes:
        heard: whether any audio comes before it does.
        feared: what must be taken for billed.
    """

    behaviour: Callable[[], Behaviour]
    heard: bool = False
    error_class: ErrorClass = UPSTREAM
    feared: int = 20
    timed_out: bool = False
    wait_s: float | None = None


def status(number: int, wait: str | None = None) -> Callable[[], Behaviour]:
    return lambda: Behaviour(status=number, headers={"retry-after": wait} if wait else {})


def body(content: bytes, kind: str = "text/event-stream") -> Callable[[], Behaviour]:
    return lambda: Behaviour(body=content, headers={"content-type": kind})


JSON = "application/json"
GOOD_BASE = b'"base_resp":{"status_code":0,"status_msg":""}'
WAYS = {
    "no status 2": Broken(behaviour=lambda: Behaviour(end=End.SILENT), heard=True),
    "no event at all": Broken(behaviour=lambda: Behaviour(end=End.SILENT, pieces_before_end=0)),
    "cut in an event": Broken(behaviour=lambda: Behaviour(end=End.CUT), heard=True),
    "cut at once": Broken(behaviour=lambda: Behaviour(end=End.CUT, pieces_before_end=0)),
    "stalled": Broken(behaviour=lambda: Behaviour(end=End.STALL), heard=True, timed_out=True),
    "stalled at once": Broken(behaviour=lambda: Behaviour(end=End.STALL, pieces_before_end=0), timed_out=True),
    "not hex": Broken(behaviour=lambda: Behaviour(piece="xyz0")),
    "half a byte": Broken(behaviour=lambda: Behaviour(piece="abc")),
    "blanks in the hex": Broken(behaviour=lambda: Behaviour(piece="ab cd ")),
    "a line too long": Broken(behaviour=lambda: Behaviour(padding_bytes=70_000)),
    "no audio": Broken(behaviour=lambda: Behaviour(no_audio=True)),
    "data is null": Broken(behaviour=body(b'data: {"data":null,' + GOOD_BASE + b"}\n\n")),
    "an empty body": Broken(behaviour=body(b"")),
    "an empty object": Broken(behaviour=body(b"{}", JSON)),
    "html with status 200": Broken(behaviour=body(b"<html>", "text/html")),
    "json of another kind": Broken(behaviour=body(b"[1,2]", JSON)),
    "json that is cut": Broken(behaviour=body(b'{"data":{"audio":"00', JSON)),
    "audio of another type": Broken(behaviour=body(b'data: {"data":{"audio":7,"status":1}}\n\n')),
    "not utf-8": Broken(behaviour=body(b'data: {"data":{"audio":"\xff\xfe","status":1}}\n\n')),
    "compressed": Broken(
        behaviour=lambda: Behaviour(body=b"x", headers={"content-encoding": "br", "content-type": JSON})
    ),
    "500": Broken(behaviour=status(500), feared=0),
    "502": Broken(behaviour=status(502), feared=0),
    "503 with a time": Broken(behaviour=status(503, "7"), feared=0, wait_s=7),
    "504": Broken(behaviour=status(504), feared=0),
    "408": Broken(behaviour=status(408), feared=0),
    "302": Broken(behaviour=status(302), feared=0),
    "429": Broken(behaviour=status(429), error_class=THROTTLE, feared=0, wait_s=THROTTLE_S),
    "429 with a time": Broken(behaviour=status(429, "3"), error_class=THROTTLE, feared=0, wait_s=3),
    "429 with nonsense": Broken(behaviour=status(429, "nan"), error_class=THROTTLE, feared=0, wait_s=THROTTLE_S),
    "401": Broken(behaviour=status(401), error_class=ACCOUNT, feared=0, wait_s=PARK_S),
    "403": Broken(behaviour=status(403), error_class=ACCOUNT, feared=0, wait_s=PARK_S),
    "a code with status 429": Broken(
        behaviour=lambda: Behaviour(status=429, body=b'{"base_resp":{"status_code":1026,"status_msg":""}}'),
        error_class=CONTENT,
        feared=0,
    ),
    "a bare refusal in a stream": Broken(
        behaviour=body(b'{"base_resp":{"status_code":1002,"status_msg":""}}'),
        error_class=THROTTLE,
        feared=0,
        wait_s=THROTTLE_S,
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_broken_answer(way: Broken) -> None:
    # P4: none of them looks like the end.
    fake = FakeMiniMax()
    fake.behaviours.append(way.behaviour())
    async with minimax(fake, UpstreamOptions(read_timeout_s=0.3, line_bytes_max=65_536)) as provider:
        said = await say(provider, text())
        assert bool(said.audio) is way.heard
        error = said.failed
        assert (error.error_class, error.billed_units) == (way.error_class, way.feared)
        assert (error.timed_out, error.retry_after_s) == (way.timed_out, way.wait_s)
        if way.error_class is UPSTREAM:
            assert (await say(provider, text())).error is None


STRANGE: dict[str, dict[str, Any]] = {
    "odd packets": {"split_bytes": 3},
    "long lines": {"padding_bytes": 3_000_000},
    "the audio again at the end": {"repeats": True},
    "no field audio at the end": {"last_audio": False},
    "a marker at the end": {"done_marker": True},
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
async def test_a_strange_stream_is_whole_all_the_same(strange: dict[str, Any]) -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(**strange))
    async with minimax(fake) as provider:
        said = await say(provider, text())
    assert said.error is None
    assert said.audio == fake.heard[0].audio
    assert said.chunks[-1].billed_units == fake.billed_units


@pytest.mark.parametrize("usage", [0, 7, 5_000_000])
async def test_the_last_word_on_the_bill_is_theirs_even_if_it_cannot_be_true(usage: int) -> None:
    """What is charged is capped at the hold elsewhere; the true figure is needed to reconcile."""
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(usage=usage))
    async with minimax(fake) as provider:
        said = await say(provider, text())
    *before, last = said.chunks
    assert {chunk.billed_units for chunk in before} == {20}
    assert last.billed_units == usage


async def test_a_figure_below_nothing_is_not_believed() -> None:
    fake = FakeMiniMax()
    fake.behaviours.append(Behaviour(usage=-5))
    async with minimax(fake) as provider:
        assert (await say(provider, text())).chunks[-1].billed_units == 20


async def test_an_upstream_that_is_not_there_bills_nothing() -> None:
    fake = FakeMiniMax()
    async with minimax(fake, base_url="http://127.0.0.1:9") as provider:
        error = (await say(provider, text())).failed
    assert (error.error_class, error.billed_units, error.timed_out) == (UPSTREAM, 0, False)


async def test_callers_who_leave_take_their_streams_with_them() -> None:
    fake = FakeMiniMax()
    fake.behaviours.extend(Behaviour(end=End.STALL) for _ in range(20))
    async with minimax(fake) as provider:
        tasks = [asyncio.create_task(say(provider, text())) for _ in range(20)]
        async with asyncio.timeout(10):
            await until(lambda: len(fake.heard) == 20 and all(heard.pieces for heard in fake.heard))
            for task in tasks:
                task.cancel()
            for heard in fake.heard:
                await heard.ended.wait()
        assert all(heard.left for heard in fake.heard)
        assert (await say(provider, text())).error is None
    await asyncio.gather(*tasks, return_exceptions=True)
