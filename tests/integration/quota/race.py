"""What happens in the race: callers, an operator and samplers over the bus, and the record of every answer."""

import asyncio
import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from odea_contracts import plans, quota
from odea_contracts.base import Endpoint
from odea_contracts.errors import Failure
from odea_contracts.quota import Extend, Outcome, Release, Reserve, Settle, Window
from odea_runtime.bus import Bus, BusError
from support.waiting import until

TENANTS: Final = {
    "solo": plans.PlanSet(name="solo", units=1_500, requests_per_minute=60_000, requests_burst=40, in_flight_max=25),
    "duo": plans.PlanSet(name="duo", units=1_500, window=Window.NONE),
    "trio": plans.PlanSet(name="trio", units=2_000, in_flight_max=60, soft_limits_percent=(50, 90)),
}
KEYS: Final = {
    "duo_key": ("duo", plans.PlanSet(name="duo_key", units=1_000, window=Window.NONE)),
    "trio_key": ("trio", plans.PlanSet(name="trio_key", units=1_000, in_flight_max=50)),
}
ACCOUNTS: Final = (*TENANTS, *KEYS)
_TARGETS: Final = (("solo",), ("duo",), ("duo", "duo_key"), ("trio", "trio_key"), ("trio", "trio_key"))
LEASE_MS_MAX: Final = 3_000
_LEASES_MS: Final = (1_000, 1_000, 2_000, LEASE_MS_MAX)
_ATTEMPTS_MAX: Final = 30
_KEPT_HOLDS: Final = 100
_SHORT_OF_UNITS: Final = 60

Command: TypeAlias = Reserve | Settle | Release | Extend
_ENDPOINTS: Final[dict[type[Command], Endpoint[Any, Any]]] = {
    Reserve: quota.RESERVE,
    Settle: quota.SETTLE,
    Release: quota.RELEASE,
    Extend: quota.EXTEND,
}


@dataclass
class Record:
    """What was asked and answered.

    Attributes:
        answers: every command that was answered, with its answer.
        unclear: holds with a command whose fate its caller was not told at least once.
        failures: codes of failures, which claim nothing.
    """

    operations: int
    started: int = 0
    answers: list[tuple[Command, Any]] = field(default_factory=list[tuple[Command, Any]])
    unclear: set[str] = field(default_factory=set[str])
    failures: Counter[str] = field(default_factory=Counter[str])
    over: list[str] = field(default_factory=list[str])

    @property
    def finished(self) -> bool:
        return self.started >= self.operations

    async def every(self, operations: int, do: Callable[[], Any]) -> None:
        """Do something again and again, whenever so many operations have begun since, until all have."""
        while not self.finished:
            target = min(self.started + operations, self.operations)
            await do()
            await until(lambda target=target: self.started >= target, within_s=60)

    def kinds(self) -> Counter[str]:
        """How many answers of each kind there were."""
        return Counter(
            f"Denied {answer.limit}" if isinstance(answer, quota.Denied) else type(answer).__name__
            for _, answer in self.answers
        )


class Callers:
    """Callers that share their holds, so that several settle, release and extend the same one at once."""

    def __init__(self, buses: list[Bus], record: Record, seed: int) -> None:
        self._buses = buses
        self._record = record
        self._seed = seed
        self._holds: deque[Reserve] = deque(maxlen=_KEPT_HOLDS)

    async def run(self, count: int) -> None:
        """Until every operation is through."""
        await asyncio.gather(*(self._call_on(number) for number in range(count)))

    async def _call_on(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        while not self._record.finished:
            self._record.started += 1
            if rng.random() < 0.4 or not self._holds:
                command: Command = self._new_reserve(rng)
            else:
                command = _second(rng, rng.choice(self._holds))
            answer = await ask(rng.choice(self._buses), self._record, command)
            if isinstance(command, Reserve) and isinstance(answer, quota.Reserved):
                self._holds.append(command)

    def _new_reserve(self, rng: random.Random) -> Reserve:
        accounts = rng.choice(_TARGETS)
        return Reserve(
            hold_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            accounts=accounts,
            units=rng.randint(1, 40),
            lease_ms=rng.choice(_LEASES_MS),
            request_id="race",
            tenant_id=accounts[0],
            key_id=accounts[-1],
        )


def _second(rng: random.Random, hold: Reserve) -> Command:
    """Something to do with a hold that was open a moment ago."""
    hold_id = hold.hold_id
    pick = rng.random()
    if pick < 0.5:
        return Settle(hold_id=hold_id, units=rng.randint(0, hold.units), outcome=Outcome.COMPLETED, provider="race")
    if pick < 0.55:
        return Settle(hold_id=hold_id, units=hold.units + 1, outcome=Outcome.COMPLETED)
    if pick < 0.6:
        return Settle(hold_id=hold_id, units=0, outcome=Outcome.WRITTEN_OFF)
    if pick < 0.75:
        return Release(hold_id=hold_id)
    if pick < 0.9:
        return Extend(hold_id=hold_id, lease_ms=rng.choice(_LEASES_MS))
    return hold


async def ask(bus: Bus, record: Record, command: Command) -> Any:
    """Ask until there is an answer, as a caller does that takes its work seriously; `None` if there never was one."""
    for _ in range(_ATTEMPTS_MAX):
        try:
            answer = await bus.call(_ENDPOINTS[type(command)], command)
        except BusError:
            record.unclear.add(command.hold_id)
            continue
        if not isinstance(answer, Failure):
            record.answers.append((command, answer))
            return answer
        record.failures[answer.code] += 1
        record.unclear.add(command.hold_id)
    return None


class Operator:
    """Looks at balances, and gives top-ups to accounts that run dry: some lapse within a second, held or not."""

    def __init__(self, bus: Bus, record: Record, seed: int) -> None:
        self._bus = bus
        self._record = record
        self._rng = random.Random(seed)
        self.given = 0

    async def look(self) -> None:
        """Once at each account."""
        for account_id in ACCOUNTS:
            try:
                reply = await self._bus.call(quota.USAGE, quota.Usage(accounts=(account_id,)))
            except BusError:
                continue
            if not isinstance(reply, quota.UsageReport):
                continue
            (balance,) = reply.balances
            assert balance.limit is not None
            assert balance.remaining is not None
            if balance.used > balance.limit or min(balance.remaining, balance.held, balance.in_flight) < 0:
                self._record.over.append(f"told: {balance}")
            if balance.remaining < _SHORT_OF_UNITS:
                await self._top_up(account_id)

    async def _top_up(self, account_id: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        top_up = plans.TopUp(
            topup_id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            account_id=account_id,
            units=self._rng.randint(50, 500),
            expires_at_ms=now_ms + self._rng.choice((700, 2_000, 3_600_000)),
        )
        for _ in range(_ATTEMPTS_MAX):
            try:
                reply = await self._bus.call(plans.TOP_UP, top_up)
            except BusError:
                continue
            if isinstance(reply, plans.Account):
                self.given += top_up.units
                return
