"""A serving process holds in memory what it uses, and not the tools for other occasions."""

import subprocess
import sys

import pytest

SELDOM = ("alembic", "sqlalchemy", "sentry_sdk", "opentelemetry.sdk", "piper", "onnxruntime", "numpy")
"""Migrations, crash reports, traces and a voice of one's own: imported by whoever wants them, when they do."""


@pytest.mark.parametrize("service", ["gateway", "keys", "quota", "synth"])
def test_what_few_installations_use_is_not_imported_with_a_service(service: str) -> None:
    code = f"import sys, odea_{service}.__main__; print(*(name for name in {SELDOM} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
