"""What must not come out, and everything that is done to make it."""

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import psutil

from e2e.console import ADMIN, new_tenant, opened
from fakes.minimax import FakeMiniMax
from fakes.minimax.behaviour import Behaviour as MiniMaxBehaviour
from fakes.minimax.behaviour import End as MiniMaxEnd
from fakes.openai.app import FakeOpenAI
from fakes.openai.behaviour import Behaviour as OpenAIBehaviour
from fakes.openai.behaviour import End as OpenAIEnd
from fakes.openai.requests import openai_error
from odea_contracts.keytext import encode_secret, format_key
from odea_contracts.subjects import GATEWAY, KEYS_CHANGED
from odea_local.credentials import load_or_create
from odea_local.embedded import EmbeddedStack
from odea_runtime.bus import Bus
from odea_runtime.settings import Settings, load

SERVICES: Final = ("gateway", "keys", "quota", "synth")
STRANGER: Final = format_key("C" * 12, encode_secret(bytes(range(64))))
"""Well-formed, and nobody's."""
IN_REQUESTS: Final = {
    "a key that is nobody's": STRANGER,
    "a key with a wrong checksum": f"{STRANGER[:-1]}-",
    "a part of a key": STRANGER[:60],
    "somebody else's key": "sk-canary0123456789abcdef",
    "a shapeless word": "canaryshapeless9f3a77aa",
    "a DSN": "postgresql://canary:canary-dsn-password@10.0.0.1/odea",
}
"""Given in every part of a request."""
TEXT: Final = "canary sentence number 4711"
PROVIDER_BODY: Final = "canary-provider-body-31"
ROW_VALUE: Final = "canary-row-value-51"
CREDENTIALS: Final = {
    "CANARY_OPENAI_KEY": "canary-openai-credential-0817",
    "CANARY_OPENAI_SECOND": "canary-openai-second-0818",
    "CANARY_OPENAI_THIRD": "canary-openai-third-0819",
    "CANARY_MINIMAX_KEY": "canary-minimax-credential-0815",
    "CANARY_MINIMAX_REFUSED": "canary-minimax-refused-0816",
}
"""Of the upstreams, by their variables. MiniMax takes all but the last."""
UNRELATED: Final = "canary-unrelated-variable-99"
COLLECTOR_TOKEN: Final = "canary-collector-token-61"
GIVEN: Final = {
    "a text": TEXT,
    "the collector's token": COLLECTOR_TOKEN,
    "a provider's body": PROVIDER_BODY,
    "a value of a row": ROW_VALUE,
    "a variable of the environment that is nobody's": UNRELATED,
    "the password of a DSN": "canary-dsn-password",
}
_ROUTING: Final = """
[providers.minimax]
kind = "minimax"
base_url = "{minimax}"
credentials = ["CANARY_MINIMAX_REFUSED", "CANARY_MINIMAX_KEY"]
attempts_max = 1
breaker = {{ faults_max = 100 }}

[providers.upstream]
kind = "openai"
base_url = "{openai}/v1"
credentials = ["CANARY_OPENAI_KEY", "CANARY_OPENAI_SECOND", "CANARY_OPENAI_THIRD"]
attempts_max = 1
breaker = {{ faults_max = 100 }}

[models.tts-1]
routes = [{{ provider = "upstream", model = "tts-1" }}]

[models.speech-02-hd]
routes = [{{ provider = "minimax" }}]
"""


def surroundings(folder: Path, minimax: str, openai: str) -> dict[str, str]:
    """The environment of all services."""
    routing = folder / "routing.toml"
    routing.write_text(_ROUTING.format(minimax=minimax, openai=openai))
    return {
        "ODEA_SYNTH_ROUTING_FILE": str(routing),
        **CREDENTIALS,
        "CANARY_UNRELATED": UNRELATED,
        "ODEA_LOG_FORMAT": "json",
        "ODEA_LOG_LEVEL": "debug",
    }


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A stack with a fake for each upstream, and all answers that it gave over HTTP."""

    stack: EmbeddedStack
    minimax: FakeMiniMax
    openai: FakeOpenAI
    answers: list[httpx.Response]

    def environment(self, service: str) -> dict[str, str]:
        return psutil.Process(self.stack.service(service).pid or 0).environ()

    def secrets(self) -> Generator[tuple[str, str]]:
        """All that is secret here, and its name."""
        made: dict[str, str] = msgspec.json.decode(self.stack.folder.credentials.read_bytes())
        keys = {"the tenant's key": self.stack.tenant_key, "the admin's key": self.stack.admin_key}
        yield from (made | keys | IN_REQUESTS | CREDENTIALS | GIVEN).items()
        for name, key in keys.items():
            # The secret alone, without what a key begins with and without its checksum.
            yield f"the secret of {name}", key.split("_")[3]

    @asynccontextmanager
    async def client(self, key: str | None = None) -> AsyncGenerator[httpx.AsyncClient]:
        """Someone whose answers are kept."""

        async def keep(answer: httpx.Response) -> None:
            await answer.aread()
            self.answers.append(answer)

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(
            base_url=self.stack.url, headers=headers, timeout=30, event_hooks={"response": [keep]}
        ) as client:
            yield client

    @asynccontextmanager
    async def overheard(self) -> AsyncGenerator[list[str]]:
        """What everybody is told at once on core NATS."""
        login = {
            "ODEA_NATS_URL": f"nats://{self.stack.service('nats').address}",
            "ODEA_NATS_SEED": load_or_create(self.stack.folder.credentials).nats_seed(GATEWAY),
        }
        heard: list[str] = []
        bus = Bus(load(Settings, login), GATEWAY)
        await bus.start()

        async def hear(message: Any) -> None:
            heard.append(f"{message.headers} {message.data.decode()}")

        try:
            await bus.client.subscribe(KEYS_CHANGED, cb=hear)
            await bus.round_trip()
            yield heard
        finally:
            await bus.stop()

    async def knock(self) -> None:
        """Secrets in every part of a request: headers, path, query and body."""
        speech: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": TEXT}
        mine = {"Authorization": f"Bearer {self.stack.tenant_key}"}
        async with self.client() as client:
            for secret in (self.stack.tenant_key, self.stack.admin_key, *IN_REQUESTS.values()):
                plain = re.sub(r"[^A-Za-z0-9_-]", "", secret)
                for headers in (
                    {"Authorization": f"Bearer {secret}"},
                    {"Authorization": secret},
                    {"X-API-Key": secret},
                    {"Cookie": f"key={secret}"},
                    {"User-Agent": secret, "Referer": secret, "X-Forwarded-For": secret},
                ):
                    await client.get("/v1/me", headers=headers)
                await client.get(f"/v1/{plain}", params={"api_key": secret}, headers={"x-request-id": UNRELATED[:6]})
                await client.get(f"/v1/models/{plain}", headers=mine)
                await client.get("/v1/usage", params={"from": secret, secret: "x"}, headers=mine)
                await client.request("OPTIONS", f"/{plain}", headers={"Origin": f"http://{plain}"})
                await client.request(plain[:20], "/v1/me")
                for wrong in ({"model": secret}, {"voice": secret}, {"response_format": secret}, {secret: "x"}):
                    await client.post("/v1/audio/speech", json=speech | wrong, headers=mine)
                await client.post("/v1/audio/speech", content=f'{{"input": "{secret}', headers=mine)
            # As the id of a request only what is a key by its look: other ids are the client's to choose.
            for key in (self.stack.tenant_key, self.stack.admin_key, STRANGER, "sk-canary0123456789abcdef"):
                await client.get("/v1/me", headers={**mine, "x-request-id": key})

    async def speak(self) -> None:
        """Well, and with upstreams that fail in every way, with words of their own."""
        said = openai_error(PROVIDER_BODY, PROVIDER_BODY, PROVIDER_BODY, PROVIDER_BODY)
        words = PROVIDER_BODY.encode()
        # The last two are refusals of a credential, each of which is left alone then.
        self.openai.behaviours += [
            *(OpenAIBehaviour(status=status, error=said) for status in (400, 404, 413, 422, 429, 500, 503)),
            OpenAIBehaviour(body=words, content_type="text/plain"),
            OpenAIBehaviour(body=words, content_type="application/json"),
            OpenAIBehaviour(end=OpenAIEnd.CUT, pieces_before_end=0),
            *(OpenAIBehaviour(status=status, error=said) for status in (401, 403)),
        ]
        self.minimax.behaviours += [
            *(MiniMaxBehaviour(code=code, text=PROVIDER_BODY) for code in (1000, 1002, 1026, 2013)),
            MiniMaxBehaviour(status=500, body=words),
            MiniMaxBehaviour(body=words),
            MiniMaxBehaviour(code=1000, text=PROVIDER_BODY, end=MiniMaxEnd.ERROR, pieces_before_end=0),
        ]
        async with self.client(self.stack.tenant_key) as client:
            for model, left in (("tts-1", self.openai.behaviours), ("speech-02-hd", self.minimax.behaviours)):
                while left:
                    await self._speak(client, model)
                assert (await self._speak(client, model)).status_code == 200

    async def administer(self) -> None:
        """Changes that everybody hears of, and one that fails in the database with a row's values in the error."""
        async with self.client(self.stack.admin_key) as admin:
            tenant = await new_tenant(admin)
            await opened(admin, tenant["tenant_id"])
            issued = await admin.post(f"{ADMIN}/tenants/{tenant['tenant_id']}/keys", json=_key("once"))
            # The one answer with a secret in it, which is what it is for.
            self.answers.remove(issued)
            assert issued.status_code == 200, issued.text
            async with self._failing_rows():
                failed = await admin.post(f"{ADMIN}/tenants/{tenant['tenant_id']}/keys", json=_key(ROW_VALUE))
            assert failed.status_code == 500, failed.text
            await admin.post(f"{ADMIN}/tenants/{tenant['tenant_id']}/suspend")

    @asynccontextmanager
    async def _failing_rows(self) -> AsyncGenerator[None]:
        """A fault that no handler expects. PostgreSQL describes it with the whole row."""
        connection = await asyncpg.connect(self.environment("keys")["ODEA_DATABASE_URL"])
        try:
            await connection.execute(f"ALTER TABLE keys.keys ADD CONSTRAINT canary CHECK (name <> '{ROW_VALUE}')")
            yield
            await connection.execute("ALTER TABLE keys.keys DROP CONSTRAINT canary")
        finally:
            await connection.close()

    async def _speak(self, client: httpx.AsyncClient, model: str) -> httpx.Response:
        return await client.post("/v1/audio/speech", json={"model": model, "voice": "alloy", "input": TEXT})


def _key(name: str) -> dict[str, object]:
    return {"name": name, "scopes": ["speech"]}
