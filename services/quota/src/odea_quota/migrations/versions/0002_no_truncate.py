"""The books can't be emptied either."""

from odea_runtime.migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
