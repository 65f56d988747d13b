"""What the bench's processes tell each other: what to ask for, and what became of each request."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

AUDIO_BYTES: Final = 16 * 1024
"""Of every answer, so that a truncated one is known by its length."""
PIECES: Final = 4
"""In how many pieces the upstream sends it."""


class Wish(StrEnum):
    """How a request goes: the text says so to the upstream, or the client does it itself."""

    OK = "ok"
    REFUSE = "refuse"
    """The upstream answers 500 before any audio."""
    CUT = "cut"
    """The upstream closes the connection after its first piece."""
    STALL = "stall"
    """The upstream sends its first piece and nothing more."""
    SILENT = "silent"
    """The upstream never answers."""
    LEAVE = "leave"
    """The client leaves with the first audio."""
    LEAVE_EARLY = "leave_early"
    """The client leaves before the answer begins."""


UPSTREAM_FAULTS: Final = frozenset({Wish.REFUSE, Wish.CUT, Wish.STALL, Wish.SILENT})
LEAVING: Final = frozenset({Wish.LEAVE, Wish.LEAVE_EARLY})


class End(StrEnum):
    """What the client saw."""

    WHOLE = "whole"
    """200, and the end that marks a body as whole."""
    REFUSED = "refused"
    """Another status, with a whole body."""
    BROKEN = "broken"
    """200, and then a visible cut."""
    LOST = "lost"
    """The connection went before there was a status."""
    LEFT = "left"
    """It went by itself, as it wanted."""
    HUNG = "hung"
    """Too long without an end; the generator gave up."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody with a key, and how many connections they have."""

    tenant_id: str
    key: str
    connections: int


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        name: begins every request id, so it must be unique in a run.
        seconds: how long requests are begun.
        warm_up_s: what begins before that is not measured.
        wishes: the share of each, of all requests; the rest goes well.
        hang_s: after how long a request is given up.
        pause_s_max: how long a refused caller waits at most before asking again.
        stop_file: the load ends early when this file is there.
    """

    name: str
    url: str
    callers: tuple[Caller, ...]
    seconds: float
    warm_up_s: float = 1.0
    model: str = "tts-1"
    voice: str = "alloy"
    characters_min: int = 60
    characters_max: int = 140
    wishes: Mapping[Wish, float] = {}
    seed: int = 1
    hang_s: float = 30.0
    pause_s_max: float = 0.5
    leave_early_s: float = 0.02
    stop_file: str | None = None

    @property
    def connections(self) -> int:
        """Of all callers together."""
        return sum(caller.connections for caller in self.callers)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One request. Times are those of the monotonic clock, which all processes of a machine share."""

    id: str
    tenant_id: str
    characters: int
    wish: Wish
    end: End
    status: int
    began: float
    first_ms: float
    total_ms: float
    bytes: int
    sound: bool
    """The body is to the byte what the upstream sent; for a whole one."""
    code: str
    retry_after: bool


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator did."""

    plan: LoadPlan
    began: float
    """When measuring began, after the warm-up."""
    ended: float
    records: tuple[Record, ...]
    cpu_s: float

    @property
    def measured(self) -> tuple[Record, ...]:
        """Those that began after the warm-up."""
        return tuple(record for record in self.records if record.began >= self.began)


def request_text(request_id: str, wish: Wish, characters: int) -> str:
    """A text of exactly so many characters that names its request and its wish to the upstream."""
    text = f"{request_id} {wish.value} "
    filler = "and the hall was full of voices that nobody had heard before; "
    return (text + filler * (characters // len(filler) + 1))[: characters - 1] + "."
