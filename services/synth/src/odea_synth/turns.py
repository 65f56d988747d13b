"""Whose turn it is with a provider: tenants take turns, so that a busy one does not starve the others.

A provider takes so many speeches at the same time and, if it has a pace, so many a minute. Whoever comes when both have
room and nobody waits goes on at once. Everybody else waits in the line of their tenant; each round gives every tenant
that waits one turn. The lines are bounded in length and time, and who has no chance is told so at once, with a time.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from prometheus_client import Gauge, Histogram

from odea_runtime.bus import UnavailableError
from odea_runtime.patience import within
from odea_synth.pace import Grant

_WAITING = Gauge("odea_synth_waiting", "Speeches that wait for their turn with a provider", ["provider"])
_WAITED = Histogram(
    "odea_synth_waited_seconds",
    "How long speeches waited for their turn",
    ["provider"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0),
)
_RETRY_MIN_S: Final = 0.5
_ALPHA: Final = 0.2
"""How much the newest gap between two turns counts in the mean that estimates are made of."""


class BusyError(Exception):
    """There is no turn in time; `retry_after_s` says when there is likely to be one."""

    def __init__(self, why: str, retry_after_s: float) -> None:
        super().__init__(why)
        self.retry_after_s = max(retry_after_s, _RETRY_MIN_S)


class Pace(Protocol):
    """How often a provider may be asked."""

    @property
    def interval_s(self) -> float:
        """The time between two turns once a burst is used up."""
        ...

    @property
    def burst(self) -> int:
        """How many turns may come at once."""
        ...

    async def take(self, wanted: int) -> Grant:
        """As many turns as there are now, at most `wanted`, and how long the next one takes to come.

        Raises:
            UnavailableError: that can't be told now.
        """
        ...


class Turns:
    """The lines before one provider, in one process.

    Args:
        provider: its name, for metrics.
        streams_max: speeches that have a turn at the same time.
        waiting_max: speeches that wait; one more is refused.
        wait_s: how long one waits.
        pace: how often turns are given; without one, whenever a stream ends.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        provider: str,
        *,
        streams_max: int,
        waiting_max: int,
        wait_s: float,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._streams_max = streams_max
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._pace = pace
        self._clock = clock
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._waiting = 0
        self._taken = 0
        self._paused_until = 0.0
        self._gap_s = pace.interval_s if pace else 0.0
        self._given_at: float | None = None
        self._dry = False
        self._room = asyncio.Event()
        self._giving: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    @asynccontextmanager
    async def turn(self, tenant_id: str, within_s: float) -> AsyncGenerator[None]:
        """Have a turn while the block is open.

        Raises:
            BusyError: too many wait, or it would not come within `within_s` or the setting's time.
        """
        await self._take(tenant_id, min(within_s, self._wait_s))
        try:
            yield
        finally:
            self._taken -= 1
            self._room.set()

    def pause(self, for_s: float) -> None:
        """The provider asked to be left alone for a while."""
        self._paused_until = max(self._paused_until, self._clock() + for_s)

    async def close(self) -> None:
        """End the giving; whoever still waits is refused when their time is over."""
        if self._giving:
            self._giving.cancel()
            await asyncio.wait([self._giving])

    async def _take(self, tenant_id: str, within_s: float) -> None:
        if self._pace is None and not self._waiting and self._taken < self._streams_max and not self._pause_s:
            self._taken += 1
            return
        if self._waiting >= self._waiting_max:
            raise BusyError("too many wait", self._likely_s(self._waiting + 1))
        likely_s = self._likely_s(self._before(tenant_id) + 1)
        if likely_s > within_s:
            raise BusyError("the wait would be too long", likely_s)
        began = self._clock()
        await self._wait(tenant_id, within_s)
        _WAITED.labels(self._provider).observe(self._clock() - began)

    async def _wait(self, tenant_id: str, within_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant_id, deque()).append(turn)
        self._count(+1)
        if self._giving is None or self._giving.done():
            self._giving = asyncio.create_task(self._give())
        try:
            with within(within_s):
                await turn
        except TimeoutError:
            # A turn that came in the same moment is used after all.
            if not _is_given(turn):
                self._leave(tenant_id, turn)
                raise BusyError("waited too long", self._likely_s(self._before(tenant_id) + 1)) from None
        except BaseException:
            if _is_given(turn):
                self._hand_on()
            else:
                self._leave(tenant_id, turn)
            raise

    def _leave(self, tenant_id: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(tenant_id)
        if line is not None and turn in line:
            line.remove(turn)
            self._count(-1)
            if not line:
                del self._lines[tenant_id]

    def _hand_on(self) -> None:
        """The turn of somebody who left in the moment when it came goes to the next, for it has been paid for."""
        self._taken -= 1
        if self._waiting:
            self._give_one()
        self._room.set()

    async def _give(self) -> None:
        while self._waiting:
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
            free = self._streams_max - self._taken
            if free <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            wanted = min(free, self._waiting)
            try:
                grant = await self._pace.take(wanted) if self._pace else Grant(turns=wanted, next_s=0.0)
            except UnavailableError as error:
                self._refuse_all(error)
                return
            for _ in range(grant.turns):
                self._give_one()
            self._dry = grant.turns < wanted
            if self._waiting and self._dry:
                await asyncio.sleep(grant.next_s)

    def _give_one(self) -> None:
        while self._lines:
            tenant_id, line = self._lines.popitem(last=False)
            turn = line.popleft()
            if line:
                self._lines[tenant_id] = line
            self._count(-1)
            # Whoever is leaving in this moment has not had the time to step out of the line.
            if not turn.done():
                self._taken += 1
                turn.set_result(None)
                self._note_gap()
                return

    def _note_gap(self) -> None:
        now = self._clock()
        if self._given_at is not None and self._waiting:
            self._gap_s += _ALPHA * (now - self._given_at - self._gap_s)
        self._given_at = now

    def _refuse_all(self, error: UnavailableError) -> None:
        for line in self._lines.values():
            for turn in line:
                # One that has been given up may not have left its line yet.
                if not turn.done():
                    turn.set_exception(BusyError(f"the pace is not known: {error}", 1.0))
        self._lines.clear()
        self._count(-self._waiting)

    def _before(self, tenant_id: str) -> int:
        """How many turns are given before one more of this tenant: each round gives every tenant one."""
        mine = len(self._lines.get(tenant_id, ()))
        others = (min(len(line), mine + 1) for name, line in self._lines.items() if name != tenant_id)
        return mine + sum(others)

    def _likely_s(self, turns: int) -> float:
        """How long until so many turns have been given."""
        pace_s, at_once = (self._pace.interval_s, self._pace.burst) if self._pace else (0.0, 0)
        if self._dry:
            at_once = 0
        # Other replicas take of the same pace: what was seen lately may be slower than the pace alone.
        return self._pause_s + max(0, turns - at_once) * max(self._gap_s, pace_s)

    @property
    def _pause_s(self) -> float:
        return max(0.0, self._paused_until - self._clock())

    def _count(self, more: int) -> None:
        self._waiting += more
        _WAITING.labels(self._provider).inc(more)


def _is_given(turn: asyncio.Future[None]) -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None
