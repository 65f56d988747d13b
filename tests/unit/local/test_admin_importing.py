"""What was used in one month is never charged to another."""

from typing import Any

import pytest

from odea_local.admin.client import AdminClient
from odea_local.admin.importing import carry_over

DECEMBER_MS = 1_796_083_200_000
"""Its first instant of 2026, in UTC, at which the window of November ends."""


class Api(AdminClient):
    """Knows one account, and takes every change."""

    def __init__(self, window: str) -> None:
        self._window = window
        self.changes: list[tuple[str, str]] = []

    def patiently(self, path: str) -> dict[str, Any]:
        assert path == "/v1/admin/accounts/ten_1"
        return {"balance": {"window": self._window, "window_ends_at_ms": DECEMBER_MS}}

    def change(self, method: str, path: str, body: Any = None, *, name: str | None = None) -> dict[str, Any]:
        assert body["units"] == 7
        assert name is None
        self.changes.append((method, path))
        return {}


@pytest.mark.parametrize(
    ("window", "month", "why"),
    [
        ("month", "2026-11", None),
        ("month", "2026-10", "the month in which it was used is over"),
        ("day", "2026-11", "its plan's window is no month"),
    ],
)
def test_usage_belongs_to_its_month(window: str, month: str, why: str | None) -> None:
    api = Api(window)
    assert carry_over(api, "ten_1", 7, month) == why
    assert api.changes == ([] if why else [("POST", "/v1/admin/accounts/ten_1/carryovers")])
