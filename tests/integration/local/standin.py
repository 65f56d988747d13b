"""A stand-in for Odea's services: starts fast, answers what the stack and the demo ask, and fails on request.

It is copied to `odea_<name>/__main__.py` in a folder on `PYTHONPATH`, so the supervisor runs it as it runs the real
service. `STANDIN_<NAME>` in the environment makes it misbehave: `fail-migration`, `fail`, `config`, `deaf`.
"""

import asyncio
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import nats
from nats.aio.msg import Msg

from odea_contracts import keys, quota
from odea_contracts.base import Message
from odea_contracts.keytext import encode_secret, format_key

NAME = Path(__file__).parent.name.removeprefix("odea_")
MOOD = os.environ.get(f"STANDIN_{NAME.upper()}", "")
BALANCE = quota.Balance(
    account_id="ten_1", limit=1, used=0, held=0, remaining=1, window=quota.Window.MONTH, window_ends_at_ms=None
)


def main() -> None:
    if MOOD == "config":
        print("ODEA_SOMETHING is wrong", file=sys.stderr)
        sys.exit(78)
    if sys.argv[1] == "migrate":
        print(f"migrating {NAME}", file=sys.stderr)
        sys.exit(1 if MOOD == "fail-migration" else 0)
    if MOOD == "fail":
        sys.exit("the stand-in does not want to run")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if MOOD == "deaf" else lambda *_: stopped.set())
    servers = [listen("ODEA_OPS_ADDRESS")]
    if NAME == "gateway":
        servers.append(listen("ODEA_GATEWAY_ADDRESS"))
    if NAME == "keys":
        threading.Thread(target=asyncio.run, args=(answer_demo(),), daemon=True).start()
    print(f"{NAME} serves", flush=True)
    stopped.wait()
    for server in servers:
        server.shutdown()


def listen(variable: str) -> ThreadingHTTPServer:
    host, _, port = os.environ[variable].rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200, b"ready")

    def do_POST(self) -> None:
        body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
        if "Bearer odea_sk_" not in self.headers.get("Authorization", ""):
            self.answer(401, b'{"error": {"message": "The API key is not valid."}}')
        elif body["input"] == "broken":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
        else:
            self.answer(200, f"audio of {body['input']} as {body.get('response_format', 'mp3')}".encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("odea-characters", "5")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the log short."""


async def answer_demo() -> None:
    """Keys and quota in one: what is issued is remembered by its public id for as long as this process lives."""
    issued: dict[str, str] = {}
    connection = await nats.connect(os.environ["ODEA_NATS_URL"])

    async def respond(message: Msg) -> None:
        await message.respond(msgspec.json.encode(reply_to(message, issued)))

    await connection.subscribe("odea.v1.>", cb=respond)
    await asyncio.Event().wait()


def reply_to(message: Msg, issued: dict[str, str]) -> Message:
    tenant = keys.Tenant(tenant_id="ten_1", name="demo", suspended=False, created_at_ms=0)
    match message.subject:
        case keys.TENANT_CREATE.subject:
            return tenant
        case keys.VERIFY.subject:
            return keys.Principal(tenant_id="ten_1", key_id="key_1", scopes=(keys.Scope.SPEECH,), accounts=("ten_1",))
        case keys.ISSUE.subject:
            public_id = f"{len(issued):012d}"
            issued[public_id] = ""
            key = keys.Key(
                key_id="key_1",
                tenant_id="ten_1",
                name="tenant",
                public_id=public_id,
                scopes=(keys.Scope.SPEECH,),
                own_account=False,
                created_at_ms=0,
                expires_at_ms=None,
                revoked_at_ms=None,
            )
            return keys.Issued(key=key, secret=format_key(public_id, encode_secret(os.urandom(64))))
        case quota.PLAN_GET.subject:
            return quota.Plan(name="demo", units=1)
        case _:
            return quota.Account(account_id="ten_1", tenant_id="ten_1", plan="demo", suspended=False, balance=BALANCE)


main()
