"""The speaker's side of holds, against every answer that quota has, and against none."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from odea_contracts import quota
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.minimax import MiniMax, TimbreWeight
from odea_contracts.quota import Outcome, Settle
from odea_contracts.synth import Speak
from odea_contracts.writeoffs import WriteOff, WrittenOff
from odea_runtime.background import running
from odea_runtime.bus import BadReplyError, Bus, BusError, CallTimeoutError, DisconnectedError, NoRespondersError
from odea_runtime.settings import Settings, load
from odea_runtime.tasks import Tasks
from odea_synth.metering import Hold, Meter
from support.waiting import until

Answer = Message | BusError

REQUEST = Speak(
    request_id="req_1",
    tenant_id="ten_1",
    key_id="key_1",
    accounts=("ten_1", "key_1"),
    model="tts-1",
    voice="Vera",
    input="Twelve chars",
)


class AnsweringBus(Bus):
    """A bus on which quota gives the answers that a test has written down, and the last of them for ever."""

    def __init__(self, *answers: Answer | Callable[[Message], Answer]) -> None:
        super().__init__(load(Settings, {"ODEA_NATS_URL": "nats://unused"}), "tests")
        self.from_now_on(*answers)
        self.asked: list[Message] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def from_now_on(self, *answers: Answer | Callable[[Message], Answer]) -> None:
        self.answers = list(answers)

    async def call(self, endpoint: Endpoint[Any, Any], request: Message, **_options: object) -> Any:
        assert isinstance(request, endpoint.request)
        # What would not be understood at the other end must not be sent.
        msgspec.json.decode(msgspec.json.encode(request), type=endpoint.request)
        self.asked.append(request)
        await self.gate.wait()
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, BusError):
            raise answer
        return answer

    def count(self, kind: type[Message]) -> int:
        return sum(isinstance(message, kind) for message in self.asked)


def meter_on(bus: Bus, *, settle_wait_s: float = 0.4, write_off_s: float = 0.4, tasks_max: int = 10) -> Meter:
    return Meter(bus, Tasks(tasks_max), lease_s=1, settle_wait_s=settle_wait_s, write_off_s=write_off_s)


def reserved(request: Message) -> quota.Reserved:
    assert isinstance(request, quota.Reserve)
    return quota.Reserved(hold_id=request.hold_id, units=request.units, expires_at_ms=1, balances=())


async def hold_on(meter: Meter) -> Hold:
    hold = await meter.reserve(REQUEST, 12)
    assert isinstance(hold, Hold)
    return hold


def charge(hold: Hold, units: int = 9, outcome: Outcome = Outcome.COMPLETED) -> Settle:
    return Settle(hold_id=hold.hold_id, units=units, outcome=outcome, provider="p", provider_units=11)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def turning(meter: Meter) -> AsyncGenerator[None]:
    async with running(meter.run()):
        yield


async def test_a_reservation_says_who_and_how_much() -> None:
    bus = AnsweringBus(reserved)
    hold = await hold_on(meter_on(bus))
    [asked] = bus.asked
    assert isinstance(asked, quota.Reserve)
    assert (asked.accounts, asked.units, asked.lease_ms) == (("ten_1", "key_1"), 12, 1000)
    assert (asked.request_id, asked.tenant_id, asked.key_id) == ("req_1", "ten_1", "key_1")
    assert (hold.hold_id, hold.units) == (asked.hold_id, 12)


async def test_a_reservation_names_every_voice_that_will_be_heard() -> None:
    bus = AnsweringBus(reserved)
    mix = (TimbreWeight(voice_id="Boss", weight=30), TimbreWeight(voice_id="Guest", weight=70))
    await meter_on(bus).reserve(msgspec.structs.replace(REQUEST, minimax=MiniMax(timbre_weights=mix)), 12)
    [asked] = bus.asked
    assert isinstance(asked, quota.Reserve)
    assert (asked.voice, asked.mixed_voices) == ("Vera", ("Boss", "Guest"))


async def test_every_reservation_has_an_id_of_its_own() -> None:
    bus = AnsweringBus(reserved)
    meter = meter_on(bus)
    assert (await hold_on(meter)).hold_id != (await hold_on(meter)).hold_id


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (NoRespondersError(), ErrorCode.QUOTA_UNAVAILABLE),
        (DisconnectedError(), ErrorCode.QUOTA_UNAVAILABLE),
        (CallTimeoutError(), ErrorCode.QUOTA_UNAVAILABLE),
        (BadReplyError(), ErrorCode.QUOTA_UNAVAILABLE),
        (failure(ErrorCode.OVERLOADED), ErrorCode.OVERLOADED),
        (failure(ErrorCode.QUOTA_UNAVAILABLE), ErrorCode.QUOTA_UNAVAILABLE),
        (quota.HoldConflict(hold_id="h"), ErrorCode.INTERNAL_ERROR),
        (quota.SettledBefore(hold_id="h", units=3), ErrorCode.INTERNAL_ERROR),
        (quota.Expired(hold_id="h"), ErrorCode.INTERNAL_ERROR),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception | Message) else str(value),
)
async def test_whatever_is_not_a_hold_is_a_failure_and_nothing_is_extended(answer: Answer, code: ErrorCode) -> None:
    """P9: no exception and no waiting."""
    bus = AnsweringBus(answer)
    meter = meter_on(bus)
    refused = await meter.reserve(REQUEST, 12)
    assert isinstance(refused, Failure)
    assert refused.code is code
    assert refused.retryable


@pytest.mark.parametrize("trouble", [CallTimeoutError(), BadReplyError(), DisconnectedError()])
async def test_a_hold_that_may_have_been_written_is_given_back(trouble: BusError) -> None:
    bus = AnsweringBus(trouble)
    await meter_on(bus).reserve(REQUEST, 12)
    await until(lambda: len(bus.asked) == 2)
    reserve, release = bus.asked
    assert isinstance(reserve, quota.Reserve)
    assert isinstance(release, quota.Release)
    assert release.hold_id == reserve.hold_id


async def test_nothing_is_given_back_where_nothing_can_have_been_written() -> None:
    bus = AnsweringBus(NoRespondersError())
    await meter_on(bus).reserve(REQUEST, 12)
    bus.from_now_on(reserved)
    await hold_on(meter_on(bus))
    assert bus.count(quota.Release) == 0


async def test_who_leaves_during_the_reservation_has_the_hold_given_back_once_it_is_there() -> None:
    bus = AnsweringBus(reserved, quota.Released(hold_id="h"))
    bus.gate.clear()
    meter = meter_on(bus)
    asking = asyncio.create_task(meter.reserve(REQUEST, 12))
    await until(lambda: len(bus.asked) == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert bus.count(quota.Release) == 0
    bus.gate.set()
    await until(lambda: bus.count(quota.Release) == 1)


async def test_who_leaves_in_the_moment_of_the_answer_leaves() -> None:
    """A cancellation that meets its result must not be lost: the speech would go on for nobody."""
    bus = AnsweringBus(reserved, quota.Released(hold_id="h"))
    bus.gate.clear()
    meter = meter_on(bus)
    asking = asyncio.create_task(meter.reserve(REQUEST, 12))
    await until(lambda: len(bus.asked) == 1)
    bus.gate.set()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: bus.count(quota.Release) == 1)


@pytest.mark.parametrize(
    ("answer", "charged"),
    [
        (quota.Settled(hold_id="h", units=9), 9),
        (quota.SettledBefore(hold_id="h", units=4), 4),
        (quota.ReleasedBefore(hold_id="h"), 0),
        (quota.Expired(hold_id="h"), 0),
        (quota.HoldUnknown(hold_id="h"), 0),
        (quota.ExceedsHold(hold_id="h", held=3), 0),
        (failure(ErrorCode.INVALID_VALUE), None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_answer_to_a_settlement_is_taken_at_its_word_and_not_asked_for_again(
    answer: Message, charged: int | None
) -> None:
    """P2: what is reported, logged and shown in the tail is what quota says was charged."""
    bus = AnsweringBus(reserved, answer)
    meter = meter_on(bus)
    hold = await hold_on(meter)
    assert await meter.settle(hold, charge(hold)) == charged
    assert bus.count(Settle) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        NoRespondersError(),
        CallTimeoutError(),
        DisconnectedError(),
        BadReplyError(),
        failure(ErrorCode.QUOTA_UNAVAILABLE),
        failure(ErrorCode.OVERLOADED),
        failure(ErrorCode.INTERNAL_ERROR),
    ],
    ids=lambda value: getattr(value, "code", type(value).__name__),
)
async def test_trouble_at_the_settlement_is_answered_with_the_same_settlement_again(trouble: Answer) -> None:
    bus = AnsweringBus(reserved, trouble, trouble, quota.Settled(hold_id="h", units=9))
    meter = meter_on(bus, settle_wait_s=10)
    hold = await hold_on(meter)
    assert await meter.settle(hold, charge(hold)) == 9
    assert bus.asked[1] == bus.asked[2] == bus.asked[3] == charge(hold)


async def test_a_settlement_is_given_up_when_the_wait_is_over_and_counted() -> None:
    """P10."""
    before = metric("odea_synth_unsettled_total", verb="settle")
    bus = AnsweringBus(reserved, NoRespondersError())
    meter = meter_on(bus)
    hold = await hold_on(meter)
    async with asyncio.timeout(5):
        assert await meter.settle(hold, charge(hold)) is None
    assert bus.count(Settle) >= 2
    assert metric("odea_synth_unsettled_total", verb="settle") == before + 1


async def test_a_release_is_repeated_and_given_up_in_silence() -> None:
    bus = AnsweringBus(reserved, NoRespondersError())
    meter = meter_on(bus)
    hold = await hold_on(meter)
    async with asyncio.timeout(5):
        await meter.release(hold)
    assert bus.count(quota.Release) >= 2


def loss(hold: Hold) -> WriteOff:
    return WriteOff(hold_id=hold.hold_id, provider="p", provider_units=11)


@pytest.mark.parametrize(
    ("answer", "stays", "lost", "taken_back"),
    [
        (WrittenOff(hold_id="h", units=0), 0, 11, 0),
        (WrittenOff(hold_id="h", units=9), 0, 11, 9),
        (quota.ReleasedBefore(hold_id="h"), 0, 11, 0),
        (quota.HoldUnknown(hold_id="h"), 0, 11, 0),
        (quota.SettledBefore(hold_id="h", units=9), 9, 0, 0),
        (NoRespondersError(), 5, 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Message | BusError) else str(value),
)
async def test_a_write_off_is_taken_at_its_word(answer: Answer, stays: int, lost: int, taken_back: int) -> None:
    """P2: what quota still charges is reported as charged, and everything else is a loss of ours."""
    before = (metric("odea_synth_written_off_units_total"), metric("odea_synth_taken_back_units_total"))
    bus = AnsweringBus(reserved, answer)
    meter = meter_on(bus)
    hold = await hold_on(meter)
    assert await meter.write_off(hold, loss(hold), charged=5) == stays
    after = (metric("odea_synth_written_off_units_total"), metric("odea_synth_taken_back_units_total"))
    assert after == (before[0] + lost, before[1] + taken_back)


async def test_a_write_off_is_tried_for_longer_than_a_settlement_and_its_hold_is_not_extended_meanwhile() -> None:
    """P2, P3: the charge may be there already, and the hold may end by itself."""
    bus = AnsweringBus(reserved)
    meter = meter_on(bus, settle_wait_s=0.1, write_off_s=30)
    hold = await hold_on(meter)
    bus.from_now_on(DisconnectedError())
    async with turning(meter):
        writing = asyncio.create_task(meter.write_off(hold, loss(hold), charged=9))
        await until(lambda: bus.count(WriteOff) >= 4)
        bus.from_now_on(WrittenOff(hold_id="h", units=9))
        assert await writing == 0
    assert bus.count(quota.Extend) == 0


async def test_holds_in_hand_are_extended_and_no_others() -> None:
    """P3: also not those whose end quota never confirmed, or whose end was cut short."""
    bus = AnsweringBus(reserved)
    meter = meter_on(bus, settle_wait_s=0.2)
    in_hand, unconfirmed, unreleased, cut = [await hold_on(meter) for _ in range(4)]
    bus.from_now_on(NoRespondersError())
    await meter.settle(unconfirmed, charge(unconfirmed))
    await meter.release(unreleased)
    bus.gate.clear()
    settling = asyncio.create_task(meter.settle(cut, charge(cut)))
    await until(lambda: bus.asked[-1] == charge(cut))
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    bus.gate.set()
    async with turning(meter):
        await until(lambda: bus.count(quota.Extend) >= 2)
    extended = [message for message in bus.asked if isinstance(message, quota.Extend)]
    assert {message.hold_id for message in extended} == {in_hand.hold_id}
    assert {message.lease_ms for message in extended} == {1000}


async def test_a_lease_that_could_not_be_extended_is_tried_again() -> None:
    bus = AnsweringBus(reserved)
    meter = meter_on(bus)
    await hold_on(meter)
    bus.from_now_on(CallTimeoutError(), quota.Expired(hold_id="h"), failure(ErrorCode.OVERLOADED))
    async with turning(meter):
        await until(lambda: bus.count(quota.Extend) >= 4)


async def test_a_hold_that_nobody_takes_and_nobody_can_give_back_ends_by_its_lease() -> None:
    """P3: it must not be kept alive, or it would be held for as long as the process lives."""
    bus = AnsweringBus(reserved)
    meter = meter_on(bus, tasks_max=0)
    bus.gate.clear()
    asking = asyncio.create_task(meter.reserve(REQUEST, 12))
    await until(lambda: bus.count(quota.Reserve) == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    bus.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not meter._open  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("charged", [0, 12])
async def test_a_refusal_for_good_is_not_taken_for_a_charge_of_nothing(charged: int) -> None:
    bus = AnsweringBus(failure(ErrorCode.INVALID_VALUE))
    meter = meter_on(bus)
    hold = Hold("00000000-0000-4000-8000-000000000001", 12, ())
    assert await meter.settle(hold, Settle(hold_id=hold.hold_id, units=12, outcome=Outcome.COMPLETED)) is None
    assert await meter.write_off(hold, WriteOff(hold_id=hold.hold_id), charged=charged) == charged
