"""`odea tenants|keys|plans|accounts|usage|audit`: the operator's own hands, on the real stack."""

import csv
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from odea_contracts.keytext import parse_key
from odea_local.admin.client import AdminClient
from odea_local.admin.regenerate import regenerate
from odea_local.embedded import EmbeddedStack
from odea_local.errors import LocalError
from odea_runtime.ids import new_id

KEYS = 7


class Command:
    """The command as an operator types it, asked for JSON."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.url = stack.url
        self.key = (stack.folder.keys / "admin.key").read_text().strip()

    def run(self, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ODEA_")}
        whole = inherited | {"ODEA_URL": self.url, "ODEA_ADMIN_KEY": self.key} | environ
        command = (sys.executable, "-m", "odea_local", *words)
        return subprocess.run(command, env=whole, capture_output=True, text=True, timeout=60, check=False)

    def done(self, *words: str) -> Any:
        ended = self.run(*words, "--output", "json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def refused(self, *words: str) -> str:
        ended = self.run(*words, "--output", "json")
        assert ended.returncode == 1, ended.stdout
        assert ended.stdout == ""
        assert "Traceback" not in ended.stderr
        return ended.stderr


@pytest.fixture(scope="module")
def odea(stack: EmbeddedStack) -> Command:
    return Command(stack)


def status_of(stack: EmbeddedStack, secret: str) -> int:
    return httpx.get(f"{stack.url}/v1/me", headers={"Authorization": f"Bearer {secret}"}).status_code


def test_a_customer_s_life(stack: EmbeddedStack, odea: Command) -> None:
    plan, name = new_id("plan"), new_id("hall")
    made = odea.done("plans", "set", plan, "--units", "5_000", "--requests-per-minute", "60", "--warn-at", "80")
    assert (made["units"], made["requests_per_minute"], made["soft_limits_percent"]) == (5_000, 60, [80])
    assert odea.done("plans", "get", plan) == made
    assert made in odea.done("plans", "list")
    tenant = odea.done("tenants", "create", name, "--plan", plan)
    tenant_id = tenant["tenant_id"]
    assert odea.done("tenants", "get", tenant_id) == tenant
    assert tenant in odea.done("tenants", "list")
    issued = odea.done("keys", "create", tenant_id, "site", "--scope", "speech", "--expires", "2100-01-01")
    key_id = issued["key"]["key_id"]
    assert issued["key"]["expires_at_ms"] == 4_102_444_800_000
    assert parse_key(issued["secret"]) is not None
    assert status_of(stack, issued["secret"]) == 200
    changed = odea.done("keys", "update", key_id, "--name", "shop", "--expires", "never", "--allow", "::/0")
    assert (changed["name"], changed["expires_at_ms"], changed["allowed_cidrs"]) == ("shop", None, ["::/0"])
    assert odea.done("keys", "update", key_id, "--allow-anywhere")["allowed_cidrs"] == []
    rotated = odea.done("keys", "rotate", key_id, "--grace", "1h", "--idempotency-key", name)
    assert odea.done("keys", "rotate", key_id, "--grace", "1h", "--idempotency-key", name) == rotated
    assert odea.done("keys", "get", key_id) == rotated["key"]
    assert odea.done("keys", "list", tenant_id) == [rotated["key"]]
    account = odea.done("accounts", "set", tenant_id, "--units", "none", "--in-flight", "3")
    assert account["overrides"] == {"units": None, "in_flight_max": 3}
    assert odea.done("accounts", "set", tenant_id, "--follow-plan")["overrides"] == {}
    topped = odea.done("accounts", "top-up", tenant_id, "100", "--expires", "2100-01-01")
    assert topped["balance"]["topup_remaining"] == 100
    assert odea.done("accounts", "suspend", tenant_id)["suspended"] is True
    assert odea.done("accounts", "resume", tenant_id)["suspended"] is False
    assert odea.done("accounts", "get", tenant_id)["plan"] == plan
    usage = odea.done("usage", tenant_id, "--from", "2026-01-01", "--to", "2026-01-31")
    assert usage["balances"][0]["account_id"] == tenant_id
    assert odea.done("tenants", "rename", tenant_id, f"{name}_2")["name"] == f"{name}_2"
    assert odea.done("tenants", "suspend", tenant_id)["suspended"] is True
    assert odea.done("tenants", "resume", tenant_id)["suspended"] is False
    assert odea.done("keys", "revoke", key_id)["revoked_at_ms"] is not None
    told = [entry["action"] for entry in odea.done("audit", "--tenant", tenant_id)]
    of_key = ["rotated", "updated", "updated", "issued"]
    of_account = ["account_resumed", "account_suspended", "topped_up", "account_set", "account_set"]
    assert told == ["revoked", "resumed", "suspended", "tenant_updated", *of_account, *of_key, "tenant_created"]
    assert len(odea.done("audit", "--key", key_id, "--limit", "2")) == 2


def test_a_key_with_limits_of_its_own(odea: Command) -> None:
    tenant_id = odea.done("tenants", "create", new_id("hall"), "--plan", "demo")["tenant_id"]
    issued = odea.done("keys", "create", tenant_id, "capped", "--units", "12", "--plan", "demo")
    assert issued["key"]["own_account"] is True
    assert odea.done("audit", "--key", issued["key"]["key_id"])[0]["detail"]["overrides"] == {"units": 12}


def test_tables_are_for_people(odea: Command) -> None:
    """A name is shown as it is, whatever a terminal would make of it."""
    name = f"[red]{new_id('hall')}[/red]"
    tenant_id = odea.done("tenants", "create", name, "--plan", "demo")["tenant_id"]
    shown = odea.run("tenants", "get", tenant_id)
    assert name in shown.stdout
    listed = odea.run("tenants", "list")
    assert tenant_id in listed.stdout
    assert "TENANT ID" in listed.stdout
    created = odea.run("keys", "create", tenant_id, "site")
    assert any(parse_key(line) for line in created.stdout.splitlines())
    assert "shown this once" in created.stderr


def test_refusals_are_one_line(odea: Command) -> None:
    assert "HTTP 404" in odea.refused("tenants", "get", "ten_0")
    assert "HTTP 400" in odea.refused("keys", "create", "ten_0", "x", "--allow", "10.0.0.1/8")
    other = odea.run("tenants", "list", ODEA_ADMIN_KEY="odea_sk_none")
    assert other.returncode == 1
    assert "HTTP 401" in other.stderr
    assert "odea_sk_none" not in other.stderr
    nobody = odea.run("tenants", "list", ODEA_URL="http://127.0.0.1:9")
    assert "nothing answers" in nobody.stderr
    keyless = odea.run("tenants", "list", ODEA_ADMIN_KEY="")
    assert "ODEA_ADMIN_KEY" in keyless.stderr


class LosesAnswers(httpx.HTTPTransport):
    """Breaks the connection after the gateway has done what the last request asked for."""

    def __init__(self, rotations: int) -> None:
        super().__init__()
        self._left = rotations

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path.endswith("/rotate"):
            response.read()
            if self._left == 0:
                raise httpx.ReadError("the answer is lost")
            self._left -= 1
        return response


def no_pause(_seconds: float) -> None:
    """Tries again at once."""


@pytest.fixture
def tenant_keys(odea: Command) -> tuple[str, dict[str, str]]:
    """A tenant and its keys by their ids, one of which is revoked and left out."""
    tenant_id = odea.done("tenants", "create", f"={new_id('hall')}", "--plan", "demo")["tenant_id"]
    made: dict[str, str] = {}
    for number in range(KEYS):
        issued = odea.done("keys", "create", tenant_id, f"site {number}")
        made[issued["key"]["key_id"]] = issued["secret"]
    gone = odea.done("keys", "create", tenant_id, "gone")
    odea.done("keys", "revoke", gone["key"]["key_id"])
    return tenant_id, made


def read_csv(path: Path) -> dict[str, dict[str, str]]:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(newline="") as file:
        return {row["key_id"]: row for row in csv.DictReader(file)}


def test_keys_are_regenerated_into_one_csv(
    stack: EmbeddedStack, odea: Command, tenant_keys: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    tenant_id, before = tenant_keys
    path = tmp_path / "new.csv"
    words = ("keys", "regenerate", "--tenant", tenant_id, "--grace", "14d", "--csv", str(path))
    assert odea.done(*words)["regenerated"] == KEYS
    rows = read_csv(path)
    assert set(rows) == set(before)
    for key_id, row in rows.items():
        assert row["api_key"] != before[key_id]
        assert status_of(stack, row["api_key"]) == 200
        assert status_of(stack, before[key_id]) == 200, "the grace runs"
        assert row["tenant_name"].startswith("'="), "a spreadsheet must not take a name for a formula"
    assert "is there already" in odea.refused(*words)
    assert read_csv(path) == rows


def test_an_interrupted_regeneration_goes_on_where_it_stopped(
    stack: EmbeddedStack, odea: Command, tenant_keys: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    """Even if a rotation was done and its answer never came: each key is rotated once, and every line is good."""
    tenant_id, before = tenant_keys
    path = tmp_path / "new.csv"
    with (
        AdminClient(odea.url, odea.key, transport=LosesAnswers(3), pause=no_pause) as broken,
        pytest.raises(LocalError, match="broke off"),
    ):
        regenerate(broken, path, tenant_id=tenant_id, grace_ms=60_000)
    assert len(read_csv(path)) == 3
    with path.open("ab") as file:
        file.write(b"ten_1,a line that was cut")
    with AdminClient(odea.url, odea.key) as api:
        with pytest.raises(LocalError, match="other options"):
            regenerate(api, path, tenant_id=tenant_id, grace_ms=1)
        told = regenerate(api, path, tenant_id=tenant_id, grace_ms=60_000)
    assert (told["regenerated"], told["done_before"]) == (KEYS - 3, 3)
    rows = read_csv(path)
    assert set(rows) == set(before)
    for key_id, row in rows.items():
        assert status_of(stack, row["api_key"]) == 200
        actions = [entry["action"] for entry in odea.done("audit", "--key", key_id)]
        assert actions == ["rotated", "issued"]


@pytest.fixture
def predecessor(tmp_path: Path) -> tuple[Path, str]:
    """A predecessor's file, and the plan that its users are on."""
    plan, run = new_id("plan"), new_id("run")
    path = tmp_path / "users.csv"
    used = (300, 0, 1000, 1001)
    lines = [f"{run} {n},{plan},1000,{'inactive' if n == 2 else 'active'},{used[n]}" for n in range(4)]
    lines += [f"{run} 0,{plan},1000,active,5", f"{run} lost,no such plan,,active,"]
    path.write_text("\n".join(["username,tier,monthly_limit,status,used", *lines]) + "\n")
    return path, plan


def test_a_predecessor_is_taken_over_once(
    stack: EmbeddedStack, odea: Command, predecessor: tuple[Path, str], tmp_path: Path
) -> None:
    source, plan = predecessor
    path = tmp_path / "keys.csv"
    told = odea.done("keys", "import", str(source), "--dry-run")
    assert (told["plans_new"], told["tenants_new"], len(told["skipped"])) == (1, 5, 2)
    assert plan not in [known["name"] for known in odea.done("plans", "list")]
    told = odea.done("keys", "import", str(source), "--csv", str(path))
    assert (told["plans_made"], told["keys_issued"], told["usage_carried_over"], len(told["skipped"])) == (1, 4, 2, 3)
    rows = read_csv(path)
    assert len(rows) == 4
    tenants = {row["tenant_id"]: odea.done("tenants", "get", row["tenant_id"]) for row in rows.values()}
    assert sorted(tenant["suspended"] for tenant in tenants.values()) == [False, False, False, True]
    for row in rows.values():
        wanted = 401 if tenants[row["tenant_id"]]["suspended"] else 200
        assert status_of(stack, row["api_key"]) == wanted
    again = odea.done("keys", "import", str(source), "--csv", str(path))
    assert (again["plans_made"], again["keys_issued"], again["done_before"]) == (0, 0, 4)
    assert read_csv(path) == rows
    balances = [odea.done("usage", tenant_id)["balances"][0] for tenant_id in tenants]
    assert [(balance["used"], balance["remaining"]) for balance in balances] == [
        (300, 700),
        (0, 1000),
        (1000, 0),
        (0, 1000),
    ], "each once, though it was run twice, and what is beyond the limit not at all"
    # As after a crash before the lines were written: the same keys are shown again, and none is made.
    path.unlink()
    assert odea.done("keys", "import", str(source), "--csv", str(path))["keys_issued"] == 4
    assert read_csv(path) == rows
    assert [odea.done("usage", tenant_id)["balances"][0] for tenant_id in tenants] == balances
    source.write_text(source.read_text().replace(",300\n", ",301\n"))
    again = odea.done("keys", "import", str(source), "--csv", str(path))
    assert any("other units were carried over before" in line for line in again["skipped"])
    late = next(tenant_id for tenant_id, tenant in tenants.items() if tenant["name"].endswith(" 3"))
    odea.done("accounts", "set", late, "--units", "2000")
    assert odea.done("keys", "import", str(source), "--csv", str(path))["usage_carried_over"] == 2
    assert odea.done("usage", late)["balances"][0]["used"] == 1001
    assert "carried_over" in [entry["action"] for entry in odea.done("audit", "--tenant", late)]
