"""`kubectl odea` against a real gateway; kubectl is a stand-in that answers two questions and refuses all others."""

import base64
import os
import subprocess
import sysconfig
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from odea_local.embedded import EmbeddedStack
from support.lock import ROOT

PLUGIN = ROOT / "deploy/kubectl-odea"
STANDIN = """#!/bin/sh
echo "$@" >> "$STANDIN_LOG"
case "$*" in
    "--namespace odea get secret odea-admin --output jsonpath={.data.ODEA_ADMIN_KEY}") printf %s "$STANDIN_KEY" ;;
    "--namespace odea port-forward service/odea-gateway :80")
        [ -n "$STANDIN_PORT" ] || { echo "error: services \\"odea-gateway\\" not found"; exit 1; }
        echo $$ > "$STANDIN_PID"; echo "Forwarding from 127.0.0.1:$STANDIN_PORT -> 8080"; exec sleep 60 ;;
    *) echo "unexpected: $*" >&2; exit 64 ;;
esac
"""


@pytest.fixture
def environ(stack: EmbeddedStack, tmp_path: Path) -> dict[str, str]:
    """With the stand-in first on the PATH."""
    (tmp_path / "kubectl").write_text(STANDIN)
    (tmp_path / "kubectl").chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "STANDIN_LOG": str(tmp_path / "log"),
        "STANDIN_PID": str(tmp_path / "pid"),
        "STANDIN_PORT": str(urlsplit(stack.url).port),
        "STANDIN_KEY": base64.b64encode(stack.admin_key.encode()).decode(),
    }


def plugin(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PLUGIN, *arguments], check=False, capture_output=True, text=True, env=environ, timeout=60)


def test_it_administers_through_a_port_forward_that_ends_with_it(
    environ: dict[str, str], stack: EmbeddedStack, tmp_path: Path
) -> None:
    listed = plugin(environ, "tenants", "list", "--output", "json")
    assert listed.returncode == 0, listed.stderr
    assert '"demo"' in listed.stdout
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert stack.admin_key not in (tmp_path / "log").read_text()


def test_a_command_that_fails_tells_its_status(environ: dict[str, str], tmp_path: Path) -> None:
    failed = plugin(environ, "tenants", "show", "ten_nobody")
    assert failed.returncode != 0
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("lacking", "told"), [("STANDIN_KEY", "has no ODEA_ADMIN_KEY"), ("STANDIN_PORT", '"odea-gateway" not found')]
)
def test_what_is_missing_is_named(environ: dict[str, str], lacking: str, told: str) -> None:
    refused = plugin(environ | {lacking: ""}, "tenants", "list")
    assert refused.returncode == 1
    assert told in refused.stderr
