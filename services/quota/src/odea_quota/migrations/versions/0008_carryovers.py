"""What was used before can be charged."""

from odea_runtime.migrations import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
