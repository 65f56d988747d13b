"""A place for events that the bus does not take."""

from odea_runtime.migrations import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
