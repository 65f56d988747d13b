"""A place for events that the bus does not take."""

from odea_runtime.migrations import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
