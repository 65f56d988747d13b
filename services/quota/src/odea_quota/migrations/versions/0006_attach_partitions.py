"""Months of the record and the ledger are made without keeping anybody out."""

from odea_runtime.migrations import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply the step."""
    run_sql(__file__)
