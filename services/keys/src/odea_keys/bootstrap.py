"""The first admin key, for who has the service's own settings: there is no other way to it, and none over HTTP."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from odea_contracts.errors import Failure
from odea_contracts.keys import Issue, Scope
from odea_contracts.tenants import TenantCreate
from odea_keys.keyring import Keyring
from odea_keys.store import Store
from odea_keys.tenant_store import TenantStore

ACTOR: Final = "operator"
ORIGIN: Final = "bootstrap"


class BootstrapError(Exception):
    """No key was made; the text says why, and what to do."""


async def make_admin_key(
    store: Store, tenants: TenantStore, keyring: Keyring, *, tenant: str, path: Path | None
) -> str:
    """Issue an admin key to the tenant of this name, which is made if it is not there, and write its text once.

    Each call makes another key; the audit shows them all. The place is made before the key, so that none is made that
    nobody can read.

    `path` names a file that must not be there yet, which gets the mode 0600; none is standard output.

    Returns:
        The key's id.

    Raises:
        BootstrapError: the file cannot be made, or the tenant is suspended.
        StorageUnavailableError: the database does not answer.
    """
    with _place(path) as place:
        owner = await tenants.create(TenantCreate(name=tenant, actor=ACTOR, origin=ORIGIN))
        if isinstance(owner, Failure):
            raise BootstrapError(owner.message)
        if owner.suspended:
            raise BootstrapError(f"The tenant {tenant} is suspended. ODEA_BOOTSTRAP_TENANT names another.")
        secret = keyring.new_secret()
        request = Issue(tenant_id=owner.tenant_id, name=ORIGIN, scopes=(Scope.ADMIN,), actor=ACTOR, origin=ORIGIN)
        made = await store.issue(request, secret)
        if isinstance(made, Failure):
            raise BootstrapError(made.message)
        place.write(f"{secret.text}\n")
        place.flush()
    return made.key.key_id


@contextmanager
def _place(path: Path | None) -> Generator[IO[str]]:
    if path is None:
        yield sys.stdout
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BootstrapError(f"{path} cannot be made: {error.strerror}.") from None
    try:
        with os.fdopen(handle, "w") as file:
            yield file
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise
