"""New secrets for many keys, written into one CSV for telling their owners.

Beside the CSV lies a note of the run while it is not finished. Each rotation is named after the run and the key, so
after an interruption a repeat of one whose line was not written gives the same secret, and rotates nothing. What is in
the CSV already is not asked for again.
"""

import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
from rich.console import Console
from rich.progress import Progress

from odea_local.admin.client import AdminClient, RefusedError, Table
from odea_local.admin.keyfile import appending, write_line, written
from odea_local.admin.values import moment_text
from odea_local.errors import LocalError
from odea_local.folder import write_atomically

COLUMNS: Final = ("tenant_id", "tenant_name", "key_id", "key_name", "api_key", "old_key_works_until")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What an unfinished run was asked to do."""

    run_id: str
    tenant_id: str | None
    grace_ms: int
    url: str


def regenerate(api: AdminClient, path: Path, *, tenant_id: str | None, grace_ms: int) -> Table:
    """Rotate every living key of the tenant, or of all, into the CSV at `path`; how many there were.

    Raises:
        LocalError: the file is of another run, or the API did not answer; the same command continues.
    """
    note = path.with_name(f"{path.name}.run")
    run = _run(path, note, Run(run_id=str(uuid4()), tenant_id=tenant_id, grace_ms=grace_ms, url=api.url))
    done = written(path, "key_id")
    before = len(done)
    wanted = list(_keys(api, tenant_id))
    with Progress(console=Console(stderr=True)) as progress, appending(path) as file:
        task = progress.add_task("keys", total=len(wanted))
        if not done:
            write_line(file, COLUMNS)
        for tenant, key in wanted:
            if key["key_id"] not in done and _rotate(api, run, tenant, key, file):
                done.add(key["key_id"])
            progress.advance(task)
    note.unlink()
    counts = {"regenerated": len(done) - before, "done_before": before, "skipped": len(wanted) - len(done)}
    return counts | {"csv": str(path)}


def _run(path: Path, note: Path, wanted: Run) -> Run:
    """The run that the note tells of, which must be the wanted one; or the wanted one, noted."""
    try:
        found = msgspec.json.decode(note.read_bytes(), type=Run)
    except FileNotFoundError:
        if path.exists():
            raise LocalError(f"{path} is there already, and no unfinished run's. Choose another name.") from None
        write_atomically(note, msgspec.json.encode(wanted))
        return wanted
    except msgspec.DecodeError:
        raise LocalError(f"{note} is damaged, so it is not known what {path} is of.") from None
    if msgspec.structs.replace(wanted, run_id=found.run_id) != found:
        raise LocalError(f"{path} is of an unfinished run with other options. Finish that one, or choose another name.")
    return found


def _keys(api: AdminClient, tenant_id: str | None) -> Iterable[tuple[Table, Table]]:
    """Living keys with their tenants; the one that asks comes last, for it is needed until then."""
    own: list[tuple[Table, Table]] = []
    own_id = api.get("/v1/me")["key_id"]
    tenants = [api.get(f"/v1/admin/tenants/{tenant_id}")] if tenant_id else api.every("/v1/admin/tenants")
    for tenant in tenants:
        for key in api.every(f"/v1/admin/tenants/{tenant['tenant_id']}/keys"):
            if key["key_id"] == own_id:
                own.append((tenant, key))
            elif key["revoked_at_ms"] is None:
                yield tenant, key
    yield from own


def _rotate(api: AdminClient, run: Run, tenant: Table, key: Table, file: io.BufferedWriter) -> bool:
    """Whether the key got a new secret; one that has died by now gets none."""
    name = f"regenerate/{run.run_id}/{key['key_id']}"
    try:
        issued = api.change("POST", f"/v1/admin/keys/{key['key_id']}/rotate", {"grace_ms": run.grace_ms}, name=name)
    except RefusedError as error:
        if error.code in {"conflict", "not_found"} and error.param == "key_id":
            return False
        raise
    until = _until_ms(key, run)
    write_line(
        file,
        (tenant["tenant_id"], tenant["name"], key["key_id"], key["name"], issued["secret"], moment_text(until)),
    )
    return True


def _until_ms(key: Table, run: Run) -> int:
    ends = int(time.time() * 1000) + run.grace_ms
    return ends if key["expires_at_ms"] is None else min(ends, key["expires_at_ms"])
