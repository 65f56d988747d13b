"""What was decided on a balance that has changed since is not written."""

from odea_runtime.migrations import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
