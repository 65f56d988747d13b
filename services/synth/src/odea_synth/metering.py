"""Holds from the speaker's side: reserve before, keep alive meanwhile, settle or release after, whatever quota does.

A settlement is repeated with the same hold id until quota answers or the wait is over; quota charges it once however
often it arrives. What is never settled expires uncharged (P3). A write-off is repeated for much longer: the charge that
it takes back may be there already.

A hold that nobody waits for any more, because its caller left or the answer came too late, is given back as soon as
quota says that it is there; its lease is the net below that.
"""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

from odea_contracts import quota
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import Balance, Denied, Extended, Reserved, Settled, SettledBefore
from odea_contracts.synth import Speak
from odea_contracts.writeoffs import WRITE_OFF, WriteOff, WrittenOff
from odea_runtime.bus import Bus, BusError, NoRespondersError
from odea_runtime.counting import by_labels
from odea_runtime.ids import new_uuid
from odea_runtime.tasks import Tasks
from odea_synth.synthesis import quota_failure

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT")

_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 1.0
_RETRY_JITTER_S: Final = 0.2
_PATIENT_RETRY_MAX_S: Final = 3.0
"""Between two tries of a write-off: an outage of the bus leaves many, and none is in a hurry."""

_SETTLED = Counter("odea_synth_settled_units_total", "Units charged, by outcome", ["outcome"])
_settled = by_labels(_SETTLED)
_WRITTEN_OFF = Counter("odea_synth_written_off_units_total", "Units that a provider billed and nobody was charged")
_TAKEN_BACK = Counter("odea_synth_taken_back_units_total", "Units that were charged for speech that did not arrive")
_UNSETTLED = Counter("odea_synth_unsettled_total", "Holds whose end quota did not confirm in time", ["verb"])


@dataclass(slots=True)
class Hold:
    """Units that quota holds for a speech in hand."""

    hold_id: str
    units: int
    balances: tuple[Balance, ...]


class Meter:
    """Talks to quota for the speeches of this process.

    Args:
        bus: where quota is.
        tasks: where holds are given back that nobody waits for; if it is full, their leases end them.
        lease_s: of every hold; those in hand are extended every third of it by `run`.
        settle_wait_s: how long an end is tried.
        write_off_s: how long a write-off is.
    """

    def __init__(self, bus: Bus, tasks: Tasks, *, lease_s: int, settle_wait_s: float, write_off_s: float) -> None:
        self._bus = bus
        self._tasks = tasks
        self._lease_ms = lease_s * 1000
        self._settle_wait_s = settle_wait_s
        self._write_off_s = write_off_s
        self._open: dict[str, Hold] = {}

    async def reserve(self, request: Speak, units: int) -> Hold | Failure:
        """Hold `units` on the request's accounts, or say why not."""
        mix = request.minimax.timbre_weights if request.minimax else None
        message = quota.Reserve(
            hold_id=new_uuid(),
            accounts=request.accounts,
            units=units,
            lease_ms=self._lease_ms,
            request_id=request.request_id,
            tenant_id=request.tenant_id,
            key_id=request.key_id,
            characters=len(request.input),
            model=request.model,
            voice=request.voice,
            mixed_voices=tuple(part.voice_id for part in mix or ()),
        )
        try:
            found = await self._reserve(message)
        except asyncio.CancelledError:
            self._tasks.start(self._give_back(message))
            raise
        if isinstance(found, Hold):
            # Kept alive from here on, for a caller who has it in hand: one that nobody takes must end by its lease.
            self._open[found.hold_id] = found
        return found

    async def _reserve(self, message: quota.Reserve) -> Hold | Failure:
        try:
            reply = await self._bus.call(quota.RESERVE, message)
        except NoRespondersError:
            return failure(ErrorCode.QUOTA_UNAVAILABLE)
        except BusError:
            # It may have been written all the same.
            self._tasks.start(self._release_once(message.hold_id))
            return failure(ErrorCode.QUOTA_UNAVAILABLE)
        match reply:
            case Reserved():
                return Hold(reply.hold_id, reply.units, reply.balances)
            case Denied():
                return quota_failure(reply)
            case Failure():
                return reply
            case _:
                structlog.get_logger().error("a new hold met an old one", answer=type(reply).__name__)
                return failure(ErrorCode.INTERNAL_ERROR)

    async def raise_hold(self, hold: Hold, units: int) -> bool:
        """Hold at least `units`; whether they are held now. If not, the hold stands as it was."""
        message = quota.Extend(hold_id=hold.hold_id, lease_ms=self._lease_ms, units=units)
        try:
            reply = await self._bus.call(quota.EXTEND, message)
        except BusError as error:
            structlog.get_logger().warning("a hold could not be raised", error=repr(error))
            return False
        if isinstance(reply, Extended) and reply.units is not None:
            hold.units = reply.units
        return hold.units >= units

    def lose(self, units: int) -> None:
        """Count what a provider billed for an attempt that nobody is charged for."""
        _WRITTEN_OFF.inc(units)

    async def settle(self, hold: Hold, message: quota.Settle) -> int | None:
        """Charge a hold; the units that were charged, or `None` if quota did not confirm it in time."""
        try:
            reply = await self._insist(quota.SETTLE, message, "settle", self._settle_wait_s)
        finally:
            self._open.pop(hold.hold_id, None)
        match reply:
            case None:
                return None
            case SettledBefore():
                # By an attempt whose answer never came. What was charged then stands.
                _settled(message.outcome).inc(reply.units)
                return reply.units
            case Settled():
                _settled(message.outcome).inc(reply.units)
                return reply.units
            case Failure():
                # Refused for good, by a fault of ours: the speech must not end as whole and uncharged.
                structlog.get_logger().error("quota refused to settle a hold", code=reply.code)
                return None
            case _:
                # Expired, most likely: nothing is charged, and nothing can be any more.
                structlog.get_logger().warning("a hold could not be settled", answer=type(reply).__name__)
                _WRITTEN_OFF.inc(message.provider_units or 0)
                return 0

    async def write_off(self, hold: Hold, message: WriteOff, *, charged: int) -> int:
        """Charge nothing for a hold, though it were settled; the units that stay charged all the same.

        `charged` is what is known to have been charged: it stays if quota does not answer.
        """
        # Its lease needs no extending any more: if quota is away, it may as well end by itself.
        self._open.pop(hold.hold_id, None)
        reply = await self._insist(WRITE_OFF, message, "write_off", self._write_off_s)
        match reply:
            case WrittenOff():
                _TAKEN_BACK.inc(reply.units)
            case None:
                return charged
            case Failure():
                structlog.get_logger().error("quota refused to write off a hold", code=reply.code)
                return charged
            case SettledBefore():
                structlog.get_logger().error("a charge stands for speech that did not arrive", hold_id=hold.hold_id)
                return reply.units
            case _:
                structlog.get_logger().warning("a hold could not be written off", answer=type(reply).__name__)
        _WRITTEN_OFF.inc(message.provider_units or 0)
        return 0

    async def release(self, hold: Hold) -> None:
        """Give a hold back; if quota can't be reached, its lease does that."""
        try:
            await self._insist(quota.RELEASE, quota.Release(hold_id=hold.hold_id), "release", self._settle_wait_s)
        finally:
            self._open.pop(hold.hold_id, None)

    async def run(self) -> None:
        """Extend the leases of the holds in hand until cancelled."""
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            await asyncio.gather(*(self._extend(hold_id) for hold_id in list(self._open)))

    async def _give_back(self, message: quota.Reserve) -> None:
        # Asked again, quota gives the answer that nobody waited for; should the first question come in only after
        # that, it finds a hold that has ended.
        if isinstance(await self._reserve(message), Hold):
            await self._release_once(message.hold_id)

    async def _release_once(self, hold_id: str) -> None:
        # Not repeated: when quota is in trouble, every speech that it failed would add to that.
        with suppress(BusError):
            await self._bus.call(quota.RELEASE, quota.Release(hold_id=hold_id))

    async def _extend(self, hold_id: str) -> None:
        try:
            await self._bus.call(quota.EXTEND, quota.Extend(hold_id=hold_id, lease_ms=self._lease_ms))
        except BusError as error:
            structlog.get_logger().warning("a lease could not be extended", error=repr(error))

    async def _insist(
        self, endpoint: Endpoint[RequestT, ReplyT], message: RequestT, verb: str, wait_s: float
    ) -> ReplyT | None:
        until = time.monotonic() + wait_s
        pause_s, pause_max_s = _RETRY_FIRST_S, _PATIENT_RETRY_MAX_S if verb == "write_off" else _RETRY_MAX_S
        while True:
            try:
                return await self._ask(endpoint, message)
            except _NoAnswerError:
                # The jitter keeps speeches from coming together that quota failed together.
                wait_for_s = pause_s + random.uniform(0, _RETRY_JITTER_S)  # noqa: S311
            if time.monotonic() + wait_for_s >= until:
                break
            await asyncio.sleep(wait_for_s)
            pause_s = min(2 * pause_s, pause_max_s)
        _UNSETTLED.labels(verb).inc()
        structlog.get_logger().error("quota did not confirm the end of a hold", verb=verb)
        return None

    async def _ask(self, endpoint: Endpoint[RequestT, ReplyT], message: RequestT) -> ReplyT:
        try:
            reply = await self._bus.call(endpoint, message)
        except BusError as error:
            raise _NoAnswerError(error.outcome) from error
        if isinstance(reply, Failure) and reply.retryable:
            raise _NoAnswerError(reply.code)
        return reply


class _NoAnswerError(Exception):
    """Quota did not say; asking again with the same hold id is safe."""
