"""The admin API from the outside: one request, one answer, and a clear line when there is none.

The admin key comes from the environment or from the stack's folder, never from the command line, where every process of
the machine could read it.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, Self, TypeAlias
from uuid import uuid4

import httpx
import msgspec

from odea_local.errors import LocalError
from odea_local.folder import DataFolder
from odea_local.status import read_status

URL: Final = "ODEA_URL"
KEY: Final = "ODEA_ADMIN_KEY"
CONNECT_WAIT_S: Final = 5.0
READ_WAIT_S: Final = 30.0
TRIES_MAX: Final = 6
PAUSE_S: Final = 1.0
PAUSE_MAX_S: Final = 30.0
OPENS_TRIES_MAX: Final = 60
OPENS_PAUSE_S: Final = 0.5
PAGE_SIZE: Final = 200
_LATER: Final = frozenset({429, 502, 503, 504})

Table: TypeAlias = dict[str, Any]
"""A JSON object as the API sent it."""
Parameters: TypeAlias = Mapping[str, str | int | None]


class RefusedError(LocalError):
    """The API said no.

    Attributes:
        status: of HTTP.
        code: of the closed list, or "" if the answer was not the API's.
        param: the field at fault, or "".
    """

    def __init__(self, status: int, code: str, param: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class AdminClient:
    """Speaks with the admin key. Every request may be repeated: changes that are not idempotent carry a name.

    Args:
        url: of the gateway.
        key: an API key with the scope `admin`.
        transport: httpx's own, unless a test brings one.
        pause: waits between tries.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url: Final = url.rstrip("/")
        self._pause = pause
        # trust_env: a proxy from the environment has no business between us and the loopback, and none with our key.
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(READ_WAIT_S, connect=CONNECT_WAIT_S),
            trust_env=False,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def get(self, path: str, **parameters: str | int | None) -> Table:
        """Read one thing."""
        return self._ask("GET", path, parameters=parameters)

    def patiently(self, path: str) -> Table:
        """Read what is about to be there: an account opens a moment after its tenant.

        Raises:
            RefusedError: it was not there after all.
        """
        for _ in range(OPENS_TRIES_MAX):
            try:
                return self.get(path)
            except RefusedError as error:
                if error.code != "not_found":
                    raise
            self._pause(OPENS_PAUSE_S)
        return self.get(path)

    def change(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, name: str | None = None
    ) -> Table:
        """Change something.

        Args:
            method: of HTTP.
            path: below the URL.
            body: what is sent as JSON, if the operation takes a body.
            name: the change's `Idempotency-Key`; a fresh one if there is none, so that a lost answer costs nothing.
        """
        return self._ask(method, path, body=body, name=name or str(uuid4()))

    def every(self, path: str, *, at_most: int | None = None, **parameters: str | int | None) -> Generator[Table]:
        """What a list holds, page by page; all of it, or so much at most."""
        cursor: str | None = None
        left = at_most
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            page = self._ask("GET", path, parameters={**parameters, "limit": size, "cursor": cursor})
            yield from page["data"]
            left = None if left is None else left - len(page["data"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: Mapping[str, object] | None = None,
        name: str | None = None,
    ) -> Table:
        given = {field: value for field, value in (parameters or {}).items() if value is not None}
        headers = {"Idempotency-Key": name} if name else {}
        for attempt in range(1, TRIES_MAX + 1):
            try:
                response = self._client.request(method, path, params=given, json=body, headers=headers)
            except httpx.ConnectError:
                raise LocalError(f"nothing answers at {self.url}. See ./odea status, or set {URL}.") from None
            except httpx.TransportError as error:
                if attempt == TRIES_MAX:
                    raise LocalError(f"{self.url} broke off: {error or type(error).__name__}") from error
                self._pause(PAUSE_S)
                continue
            if attempt < TRIES_MAX and _may_come_back(response):
                self._pause(_wait_s(response))
                continue
            return _table(response)
        raise AssertionError("the last try returns or raises")


def connect(folder: DataFolder) -> AdminClient:
    """A client of the stack in `folder`, unless the environment names another gateway.

    Raises:
        LocalError: nobody says where the gateway is, or with which key it is to be asked.
    """
    url, key = os.environ.get(URL, ""), os.environ.get(KEY, "")
    if not url:
        found = read_status(folder)
        if not found:
            raise LocalError(f"no Odea runs in {folder.root}. Start one with {folder.command('up -d')}, or set {URL}.")
        url = found.url
        key = key or _stored_key(folder)
    if not key:
        raise LocalError(f"{URL} is set, but {KEY} is not: the stack's own key is for its own gateway.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise LocalError(f"{KEY} holds no API key.")
    return AdminClient(url, key)


def _stored_key(folder: DataFolder) -> str:
    path = folder.keys / "admin.key"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise LocalError(f"{path} is missing. {folder.command('up')} makes a new key.") from None


def _may_come_back(response: httpx.Response) -> bool:
    return response.status_code in _LATER and response.headers.get("x-should-retry") != "false"


def _wait_s(response: httpx.Response) -> float:
    wanted = response.headers.get("retry-after", "")
    return min(PAUSE_MAX_S, float(wanted)) if wanted.isdecimal() else PAUSE_S


def _table(response: httpx.Response) -> Table:
    try:
        answer = msgspec.json.decode(response.content, type=Table)
    except msgspec.DecodeError:
        answer = {}
    if response.is_success and answer:
        return answer
    error = answer.get("error")
    said: Table = error if isinstance(error, dict) else {}
    message, code, param = (str(said.get(field) or "") for field in ("message", "code", "param"))
    line = f"HTTP {response.status_code}: {message or response.reason_phrase}"
    line += f" ({param})" if param else ""
    line += f" [{said['request_id']}]" if said.get("request_id") else ""
    raise RefusedError(response.status_code, code, param, line)
