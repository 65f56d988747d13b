"""Where accounts stand: what quota tells with every decision, granted or refused.

Apart from `quota`, so that a `Failure` can carry it to whoever is refused.
"""

from enum import StrEnum

from odea_contracts.base import Id, Message, Milliseconds


class Window(StrEnum):
    """How long used units count against a limit."""

    MONTH = "month"
    DAY = "day"
    NONE = "none"


class Balance(Message):
    """Where an account stands, after the decision that it comes with. `None` means no limit.

    Attributes:
        limit: the plan's units in this window; top-ups come on top.
        used: of the plan's units, in this window.
        held: by holds that have not ended, from plan and top-ups together.
        topup_remaining: units of top-ups that are neither used nor held nor lapsed.
        remaining: what a reserve could still take.
    """

    account_id: Id
    limit: int | None
    used: int
    held: int
    remaining: int | None
    window: Window
    window_ends_at_ms: Milliseconds | None
    requests_limit: int | None = None
    requests_remaining: int | None = None
    requests_reset_ms: int | None = None
    in_flight: int = 0
    in_flight_max: int | None = None
    topup_remaining: int = 0
