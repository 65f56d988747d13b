"""What goes wrong in a chaos run: a schedule that a seed decides, and the hand that carries it out."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Final

import msgspec
import psutil

from bench.house import SERVERS, SERVICES, House
from bench.processes import UpstreamHandle
from bench.upstream import Control, Mood

PARTS: Final = (*SERVICES, *SERVERS)
PAUSE_S: Final = (0.5, 2.5)
"""Less than a client is patient, so that whoever waits longer was hung by us."""
SLOW_S: Final = 1.5
GONE_WITHIN_S: Final = 15.0
"""How long a process may take to end in order: its drain, and a little."""
LOOK_S: Final = 0.02


class Kind(StrEnum):
    """What is done."""

    KILL = "kill"
    """The process ends at once, as in a crash."""
    PAUSE = "pause"
    """It stands still for a while."""
    RESTART = "restart"
    """It is asked to end, and started again."""
    CUT = "cut"
    """Every connection to the upstream is cut, and every new one."""
    SLOW = "slow"
    """The upstream takes long to its first audio."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One of them.

    Attributes:
        pause_s: after the one before has ended.
        part: of the stack; empty for the upstream.
        lasts_s: for those that end by our hand.
    """

    kind: Kind
    part: str = ""
    pause_s: float
    lasts_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.part or 'upstream'}" + (f" for {self.lasts_s:.1f} s" if self.lasts_s else "")


def schedule(seed: int, *, rounds: int, pause_s: float) -> tuple[Fault, ...]:
    """Each kind on each part, once a round, in an order of its own each time."""
    dice = random.Random(seed)
    faults: list[Fault] = []
    for _ in range(rounds):
        deck = [(kind, part) for kind in (Kind.KILL, Kind.PAUSE, Kind.RESTART) for part in PARTS]
        deck += [(Kind.CUT, ""), (Kind.SLOW, "")]
        dice.shuffle(deck)
        faults += [_fault(dice, kind, part, pause_s) for kind, part in deck]
    return tuple(faults)


def short_schedule(seed: int, *, pause_s: float) -> tuple[Fault, ...]:
    """Each kind once, on a part that the seed decides."""
    dice = random.Random(seed)
    kinds = list(Kind)
    dice.shuffle(kinds)
    parts = dice.sample(PARTS, len(PARTS))
    return tuple(_fault(dice, kind, "" if kind in {Kind.CUT, Kind.SLOW} else parts.pop(), pause_s) for kind in kinds)


def _fault(dice: random.Random, kind: Kind, part: str, pause_s: float) -> Fault:
    lasts_s = dice.uniform(*PAUSE_S) if kind in {Kind.PAUSE, Kind.CUT, Kind.SLOW} else 0.0
    return Fault(kind=kind, part=part, pause_s=pause_s * dice.uniform(0.5, 1.5), lasts_s=lasts_s)


async def carry_out(faults: Sequence[Fault], house: House, upstream: UpstreamHandle, usual: Control) -> float:
    """Let them happen one after the other; the monotonic time at which the last one had ended."""
    for fault in faults:
        await asyncio.sleep(fault.pause_s)
        if fault.part:
            await _strike(fault, house)
        else:
            mood = Mood.GONE if fault.kind is Kind.CUT else Mood.WELL
            slow_s = SLOW_S if fault.kind is Kind.SLOW else usual.first_s
            await upstream.control(msgspec.structs.replace(usual, mood=mood, first_s=slow_s))
            await asyncio.sleep(fault.lasts_s)
            await upstream.control(usual)
    return time.monotonic()


async def _strike(fault: Fault, house: House) -> None:
    pid = await _pid_of(house, fault.part)
    if fault.kind is Kind.KILL:
        _signal([pid], signal.SIGKILL)
    elif fault.kind is Kind.PAUSE:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        _signal(family, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            _signal(family, signal.SIGCONT)
    else:
        # PostgreSQL would wait for its clients at SIGTERM.
        _signal([pid], signal.SIGINT if fault.part == "postgres" else signal.SIGTERM)
        deadline = time.monotonic() + GONE_WITHIN_S
        while psutil.pid_exists(pid) and time.monotonic() < deadline:  # noqa: ASYNC110 - a process tells nobody
            await asyncio.sleep(LOOK_S)


async def _pid_of(house: House, part: str) -> int:
    """Of a part that may be on its way back."""
    async with asyncio.timeout(GONE_WITHIN_S):
        while True:
            pid = house.stack.service(part).pid
            if pid and psutil.pid_exists(pid):
                return pid
            await asyncio.sleep(LOOK_S)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
