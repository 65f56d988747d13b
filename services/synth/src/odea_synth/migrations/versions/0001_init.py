"""The log of requests."""

from odea_runtime.migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
