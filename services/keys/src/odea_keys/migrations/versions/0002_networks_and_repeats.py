"""Networks of keys, the origin of changes, and what repeated requests are answered from."""

from odea_runtime.migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
