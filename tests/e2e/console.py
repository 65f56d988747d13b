"""What tests of the admin API do again and again."""

from typing import Any

import httpx

from odea_local.embedded import EmbeddedStack
from odea_runtime.ids import new_id
from support.waiting import until

DAY_MS = 86_400_000
ADMIN = "/v1/admin"


def client_with(stack: EmbeddedStack, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


async def done(asked: httpx.Response) -> dict[str, Any]:
    """The body of an answer that must be a success."""
    assert asked.status_code == 200, asked.text
    assert asked.headers["cache-control"] == "no-store"
    return asked.json()


def refused(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def new_tenant(admin: httpx.AsyncClient, **fields: str) -> dict[str, Any]:
    return await done(await admin.post(f"{ADMIN}/tenants", json={"name": new_id("made"), **fields}))


async def opened(admin: httpx.AsyncClient, account_id: str) -> None:
    """Wait until quota has heard of a new tenant or key."""

    async def there() -> bool:
        return (await admin.get(f"{ADMIN}/accounts/{account_id}")).status_code == 200

    await until(there)


async def everything(admin: httpx.AsyncClient, path: str, *, limit: int, **filters: str) -> list[dict[str, Any]]:
    """A list, page by page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        asked = {"limit": str(limit), **filters, **({"cursor": cursor} if cursor else {})}
        page = await done(await admin.get(path, params=asked))
        assert page["object"] == "list"
        assert len(page["data"]) <= limit
        assert page["has_more"] is (page["next_cursor"] is not None)
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
