"""The settings of the quota service."""

from typing import Annotated

from pydantic import Field

from odea_runtime.settings import DatabaseSettings


class QuotaSettings(DatabaseSettings):
    """What the quota service needs besides bus and database."""

    quota_batch_max: Annotated[int, Field(ge=1, le=5000)] = 400
    """Commands decided in one transaction."""
    quota_queue_max: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """Commands of one account that may wait; one more is refused as overloaded. Of all together, so many a lane."""
    quota_lanes: Annotated[int, Field(ge=1, le=32)] = 4
    """Batches under way side by side, no two with the same account. There is one while it is quick."""
    quota_slow_s: Annotated[float, Field(gt=0, le=10)] = 0.05
    """How long a batch may take before the commands of other accounts overtake it on another lane."""
    quota_write_off_s: Annotated[float, Field(ge=60, le=2_592_000)] = 3600.0
    """How old a charge may be that is taken back because the speech did not arrive. Older ones stand."""
    quota_sweep_s: Annotated[float, Field(gt=0, le=10)] = 1.0
    """How often holds are looked for whose lease has ended."""
    events_deliveries_max: Annotated[int, Field(ge=1, le=1000)] = 20
    """How often an event from another service is tried before it goes to the dead letters."""
    idempotency_keep_s: Annotated[float, Field(ge=60, le=30 * 24 * 3600)] = 24 * 3600.0
    """How long the name of a repeatable change is remembered with its answer."""
